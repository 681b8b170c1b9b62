//! Files of linear scorers.

use std::path::Path;

use irepair_scorer::{LinearScorer, Scorer};

use super::shared::{put, safetensors, said};

const TEXTS: [&str; 4] = ["you grubnik", "A good day at the mill, größer!", "", "\u{202e}\0 🙂🙂"];

/// An accepted scorer is written byte for byte equal, and returns probabilities.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let bytes = safetensors(data);
    match LinearScorer::read(&put(dir, "fuzzed.scorer", &bytes)) {
        Ok(scorer) => {
            let again = dir.join("again.scorer");
            scorer.write(&again).expect("the target's own directory");
            assert!(std::fs::read(&again).expect("just written") == bytes);
            for score in TEXTS.iter().filter_map(|text| scorer.score(text).ok()) {
                assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }
        Err(error) => said(&error),
    }
}
