//! `cargo xtask bench`: the performance table.

use anyhow::{Result, bail};

/// Settings of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
///
/// # Errors
/// Always, until the benchmarks are there.
pub(crate) fn run(_: &Args) -> Result<()> {
    bail!("`bench` is not available yet")
}
