//! Prints the root of the workspace and its commit.

use irepair_workspace::{paths, process};

#[expect(clippy::print_stdout, reason = "the example's result")]
fn main() {
    println!("{}", paths::root().display());
    println!("{}", process::commit().unwrap_or_else(|| "no repository".to_owned()));
}
