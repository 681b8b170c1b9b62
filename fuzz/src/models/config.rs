//! `config.json` of models, and of classifiers where the first byte is odd.

use std::path::Path;

use irepair_classifier::ClassifierConfig;
use irepair_model::Architecture;

use crate::files::shared::{put, said};

/// An accepted configuration has possible sizes, and reads back equal after writing.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let path = put(dir, "config.json", data);
    if kind % 2 == 1 {
        match ClassifierConfig::read(&path) {
            Ok(config) => {
                assert!(config.n_block <= 10_000 && config.labels.len() <= data.len().max(10_000));
                assert!(config.n_positions() >= 2 && config.n_embd.is_multiple_of(config.n_head));
            }
            Err(error) => said(&error),
        }
        return;
    }
    match Architecture::read(&path) {
        Ok(config) => {
            assert!(config.n_block <= 10_000 && config.n_head.saturating_mul(config.head_dim) <= 1 << 24);
            assert_eq!((config.spans.len(), config.attention_scales.len()), (config.n_block, config.n_block));
            let again = Architecture::read(&put(dir, "again.json", config.to_json().as_bytes())).expect("just written");
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
        }
        Err(error) => said(&error),
    }
}
