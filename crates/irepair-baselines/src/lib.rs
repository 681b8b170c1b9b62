//! What IRepair is measured against: the unsliced methods. Their losses are rows of `irepair_core::spec`; here is the
//! policy `all`, under which every parameter changes.
//!
//! ```no_run,standalone_crate
//! # use irepair_model::CausalLm; use irepair_train::{RepairData, Result}; use std::sync::Arc;
//! # fn demo(model: &CausalLm, data: Arc<RepairData>) -> Result<()> {
//! use irepair_baselines::Unsliced;
//! use irepair_core::spec::Method;
//! use irepair_train::{Engine, Settings};
//!
//! let mut engine = Engine::new(model, Method::Dpo, Box::new(Unsliced), &data, Settings::default())?;
//! engine.step()?;
//! # Ok(()) }
//! ```
//!
//! **Invariants.** A baseline takes no sensitivity pass and changes every parameter, embeddings included (METHOD §7
//! [D]).
//! **Boundary.** No loop: that is `irepair_train::Engine`, the same for every method.

use irepair_core::Scope;
use irepair_model::BlockModel;
use irepair_train::{Identity, Localise, Result, StepBatch};

/// The policy `all`: every parameter at every step, and no pass to choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsliced;

impl Localise for Unsliced {
    fn localise(&mut self, _model: &dyn BlockModel, _batch: &StepBatch, _step: u64) -> Result<Scope> {
        Ok(Scope::Everything)
    }
    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "all")
    }
}
