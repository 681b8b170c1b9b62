//! The one training engine. A method is a pair of an objective (which loss) and a localiser (which blocks).
//!
//! Read `algorithm` first: METHOD §6's step, for every method, in one screen. Around it: `sampler` and `batch` (what a
//! step draws), `optimizer` (per-parameter state that is kept while its block is not selected), `schedule`, `validate`
//! (own loss on held-out pairs, best checkpoint, early stop), `lora`, and `direction` with `ablation` (other ways in
//! which weights change), `run` (the loop), `checkpoint` (stop anywhere, resume to the same bits), `finite` (NaN stops
//! a run, by the texts that led there).
//!
//! ```no_run,standalone_crate
//! # use irepair_train::*; use irepair_core::spec::Method;
//! # use irepair_model::CausalLm; use std::sync::Arc;
//! # fn demo(model: Box<CausalLm>, data: Arc<RepairData>, localiser: Box<dyn Localise + Send>) -> Result<()> {
//! let settings = Settings { n_steps: 200, ..Settings::default() };
//! let mut engine = Engine::new(model, Method::Dapt, localiser, &data, settings)?;
//! while engine.unfinished() {
//!     let record = engine.step()?;
//!     println!("{} {:.3} blocks {}", record.step, record.loss, record.slice);
//! }
//! let (model, outcome) = engine.finish()?; // with the weights of the best validation
//! # Ok(()) }
//! ```
//!
//! **Invariants.** Parameters outside the step's scope stay bit for bit what they were: they have no gradient, and an
//! optimizer without a gradient does nothing. Weights that are not finite are never saved and never handed over. Every
//! draw is a function of (seed, step), so resuming needs no random state.
//! **Boundary.** This crate knows no sensitivity, no slicing policy and no method by name.

mod ablation;
mod algorithm;
mod batch;
mod checkpoint;
mod clip;
mod direction;
mod equal_step;
mod error;
mod finite;
mod flops;
mod forwards;
mod identity;
mod localise;
mod lora;
mod natural;
mod numbers;
mod optimizer;
mod optimizer_state;
mod packed;
mod parts;
mod ranks;
mod rows;
mod rule;
mod run;
mod sampler;
mod schedule;
mod settings;
mod together;
mod validate;

pub use algorithm::{Engine, Outcome};
pub use batch::{MicroBatch, RepairData, StepBatch};
pub use checkpoint::division_of_state;
pub use clip::clip_global_norm;
pub use error::{Error, Result};
pub use flops::{Measured, forward_flops, step_flops};
pub use identity::Identity;
pub use localise::Localise;
pub use optimizer::Optimizer;
pub use ranks::first_finds;
pub use rule::{OptimizerKind, StateMode};
pub use sampler::{BatchSampler, SampledIndices};
pub use schedule::Schedule;
pub use settings::Settings;
