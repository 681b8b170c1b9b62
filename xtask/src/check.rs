//! `cargo xtask check`: what CI runs, cheapest first, tests last. Advisories need a database of today: see `supply`.

use anyhow::Result;

use crate::{process, setup, supply, test, tidy};

/// METHOD's tags, such as [D], look like links to rustdoc.
const RUSTDOC_FLAGS: &str = "-D warnings -A rustdoc::broken_intra_doc_links";

/// Format, tidy, supply, clippy, docs, tests; stops at the first that fails.
///
/// # Errors
/// What failed.
pub(crate) fn run() -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run(&tidy::Args::default())?;
    supply::run()?;
    setup::run()?;
    process::run(process::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    process::run(process::cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", RUSTDOC_FLAGS))?;
    test::all()
}
