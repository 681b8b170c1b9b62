//! Planted faults: operators that damage chosen units of a model, the file that holds the truth, and rankings of units
//! that localisers give (METHOD §13).
//!
//! ```no_run
//! use irepair_fault::{Fault, Faults, Ranking, plant};
//! use irepair_arch::{Architecture, UnitMap};
//! use irepair_core::Checkpoint;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Checkpoint::open("model".as_ref())?;
//! let architecture = Architecture::read("model/config.json".as_ref())?;
//! let fault = Fault::new("3.head.5".parse()?, irepair_core::spec::Operator::SignFlip, None, 0);
//! let changed = plant(&model, &architecture, &fault)?; // tensors by name, as bytes
//!
//! let faults = Faults::read("mutant/fault.toml".as_ref())?;
//! let ranking = Ranking::read("ranking.jsonl".as_ref(), &UnitMap::new(&architecture))?;
//! let ranks = ranking.faulty_ranks(&faults)?;
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Fault`] (what is planted), `operators/` (one file each), [`plant`], [`Ranking`].
//!
//! **Invariants.** A fault is a function of (model, units, operator, strength, seed), and of the pairs where the
//! operator trains: that one is recorded and graded here, and planted by `irepair plant`. Weights outside its units
//! keep their bits, and no weight becomes infinite or NaN. **Boundary:** writes no model; knows no localiser.

mod error;
mod fault;
mod operators;
mod plant;
mod ranking;
mod rounding;
mod tensors;
mod undone;

pub use error::{Error, Result};
pub use fault::{FAULT_FILE, Fault, Faults};
pub use plant::plant;
pub use ranking::Ranking;
pub use rounding::rounded_to_8_bits;
pub use undone::undone;
