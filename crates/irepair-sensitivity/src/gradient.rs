//! The paper's sensitivity: gradient norms per block; and the metrics made from the same gradients.

use irepair_core::{BlockSlice, Scope};
use irepair_model::{
    BlockMap, BlockModel, Fisher, GradFlags, Gradients, TextBatch, add_gradients, states_at, sum_over_ranks,
};
use irepair_objective::head_log_probs;
use irepair_ranks::Ranks;
use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::block_sums::BlockSums;

/// `sum_i t_i^2` in float32, `[]`.
pub(crate) fn square_sum(tensor: &Tensor) -> Tensor {
    no_grad(|| tensor.detach().to_kind(Kind::Float).square().sum(Kind::Float))
}

/// `NLL_tok` of the texts, `[]` float32, from their last hidden states `[batch, seq, width]`. The head is applied to
/// the positions that predict a target, a chunk of them at a time: the logits of all are never in memory together.
///
/// # Errors
/// Texts without a counted token.
pub(crate) fn text_nll(model: &dyn BlockModel, text: &TextBatch, last: &Tensor) -> Result<Tensor> {
    if text.counts.targets == 0.0 {
        return Err(irepair_objective::Error::NothingCounted { what: "text" }.into());
    }
    let hidden = states_at(last, &text.target_positions);
    let scores = head_log_probs(&hidden, &model.head(), model.logit_softcap(), &text.target_ids);
    let nll = -scores.values.sum(Kind::Float) / text.counts.targets;
    let vjp = scores.vjp(&scores.values.full_like(-1.0 / text.counts.targets));
    // The second vjp takes the value of the first away, and not its gradient.
    Ok(vjp.map_or_else(|| nll.shallow_clone(), |vjp| &nll + (&vjp - vjp.detach())))
}

/// Gradients of `NLL_tok` of the texts for every block parameter. Leaves the model's gradient flags as they were.
///
/// Several texts are micro-batches of one batch: their gradients are added.
///
/// # Errors
/// Texts without a counted token.
///
/// # Source
/// METHOD §3 [D]: `g_p = d NLL_tok(theta; X-) / d p`.
pub fn error_gradients(model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<Gradients> {
    let mut sum = Gradients::new();
    each_gradient(model, texts, |gradients| add_gradients(&mut sum, gradients))?;
    Ok(sum)
}

/// [`error_gradients`] of all texts, of which every rank takes its share; the sum has the same bits.
///
/// # Errors
/// As [`error_gradients`]; when a rank is gone.
pub(crate) fn over_ranks(model: &dyn BlockModel, texts: &[&TextBatch], ranks: &dyn Ranks) -> Result<Gradients> {
    let mut parts = Vec::new();
    each_gradient(model, &texts[ranks.share(texts.len())], |gradients| parts.push(gradients))?;
    Ok(sum_over_ranks(Some(ranks), parts, model.device())?)
}

fn each_gradient(model: &dyn BlockModel, texts: &[&TextBatch], mut take: impl FnMut(Gradients)) -> Result<()> {
    let _flags = GradFlags::of(model);
    model.train_only(&Scope::Blocks(BlockSlice::from_indices(0..model.n_blocks())));
    for text in texts {
        take(model.gradients(&text_nll(model, text, &model.hidden_states(text))?)?);
    }
    Ok(())
}

/// Sum of squared gradient entries per block, from `(parameter index, gradient)`. The host waits for the device once.
///
/// # Errors
/// When the copy to the host fails.
pub fn block_squares(map: &BlockMap, gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
    squares(map, gradients).read_alone(map.n_blocks())
}

/// [`block_squares`], still on the device.
pub(crate) fn squares(map: &BlockMap, gradients: &[(usize, Tensor)]) -> BlockSums {
    BlockSums::over(map, by_index(gradients), |_, gradient| square_sum(gradient))
}

/// `sum_i |theta_i g_i|` per block, from all weights in the parameters' order and `(parameter index, gradient)`.
///
/// # Errors
/// When the copy to the host fails.
///
/// # Source
/// METHOD §3: `snip`.
pub fn snip(map: &BlockMap, weights: &[&Tensor], gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
    let products = BlockSums::over(map, by_index(gradients), |index, gradient| {
        no_grad(|| (weights[index].detach() * gradient).abs().sum(Kind::Float))
    });
    products.read_alone(map.n_blocks())
}

/// `sum_i mean_x g_i(x)^2` per block; the loss of a text is the mean over its own counted tokens.
pub(crate) fn fisher(model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<Vec<f64>> {
    let (map, mut by_text) = (model.block_map(), Vec::new());
    for text in texts {
        for row in 0..text.dims().0 {
            by_text.push(squares(&map, &error_gradients(model, &[&text.row(row as usize)])?));
        }
    }
    let mut sums = vec![0.0; map.n_blocks()];
    for squares in BlockSums::read(&by_text, map.n_blocks())? {
        sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
    }
    Ok(sums.into_iter().map(|sum| sum / by_text.len() as f64).collect())
}

/// Root of `g' (F + lambda)^-1 g` per block.
pub(crate) fn efficiency(map: &BlockMap, fisher: &Fisher, gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
    let sums = BlockSums::over(map, by_index(gradients), |index, gradient| fisher.efficiency(index, gradient));
    Ok(sums.read_alone(map.n_blocks())?.into_iter().map(f64::sqrt).collect())
}

/// The weights of a model, in its parameters' order.
pub(crate) fn weights(model: &dyn BlockModel) -> Vec<&Tensor> {
    model.parameters().iter().map(|parameter| &parameter.tensor).collect()
}

fn by_index(gradients: &[(usize, Tensor)]) -> impl Iterator<Item = (usize, &Tensor)> {
    gradients.iter().map(|(index, gradient)| (*index, gradient))
}
