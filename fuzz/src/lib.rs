//! What the fuzz targets do with their bytes. `crates/irepair-cli/tests/fuzz_corpus.rs` does the same with the corpus,
//! on stable.

pub mod files;
#[cfg(feature = "torch")]
pub mod models;

use std::path::Path;
use std::sync::OnceLock;

/// Most memory that Rust code may hold at once, in bytes: far over any input, far under what a hostile number asks for.
const HEAP: usize = 96 << 20;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, HEAP);

/// Runs a target in a directory that lasts as long as the process.
pub fn run(target: fn(&Path, &[u8]), data: &[u8]) {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = || {
        // libFuzzer's own hook ends the process at every panic, those of a library that are caught among them.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"))
    };
    target(DIR.get_or_init(made).path(), data);
}
