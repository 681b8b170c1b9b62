//! Activation patching (METHOD §3): how much less likely the rejected text is when a block adds to the residual stream
//! what it adds on the chosen text.
//!
//! What a block adds is patched, not the whole stream: with that, all that lies below the block would be patched too,
//! and where both texts have one length every block would get the same number.
//!
//! Cost: two forward passes over a pair, and for every block one of the blocks above it. No backward pass.

use irepair_core::BlockId;
use irepair_core::spec::Metric;
use irepair_model::{BlockModel, Probe, TextBatch};
use tch::{Tensor, no_grad};

use crate::Result;
use crate::activation::{Outputs, Shared};
use crate::block_sums::BlockSums;
use crate::gradient::text_nll;

/// The residual stream after one block is given: what lies below changes nothing that is read.
struct From<'a> {
    block: BlockId,
    stream: &'a Tensor,
}

impl Probe for From<'_> {
    fn known(&mut self, block: BlockId) -> Option<Tensor> {
        (block.0 <= self.block.0).then(|| self.stream.shallow_clone())
    }

    fn block(&mut self, block: BlockId, _input: &Tensor, output: Tensor) -> Tensor {
        if block == self.block { self.stream.shallow_clone() } else { output }
    }
}

/// The runs of a model on both texts of some pairs.
pub(crate) struct Runs<'a> {
    model: &'a dyn BlockModel,
    text: &'a TextBatch,
    shared: Shared,
    chosen: Outputs,
    rejected: Outputs,
    /// Last hidden states of the rejected texts.
    last: Tensor,
}

impl<'a> Runs<'a> {
    pub(crate) fn of(
        metric: Metric,
        model: &'a dyn BlockModel,
        text: &'a TextBatch,
        chosen: &TextBatch,
    ) -> Result<Self> {
        let shared = Shared::of(text, chosen);
        let outputs = |text| no_grad(|| Outputs::of(metric, model, text, false));
        let ((rejected, last), (chosen, _)) = (outputs(text)?, outputs(chosen)?);
        Ok(Self { model, text, shared, chosen, rejected, last })
    }

    /// How much more a block adds on the chosen text than on the rejected one, at the positions that both have.
    pub(crate) fn way(&self, block: BlockId) -> Tensor {
        self.shared.difference(&self.chosen.added(block), &self.rejected.added(block))
    }

    /// The rejected text's residual stream after a block, with a part of its way added.
    pub(crate) fn moved(&self, block: BlockId, way: &Tensor) -> Tensor {
        self.shared.moved(&self.rejected.hidden()[block.0], way)
    }

    /// The positions of a residual stream that a way changes.
    pub(crate) fn columns(&self, stream: &Tensor) -> Tensor {
        self.shared.columns(stream)
    }

    /// `NLL_tok(X-)` with this residual stream after a block.
    pub(crate) fn loss(&self, block: BlockId, stream: &Tensor) -> Result<Tensor> {
        text_nll(self.model, self.text, &self.model.hidden_states_probed(self.text, &mut From { block, stream }))
    }
}

/// `NLL_tok(X-)` with the block patched, less `NLL_tok(X-)`: by how many nats a token its loss grows.
pub(crate) fn changes(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = BlockSums::default();
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        no_grad(|| -> Result<()> {
            let runs = Runs::of(Metric::Patching, model, rejected, chosen)?;
            let before = text_nll(model, rejected, &runs.last)?;
            for block in (0..model.n_blocks()).map(BlockId) {
                let patched = runs.moved(block, &runs.way(block));
                sums.push(block, runs.loss(block, &patched)? - &before);
            }
            Ok(())
        })?;
    }
    sums.read_alone(model.n_blocks())
}

/// [`changes`], 0 where the rejected text gets no less likely.
pub(crate) fn drops(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    let drop = |change: f64| if change < 0.0 { 0.0 } else { change };
    Ok(changes(model, rejected, chosen)?.into_iter().map(drop).collect())
}
