//! IRepair: the sensitivity-guided slicer.
//!
//! The paper's algorithm is one step of `irepair_train::Engine` (file `algorithm.rs` there) with the loss of method
//! `irepair` (METHOD §6); [`SliceLocaliser`] chooses the blocks (METHOD §3 and §5).
//!
//! ```no_run,standalone_crate
//! # fn demo(model: Box<irepair_model::CausalLm>, data: irepair_train::RepairData) -> irepair_train::Result<()> {
//! use irepair_core::spec::{Method, Policy};
//! use irepair_repair::SliceLocaliser;
//! use irepair_slicing::PolicySpec;
//! use irepair_train::{Engine, Settings};
//!
//! let (data, settings) = (std::sync::Arc::new(data), Settings::default());
//! let slicer = SliceLocaliser::new(&PolicySpec::new(Policy::Dynamic), &data, &settings)?;
//! let mut engine = Engine::new(model, Method::Irepair, Box::new(slicer), &data, settings)?;
//! while engine.unfinished() {
//!     engine.step()?;
//! }
//! let (model, outcome) = engine.finish()?;
//! # Ok(()) }
//! ```
//!
//! **Invariants.** The slicer only measures: it changes no weight. Its state is all a resumed run needs.
//! **Boundary.** No loop, no optimizer, no baseline.

mod estimate;
mod slicer;

pub use estimate::{Batches, measure_batch, measure_batch_units};
pub use irepair_core::spec::Reduction;
pub use slicer::SliceLocaliser;
