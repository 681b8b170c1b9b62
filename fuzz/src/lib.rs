//! The fuzz targets' functions. `crates/irepair-cli/tests/fuzz_corpus.rs` calls them with the corpus, on stable.

pub mod files;
#[cfg(feature = "torch")]
pub mod models;

use std::path::Path;
use std::sync::OnceLock;

/// Limit of Rust's heap, in bytes: far above any input, far below the size that a hostile number would request.
const HEAP: usize = 96 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, HEAP);

/// Runs a target in a directory that exists as long as the process.
pub fn run(target: fn(&Path, &[u8]), data: &[u8]) {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = || {
        // libFuzzer's own hook ends the process at every panic, also at those that a library catches.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"))
    };
    target(DIR.get_or_init(made).path(), data);
}
