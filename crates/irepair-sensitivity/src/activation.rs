//! Metrics that compare block outputs on rejected and chosen text.

use irepair_core::BlockId;
use irepair_core::spec::Metric;
use irepair_model::{BlockModel, Probe, TextBatch};
use tch::{Kind, Tensor, no_grad};

use crate::block_sums::BlockSums;
use crate::gradient::text_nll;
use crate::{Error, Result};

/// Keeps the residual stream before the first block and after every one.
pub(crate) struct Outputs {
    stream: Vec<Tensor>,
    differentiable: bool,
}

impl Probe for Outputs {
    fn block(&mut self, _block: BlockId, input: &Tensor, output: Tensor) -> Tensor {
        if self.stream.is_empty() {
            self.stream.push(input.shallow_clone());
        }
        let output = if self.differentiable { differentiable(output) } else { output };
        self.stream.push(output.shallow_clone());
        output
    }
}

/// `tensor` as a node of the graph: where nothing before it is differentiated, the graph starts here.
pub(crate) fn differentiable(tensor: Tensor) -> Tensor {
    if tensor.requires_grad() { tensor } else { tensor.detach().set_requires_grad(true) }
}

impl Outputs {
    /// Those of a run on the texts, and the last hidden states.
    pub(crate) fn of(
        metric: Metric,
        model: &dyn BlockModel,
        text: &TextBatch,
        differentiable: bool,
    ) -> Result<(Self, Tensor)> {
        let mut probe = Self { stream: Vec::new(), differentiable };
        let last = model.hidden_states_probed(text, &mut probe);
        let (want, got) = (model.n_blocks(), probe.stream.len().saturating_sub(1));
        if want == got { Ok((probe, last)) } else { Err(Error::NoBlockOutputs { metric: metric.name(), want, got }) }
    }

    /// After every block.
    pub(crate) fn hidden(&self) -> &[Tensor] {
        &self.stream[1..]
    }

    /// What a block adds to the residual stream.
    pub(crate) fn added(&self, block: BlockId) -> Tensor {
        &self.stream[block.0 + 1] - &self.stream[block.0]
    }
}

/// Columns of the continuations that both texts have, and where both hold a real token.
pub(crate) struct Shared {
    start: i64,
    width: i64,
    /// `[batch, width]` bool.
    both: Tensor,
}

impl Shared {
    pub(crate) fn of(rejected: &TextBatch, chosen: &TextBatch) -> Self {
        let start = rejected.n_prompt_cols() as i64;
        let width = rejected.dims().1.min(chosen.dims().1) - start;
        let part = |text: &TextBatch| text.attention_mask.narrow(1, start, width);
        Self { start, width, both: part(rejected).logical_and(&part(chosen)) }
    }

    /// The shared columns of `[batch, seq, ..]`.
    pub(crate) fn columns(&self, tensor: &Tensor) -> Tensor {
        tensor.narrow(1, self.start, self.width)
    }

    /// `chosen - rejected`, zero where either is padding: `[batch, width, d]` float32.
    pub(crate) fn difference(&self, chosen: &Tensor, rejected: &Tensor) -> Tensor {
        let difference = (self.columns(chosen) - self.columns(rejected)).to_kind(Kind::Float);
        difference.where_self(&self.both.unsqueeze(-1), &difference.zeros_like())
    }

    /// `hidden` with a [`Shared::difference`] added to its shared columns.
    pub(crate) fn moved(&self, hidden: &Tensor, by: &Tensor) -> Tensor {
        let columns = self.columns(hidden) + by.to_kind(hidden.kind());
        let end = self.start + self.width;
        let after = hidden.narrow(1, end, hidden.size()[1] - end);
        Tensor::cat(&[hidden.narrow(1, 0, self.start), columns, after], 1)
    }
}

/// Mean over pairs of `|H_b(y-) - H_b(y+)|_2`, norm over the shared continuation positions and all dimensions.
pub(crate) fn distance(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    let mut sums = BlockSums::default();
    let mut n_pairs = 0.0;
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let shared = Shared::of(rejected, chosen);
        let outputs = |text: &TextBatch| no_grad(|| Outputs::of(Metric::ActDist, model, text, false));
        let (minus, plus) = (outputs(rejected)?.0, outputs(chosen)?.0);
        for (block, (minus, plus)) in minus.hidden().iter().zip(plus.hidden()).enumerate() {
            let squares = shared.difference(plus, minus).square();
            let by_pair = squares.sum_dim_intlist([1, 2].as_slice(), false, Kind::Float).sqrt();
            sums.push(BlockId(block), by_pair.sum(Kind::Double));
        }
        n_pairs += rejected.dims().0 as f64;
    }
    Ok(sums.read_alone(model.n_blocks())?.into_iter().map(|sum| sum / n_pairs).collect())
}

/// `|sum over pairs and shared positions of <dL/dH_b, H_b(X+) - H_b(X-)>|`.
pub(crate) fn attribution(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = BlockSums::default();
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let shared = Shared::of(rejected, chosen);
        let (minus, last) = Outputs::of(Metric::Atp, model, rejected, true)?;
        let loss = text_nll(model, rejected, &last)?;
        let minus = minus.hidden();
        let gradients = Tensor::f_run_backward(&[&loss], minus, false, false).map_err(irepair_model::Error::from)?;
        let (plus, _) = no_grad(|| Outputs::of(Metric::Atp, model, chosen, false))?;
        no_grad(|| {
            for (block, gradient) in gradients.iter().enumerate() {
                let moved = shared.difference(&plus.hidden()[block], &minus[block]);
                let product = shared.columns(gradient).to_kind(Kind::Float) * moved;
                sums.push(BlockId(block), product.sum(Kind::Double));
            }
        });
    }
    Ok(sums.read_alone(model.n_blocks())?.into_iter().map(f64::abs).collect())
}
