//! `config.json` of models, and of classifiers where the first byte is odd.

use std::path::Path;

use irepair_classifier::ClassifierConfig;
use irepair_model::Architecture;

use crate::files::shared::{put, said};

/// What is accepted is of a size that a model can have, and is written and read the same.
///
/// # Panics
/// Where that is not so.
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
            assert!(config.n_block <= 10_000 && config.n_embd.is_multiple_of(config.n_head));
            assert_eq!((config.spans.len(), config.attention_scales.len()), (config.n_block, config.n_block));
            let again = Architecture::read(&put(dir, "again.json", config.to_json().as_bytes())).expect("just written");
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
        }
        Err(error) => said(&error),
    }
}
