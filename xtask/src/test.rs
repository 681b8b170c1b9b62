//! `cargo xtask test`: every test of every crate.

use anyhow::Result;

use crate::{process, setup};

/// Settings of `test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Arguments for `cargo test --workspace`, such as `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// Provisions libtorch, then runs all tests, doc tests included.
///
/// # Errors
/// When set-up fails or a test does.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    process::run(process::cargo().args(["test", "--workspace"]).args(&args.rest))
}
