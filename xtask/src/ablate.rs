//! `cargo xtask ablate`: slice size × policy.

use anyhow::{Result, bail};
use irepair_config::Policy;
use irepair_core::SliceSize;

/// Settings of `ablate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Slice sizes: a bare number is percent of the blocks, `3b` is three blocks
    #[arg(long, value_delimiter = ',', required = true, value_name = "LIST")]
    top_k: Vec<SliceSize>,
    /// Policies to compare
    #[arg(long, value_delimiter = ',', default_value = "dynamic,fixed,reverse,random", value_name = "LIST")]
    policy: Vec<Policy>,
    /// A directory of experiments/ (planted, real or paper)
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Seeds per cell instead of the profile's number
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
}

/// Runs it.
///
/// # Errors
/// Always, until the runner is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    bail!("`ablate` is not available yet (asked for {args:?})")
}
