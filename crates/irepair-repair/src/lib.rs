//! IRepair: the sensitivity-guided slicer, and the method built on it.
//!
//! The paper's algorithm is one step of `irepair_train::Engine` (file `algorithm.rs` there) with two parts filled in here:
//! [`SliceLocaliser`] chooses the blocks (METHOD §3 and §5) and [`IRepair`] names the loss (METHOD §6).
//!
//! ```no_run,standalone_crate
//! # fn demo(model: &irepair_model::CausalLm, data: &irepair_train::RepairData) -> irepair_train::Result<()> {
//! use irepair_repair::{IRepair, SliceLocaliser};
//! use irepair_slicing::{PolicyKind, PolicySpec};
//! use irepair_train::{Engine, Settings};
//!
//! let settings = Settings::default();
//! let mut slicer = SliceLocaliser::new(&PolicySpec::new(PolicyKind::Dynamic), data, &settings)?;
//! let mut engine = Engine::new(model, IRepair::default().objective(), &mut slicer, data, settings)?;
//! while engine.unfinished() {
//!     engine.step()?;
//! }
//! engine.finish()?;
//! # Ok(()) }
//! ```
//!
//! **Invariants.** The slicer only measures: it changes no weight. Its memory is all a resumed run needs.
//! **Boundary.** No loop, no optimizer, no baseline.

mod estimate;
mod method;
mod slicer;

pub use estimate::{Estimate, Reduction};
pub use method::IRepair;
pub use slicer::SliceLocaliser;
