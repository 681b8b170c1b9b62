//! Activation patching (METHOD §3): what the error loses when a block's output comes from the run on the chosen text.
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

/// Puts the chosen text's columns into the output of one block, which is the `at`-th that it is shown.
struct Patch<'a> {
    at: usize,
    n_seen: usize,
    shared: &'a Shared,
    /// The block's output on the chosen text.
    chosen: &'a Tensor,
    /// The same on the rejected text.
    rejected: &'a Tensor,
}

impl Probe for Patch<'_> {
    /// What lies below the block changes nothing that is read.
    fn known(&mut self, _block: BlockId) -> Option<Tensor> {
        let is_known = self.n_seen <= self.at;
        self.n_seen += usize::from(is_known);
        is_known.then(|| self.shared.replaced(self.rejected, &self.shared.columns(self.chosen)))
    }

    fn block(&mut self, _block: BlockId, hidden: Tensor) -> Tensor {
        self.n_seen += 1;
        if self.n_seen == self.at + 1 {
            self.shared.replaced(&hidden, &self.shared.columns(self.chosen))
        } else {
            hidden
        }
    }
}

/// `NLL_tok(X-)` with the block patched, less `NLL_tok(X-)`: by how many nats a token the error falls.
pub(crate) fn changes(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = BlockSums::default();
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        no_grad(|| -> Result<()> {
            let shared = Shared::of(rejected, chosen);
            let outputs = |text| Outputs::of(Metric::Patching, model, text, false);
            let ((of_chosen, _), (of_rejected, last)) = (outputs(chosen)?, outputs(rejected)?);
            let before = text_nll(model, rejected, &last)?;
            for (at, (chosen, of_rejected)) in of_chosen.iter().zip(&of_rejected).enumerate() {
                let mut patch = Patch { at, n_seen: 0, shared: &shared, chosen, rejected: of_rejected };
                let last = model.hidden_states_probed(rejected, &mut patch);
                sums.push(BlockId(at), text_nll(model, rejected, &last)? - &before);
            }
            Ok(())
        })?;
    }
    sums.read_alone(model.n_blocks())
}

/// [`changes`], 0 where the error does not fall.
pub(crate) fn drops(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    let drop = |change: f64| if change < 0.0 { 0.0 } else { change };
    Ok(changes(model, rejected, chosen)?.into_iter().map(drop).collect())
}
