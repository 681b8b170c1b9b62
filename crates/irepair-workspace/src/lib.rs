//! The checkout a tool runs in: where things lie, other programs run from it, and the Python it needs.
//!
//! What `cargo xtask` and `irepair-lab` share. No tensor, so that it builds where libtorch is not.
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

pub mod interrupt;
pub mod paths;
pub mod process;
pub mod python;
pub mod stop;
