//! Which block carries the error: METHOD §3's sensitivities, measured on the error-inducing texts.
//!
//! ```no_run,standalone_crate
//! # use irepair_model::{BlockModel, TextBatch};
//! # fn demo(model: &dyn BlockModel, rejected: &TextBatch) -> irepair_sensitivity::Result<()> {
//! use irepair_sensitivity::{Measure, Metric, Texts};
//!
//! let s = Measure::new(Metric::GradL2).of(model, &Texts::of(&[rejected]))?;
//! println!("most sensitive block: {}", s.ranking()[0]);
//! # Ok(()) }
//! ```
//!
//! Reading order: `metric` (each metric in an arm), `gradient` (the paper's metric and those made from the same
//! gradients), `ghost` (the same norms without storing a weight gradient), `activation` (metrics of block outputs),
//! `patching` and `eap_ig` (what one block's output does to the error), `top_share` with `snip_diff` and `wanda_diff`
//! (weights that matter on error text alone), `gates` and `mask` (gates
//! that are trained to remove the error), `reduce` (many batches), `units` (halves, heads and neurons out of the
//! same passes).
//!
//! **Invariants.** Measuring changes no weight and no gradient flag, and leaves no gradient behind. The plain route
//! ([`Route::Stored`]) is the oracle of the fast one ([`Route::Ghost`]). A value that is not finite is an error naming
//! its block.
//! **Boundary.** Nothing here chooses blocks: that is arithmetic on numbers, in `irepair-slicing`.

mod activation;
mod block_sums;
mod eap_ig;
mod error;
mod gates;
mod ghost;
mod gradient;
mod mask;
mod metric;
mod patching;
mod reduce;
mod snip_diff;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod top_share;
mod units;
mod wanda_diff;

pub use error::{Error, Result};
pub use gradient::{block_squares, error_gradients, snip};
pub use irepair_core::spec::Metric;
pub use metric::{Measure, Route, Texts};
pub use reduce::{MeanGradient, mean_of_norm};
pub use units::UnitSensitivities;
