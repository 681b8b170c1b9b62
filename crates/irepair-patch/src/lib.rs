//! Patch files: a repair as the changed tensors or rows of them alone, checked by hash, applied and reverted bit by bit
//! (METHOD §14).
//!
//! ```no_run
//! use irepair_patch::{Kind, Lossy, Patch, Provenance, Verdict, apply, create, revert, verify};
//! # fn main() -> Result<(), irepair_patch::Error> {
//! let [base, repaired, file] = ["base", "repaired", "fix.safetensors"].map(std::path::Path::new);
//! let patch = create(base, repaired, Kind::Xor, Provenance::default(), file)?;
//! let report = apply(base, &patch, "patched".as_ref(), Lossy::Refuse, &mut |_| {})?;
//! assert_eq!(verify("patched".as_ref(), &patch)?, Verdict::Result);
//! revert("patched".as_ref(), &patch, None, "restored".as_ref(), Lossy::Refuse, &mut |_| {})?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a patch is applied to one model alone, recognised by the hash of every tensor; nothing is written before
//! both the model and the outcome are checked; a directory with a `config.json` is whole, whenever the process is
//! killed; memory holds chunks of tensors, never a file. Tensor names are never paths.

#![forbid(unsafe_code)]

mod companions;
mod compose;
mod create;
mod edit;
mod error;
mod kind;
mod manifest;
mod output;
mod patch;
mod rewrite;
mod rows;
mod verify;

pub use compose::compose;
pub use create::{changed_ids, create, model_id};
pub use edit::{maker_of_copy, write_changed};
pub use error::{Error, Result};
pub use kind::Kind;
pub use manifest::{Manifest, Provenance, Record, Side};
pub use output::Step;
pub use patch::{Patch, refuse_existing};
pub use rewrite::{Lossy, Rewritten, apply, check_apply, revert};
pub use rows::Rows;
pub use verify::{Difference, Verdict, verify};
