//! `cargo xtask check`: the checks of CI, cheapest first, tests last. Advisories need a current database: see `supply`.

use anyhow::Result;

use crate::{process, setup, supply, test, tidy};

/// METHOD's tags, such as [D], look like links to rustdoc.
const RUSTDOC_FLAGS: &str = "-D warnings -A rustdoc::broken_intra_doc_links";

/// Format, tidy, supply, clippy, docs of the libraries, tests.
///
/// # Errors
/// The first that fails.
pub(crate) fn run() -> Result<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run(&tidy::Args::default())?;
    supply::run()?;
    setup::run()?;
    process::run(process::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    process::run(
        process::cargo().args(["doc", "--workspace", "--lib", "--no-deps"]).env("RUSTDOCFLAGS", RUSTDOC_FLAGS),
    )?;
    test::run(&test::Args::default())
}
