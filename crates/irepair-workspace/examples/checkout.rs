//! Says where the workspace is and which commit it holds.

use irepair_workspace::{paths, process};

#[expect(clippy::print_stdout, reason = "the example's result")]
fn main() {
    println!("{}", paths::root().display());
    println!("{}", process::commit().unwrap_or_else(|| "no repository".to_owned()));
}
