//! `cargo xtask reproduce`: everything from set-up to the report.

use anyhow::{Result, bail};

/// Settings of `reproduce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to reproduce: a directory of experiments/ (planted, real or paper)
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Where to compute: `cpu` or `cuda:N`
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// Seeds per row instead of the profile's number
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    /// Only rows whose `<row>-<model>` matches, such as 'irepair-*'
    #[arg(long, value_name = "GLOB")]
    only: Option<String>,
    /// Do finished rows again
    #[arg(long)]
    fresh: bool,
}

/// Runs it.
///
/// # Errors
/// Always, until the runner is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    bail!("`reproduce` is not available yet (asked for {args:?})")
}
