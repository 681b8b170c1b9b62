//! Targets without libtorch. Each takes a directory of its own, empty at first, and the bytes of a file; it panics
//! where a law is broken.

pub mod gguf;
pub mod index;
pub mod patch;
pub mod records;
pub mod results;
pub mod scorer;
pub mod settings;
pub mod shared;
pub mod steps;
pub mod texts;
pub mod tokenizer;
pub mod weights;

use std::path::Path;

/// A target: a name, and what it does with bytes.
pub type Target = (&'static str, fn(&Path, &[u8]));

/// Every target here.
pub const TARGETS: [Target; 11] = [
    ("gguf", gguf::run),
    ("index", index::run),
    ("patch", patch::run),
    ("records", records::run),
    ("results", results::run),
    ("scorer", scorer::run),
    ("settings", settings::run),
    ("steps", steps::run),
    ("texts", texts::run),
    ("tokenizer", tokenizer::run),
    ("weights", weights::run),
];
