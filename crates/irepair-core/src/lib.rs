//! Shared by all crates: the tables of policies, metrics, loss terms and methods ([`spec`]), blocks, slices,
//! sensitivities, tokens, step records, diagnostics, safe file writing and the hub's cache.
//!
//! ```
//! use irepair_core::{BlockSlice, Scope, Sensitivities, SliceSize};
//!
//! let s = Sensitivities::new(vec![0.1, 0.7, 0.2])?;
//! let k = "34%".parse::<SliceSize>()?.resolve(s.len());
//! assert_eq!(k, 1);
//! let scope = Scope::Blocks(BlockSlice::from_indices([1]));
//! assert_eq!(scope.to_string(), "1");
//! # Ok::<(), irepair_core::Error>(())
//! ```
//!
//! Invariants: a [`BlockSlice`] is sorted and has no repeats; [`Sensitivities`] are finite and not negative;
//! [`fs::write_atomic`] leaves the old file or the new file, never a part of either.

mod block;
mod checkpoint;
mod columns;
mod diagnostic;
mod error;
mod errors;
mod every;
mod fault;
pub mod float;
pub mod fs;
pub mod hub;
mod line_log;
mod lock;
pub mod metric;
mod private;
mod record;
mod resident;
mod sensitivities;
pub mod shards;
mod size;
pub mod spec;
mod temporary;
pub mod tensor_file;
mod text_form;
mod tokens;
mod unfinished;
mod unit;
mod unit_list;
pub mod weights;

/// Version of the numbers that this program reports: how many entries CHANGELOG.md has under *Numbers changed*. Results
/// of another version are computed again.
pub const NUMBERS_VERSION: u32 = 14;

pub use block::{BlockId, BlockSlice, MAX_BLOCKS, Scope};
pub use checkpoint::Checkpoint;
pub use columns::Columns;
pub use diagnostic::{Diagnose, Diagnostic, ExitKind, json_said, printable};
pub use error::{Error, Result};
#[doc(hidden)]
pub use every::entry;
pub use line_log::LineLog;
pub use lock::DirLock;
pub use record::StepRecord;
pub use resident::Resident;
pub use sensitivities::Sensitivities;
pub use size::SliceSize;
pub use temporary::is_temporary;
pub use tokens::{Counts, PaddedTokens};
pub use unfinished::{is_unfinished, mark_finished, mark_unfinished, refuse_begun_by_another, refuse_used};
pub use unit::{Unit, UnitPart};
pub use unit_list::{MAX_UNITS, UnitList};
