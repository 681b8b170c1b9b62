//! Targets without libtorch. Each gets a directory, empty at first, and the bytes of a file, and panics if a law is
//! broken.

pub mod fault;
pub mod gguf;
pub mod index;
pub mod patch;
pub mod ranking;
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

/// A target: its name and function.
pub type Target = (&'static str, fn(&Path, &[u8]));

/// Every target here.
pub const TARGETS: [Target; 13] = [
    ("fault", fault::run),
    ("gguf", gguf::run),
    ("index", index::run),
    ("patch", patch::run),
    ("ranking", ranking::run),
    ("records", records::run),
    ("results", results::run),
    ("scorer", scorer::run),
    ("settings", settings::run),
    ("steps", steps::run),
    ("texts", texts::run),
    ("tokenizer", tokenizer::run),
    ("weights", weights::run),
];
