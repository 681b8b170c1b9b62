//! The paper's sensitivity: gradient norms per block; and the metrics made from the same gradients.

use irepair_core::{BlockSlice, Scope};
use irepair_model::{CausalLm, Gradients, add_gradients};
use irepair_objective::{Counts, nll_mean};
use tch::{Kind, Tensor, no_grad};

use crate::{ErrorText, Result};

/// `sum_i t_i^2` in float32, `[]`.
pub(crate) fn square_sum(tensor: &Tensor) -> Tensor {
    no_grad(|| tensor.detach().to_kind(Kind::Float).square().sum(Kind::Float))
}

/// Gradients of `NLL_tok` of the texts for every block parameter.
///
/// Several texts are micro-batches of one batch: their gradients are added.
///
/// # Errors
/// Texts without a counted token.
///
/// # Source
/// METHOD §3 [D]: `g_p = d NLL_tok(theta; X-) / d p`.
pub fn error_gradients(model: &CausalLm, texts: &[ErrorText<'_>]) -> Result<Gradients> {
    model.train_only(&Scope::Blocks(BlockSlice::from_indices(0..model.n_blocks())));
    let mut sum = Gradients::new();
    for text in texts {
        let logits = model.logits(text.tokens);
        add_gradients(&mut sum, model.gradients(&nll_mean(&text.with(&logits))?)?);
    }
    Ok(sum)
}

/// Sum of squared gradient entries per block.
///
/// One transfer to the host whatever the number of blocks: the point of a step where the device must wait (the ghost
/// route waits once more, to find the targets).
///
/// # Errors
/// When the numbers cannot be copied to the host.
pub fn block_squares(model: &CausalLm, gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
    by_block(model, gradients.iter().map(|(index, g)| (*index, square_sum(g))))
}

/// `sum_i |theta_i g_i|` per block.
pub(crate) fn snip(model: &CausalLm, gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
    by_block(
        model,
        gradients.iter().map(|(index, g)| {
            let product = no_grad(|| (model.parameters()[*index].tensor.detach() * g).abs().sum(Kind::Float));
            (*index, product)
        }),
    )
}

/// `sum_i mean_x g_i(x)^2` per block; the loss of a text is the mean over its own counted tokens.
pub(crate) fn fisher(model: &CausalLm, texts: &[ErrorText<'_>]) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; model.n_blocks()];
    let mut n_texts = 0;
    for text in texts {
        for row in 0..text.tokens.dims().0 {
            let (tokens, scored) = (text.tokens.row(row), text.scored.narrow(0, row, 1));
            let counts = Counts::of(&tokens.real, &scored);
            let alone = ErrorText { tokens: &tokens, scored: &scored, counts, n_prompt_cols: text.n_prompt_cols };
            let squares = block_squares(model, &error_gradients(model, &[alone])?)?;
            sums.iter_mut().zip(squares).for_each(|(sum, s)| *sum += s);
            n_texts += 1;
        }
    }
    Ok(sums.into_iter().map(|s| s / f64::from(n_texts)).collect())
}

/// Adds scalars per block, in double precision.
pub(crate) fn by_block(model: &CausalLm, scalars: impl Iterator<Item = (usize, Tensor)>) -> Result<Vec<f64>> {
    let (indices, scalars): (Vec<usize>, Vec<Tensor>) = scalars.unzip();
    let mut sums = vec![0.0; model.n_blocks()];
    for (index, value) in indices.into_iter().zip(on_host(&scalars)?) {
        if let Some(block) = model.parameters()[index].block {
            sums[block.0] += value;
        }
    }
    Ok(sums)
}

/// The values of tensors of one number each, in one transfer. A transfer that fails is an error: taken for 0, it would
/// make block 0 the most sensitive one.
pub(crate) fn on_host(scalars: &[Tensor]) -> Result<Vec<f64>> {
    if scalars.is_empty() {
        return Ok(Vec::new());
    }
    let values = Tensor::f_stack(scalars, 0).and_then(|all| Vec::try_from(all.f_to_kind(Kind::Double)?));
    Ok(values.map_err(irepair_model::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_copy_is_an_error_and_never_zero() {
        let scalar = |x: f64| Tensor::from(x);
        assert_eq!(on_host(&[scalar(1.5), scalar(2.5)]).unwrap(), [1.5, 2.5]);
        assert!(on_host(&[]).unwrap().is_empty());
        // Vectors cannot be copied as numbers, and unlike shapes cannot be put together.
        assert!(on_host(&[Tensor::ones([2], (Kind::Float, tch::Device::Cpu))]).is_err());
        assert!(on_host(&[scalar(1.0), Tensor::ones([2], (Kind::Float, tch::Device::Cpu))]).is_err());
    }
}
