//! The checkout that a tool runs in: its paths, programs run from it, and the Python they need.
//!
//! `cargo xtask` and `irepair-lab` share it. It does not link libtorch, so that it builds before set-up.
//!
//! ```no_run
//! use irepair_workspace::{paths, process};
//!
//! process::run(process::cargo().args(["build", "--release", "--package", "irepair-cli"]))?;
//! process::run(process::command(paths::irepair()).arg("--version"))?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! **Invariant:** a child ends with this process or earlier; Python packages are installed by version and hash only.

pub mod error;
pub mod interrupt;
pub mod paths;
pub mod process;
pub mod python;
