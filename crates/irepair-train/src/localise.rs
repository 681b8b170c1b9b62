//! How the blocks of a step are chosen.

use std::sync::Arc;

use irepair_core::Scope;
use irepair_model::{BlockModel, Fisher};
use irepair_ranks::Ranks;

use crate::{Identity, Result, StepBatch};

/// Chooses what a step may change. The slicing policies of METHOD §5 implement it in `irepair-repair`.
pub trait Localise {
    /// The scope of step `step`. May run the model on the batch and differentiate it, but must leave its weights alone.
    ///
    /// # Errors
    /// Sensitivities that are not finite, or an impossible policy.
    fn localise(&mut self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Scope>;

    /// Tokens that this localiser has fed through the model to choose for `step`.
    fn n_tokens(&self, _batch: &StepBatch, _step: u64) -> usize {
        0
    }

    /// True when it needs [`Localise::take_fisher`].
    fn reads_fisher(&self) -> bool {
        false
    }

    /// The Fisher matrix of the model that the run starts from, given once before the first step.
    fn take_fisher(&mut self, _fisher: Fisher) {}

    /// The ranks that take the steps together, given once before the first step: each may measure its share.
    fn take_ranks(&mut self, _ranks: &Arc<dyn Ranks>) {}

    /// What decides the choices besides batch and step: kind and every number. A run is resumed only by a localiser of
    /// the same identity.
    fn identity(&self) -> Identity;

    /// Everything that a resumed run needs to choose as this one would, as JSON.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Continues from what [`Localise::state`] gave.
    ///
    /// # Errors
    /// When the state is of another localiser.
    fn load_state(&mut self, _state: serde_json::Value) -> Result<()> {
        Ok(())
    }
}
