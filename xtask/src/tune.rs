//! `cargo xtask tune`: the learning-rate search, the same grid for every method, judged on validation data only.

use anyhow::{Result, bail};

/// Settings of `tune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of experiments/ (planted, real or paper)
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
}

/// Runs it.
///
/// # Errors
/// Always, until the runner is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    bail!("`tune` is not available yet (asked for {args:?})")
}
