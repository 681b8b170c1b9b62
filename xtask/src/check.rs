//! `cargo xtask check`: what CI runs, cheapest first, tests last.

use anyhow::Result;

use crate::{process, setup, test, tidy};

/// Format, tidy, clippy, docs, tests; stops at the first that fails.
///
/// # Errors
/// What failed.
pub(crate) fn run() -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    setup::run()?;
    process::run(process::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    process::run(process::cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    test::all()
}
