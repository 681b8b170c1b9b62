//! Slicing policies: per-block sensitivities in, the blocks to update out (METHOD §5). Arithmetic on numbers, no
//! tensors. `irepair_core::spec` has the table of policies, `choose.rs` their choices.
//!
//! ```
//! use irepair_core::{Scope, Sensitivities};
//! use irepair_slicing::{Memory, Policy, PolicySpec, SlicePolicy};
//!
//! let spec = PolicySpec { slice_k: "2b".parse()?, ..PolicySpec::new(Policy::Dynamic) };
//! let policy = SlicePolicy::new(&spec)?;
//! let mut memory = Memory::default();
//! let s = Sensitivities::new(vec![0.1, 0.9, 0.3, 0.7])?;
//! let scope = policy.choose(&mut memory, 0, Some(&s), 4, 42)?;
//! assert_eq!(scope.to_string(), "1,3");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants: a choice depends on `(policy, memory, step, sensitivities, n_blocks, seed)` alone, so that a resumed run
//! makes the same choices as an uninterrupted one; [`Memory`] is the only state; ties go to the lower block; every
//! slice has at least one block, and exactly `slice_k` of them under every policy but `coverage` (at most `slice_k`).

mod choose;
mod error;
mod memory;
mod policy;
mod random;

pub use error::{Error, Result};
pub use irepair_core::spec::Policy;
pub use memory::Memory;
pub use policy::{PolicySpec, SlicePolicy};
