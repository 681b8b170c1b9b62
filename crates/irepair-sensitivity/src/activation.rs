//! Metrics that compare block outputs on rejected and chosen text.

use irepair_core::BlockId;
use irepair_model::{CausalLm, Probe};
use irepair_objective::nll_mean;
use tch::{Kind, Tensor, no_grad};

use crate::{ErrorText, Result};

/// Keeps the residual stream after every block.
struct Outputs {
    hidden: Vec<Tensor>,
    differentiable: bool,
}

impl Probe for Outputs {
    fn embedded(&mut self, hidden: Tensor) -> Tensor {
        if self.differentiable { hidden.detach().set_requires_grad(true) } else { hidden }
    }

    fn block(&mut self, _block: BlockId, hidden: Tensor) -> Tensor {
        self.hidden.push(hidden.shallow_clone());
        hidden
    }
}

fn outputs(model: &CausalLm, text: &ErrorText<'_>) -> Vec<Tensor> {
    let mut probe = Outputs { hidden: Vec::new(), differentiable: false };
    let _ = no_grad(|| model.logits_probed(text.tokens, &mut probe));
    probe.hidden
}

/// Columns of the continuations that both texts have, and where both hold a real token: `(start, width, [batch, width])`.
fn shared(rejected: &ErrorText<'_>, chosen: &ErrorText<'_>) -> (i64, i64, Tensor) {
    let start = rejected.n_prompt_cols as i64;
    let width = rejected.tokens.dims().1.min(chosen.tokens.dims().1) - start;
    let part = |text: &ErrorText<'_>| text.tokens.real.narrow(1, start, width);
    (start, width, part(rejected).logical_and(&part(chosen)))
}

/// `H_b(chosen) - H_b(rejected)` over the shared continuation columns, zero where either is padding: `[batch, width, d]`.
fn difference(chosen: &Tensor, rejected: &Tensor, (start, width, both): &(i64, i64, Tensor)) -> Tensor {
    let difference = (chosen.narrow(1, *start, *width) - rejected.narrow(1, *start, *width)).to_kind(Kind::Float);
    difference.where_self(&both.unsqueeze(-1), &difference.zeros_like())
}

/// Mean over pairs of `|H_b(y-) - H_b(y+)|_2`, norm over the shared continuation positions and all dimensions.
pub(crate) fn distance(model: &CausalLm, rejected: &[ErrorText<'_>], chosen: &[ErrorText<'_>]) -> Result<Vec<f64>> {
    let mut sums = vec![0.0; model.n_blocks()];
    let mut n_pairs = 0.0;
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let columns = shared(rejected, chosen);
        for (block, (minus, plus)) in outputs(model, rejected).iter().zip(outputs(model, chosen)).enumerate() {
            let by_pair =
                difference(&plus, minus, &columns).square().sum_dim_intlist([1, 2].as_slice(), false, Kind::Float);
            sums[block] += by_pair.sqrt().sum(Kind::Double).double_value(&[]);
        }
        n_pairs += rejected.tokens.dims().0 as f64;
    }
    Ok(sums.into_iter().map(|s| s / n_pairs).collect())
}

/// `|sum over pairs and shared positions of <dL/dH_b, H_b(X+) - H_b(X-)>|`.
pub(crate) fn attribution(model: &CausalLm, rejected: &[ErrorText<'_>], chosen: &[ErrorText<'_>]) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = vec![0.0; model.n_blocks()];
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let columns = shared(rejected, chosen);
        let mut probe = Outputs { hidden: Vec::new(), differentiable: true };
        let logits = model.logits_probed(rejected.tokens, &mut probe);
        let loss = nll_mean(&rejected.with(&logits))?;
        let gradients =
            Tensor::f_run_backward(&[&loss], &probe.hidden, false, false).map_err(irepair_model::Error::from)?;
        let plus = outputs(model, chosen);
        no_grad(|| {
            for (block, gradient) in gradients.iter().enumerate() {
                let moved = difference(&plus[block], &probe.hidden[block], &columns);
                let along = gradient.narrow(1, columns.0, columns.1).to_kind(Kind::Float) * moved;
                sums[block] += along.sum(Kind::Double).double_value(&[]);
            }
        });
    }
    Ok(sums.into_iter().map(f64::abs).collect())
}
