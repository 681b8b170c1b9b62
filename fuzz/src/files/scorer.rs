//! Files of scorers.

use std::path::Path;

use irepair_scorer::{LinearScorer, Patterns, Result, Scorer, TfidfScorer};

use super::shared::{put, safetensors, said};

const TEXTS: [&str; 4] = ["you grubnik", "A good day at the mill, größer!", "", "\u{202e}\0 🙂🙂"];

/// An accepted scorer is written byte for byte equal, and returns probabilities; accepted expressions match or do not.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let bytes = safetensors(data);
    let (path, again) = (put(dir, "fuzzed.scorer", &bytes), dir.join("again.scorer"));
    check(&bytes, &again, LinearScorer::read(&path), LinearScorer::write);
    check(&bytes, &again, TfidfScorer::read(&path), TfidfScorer::write);
    match Patterns::read(&put(dir, "fuzzed.regex", data)) {
        Ok(patterns) => {
            let all: Vec<f64> = TEXTS.iter().filter_map(|text| patterns.score(text).ok()).collect();
            assert!(all.len() == TEXTS.len() && all.iter().all(|&score| score == 0.0 || score == 1.0), "{all:?}");
        }
        Err(error) => said(&error),
    }
}

fn check<S: Scorer>(bytes: &[u8], again: &Path, read: Result<S>, write: fn(&S, &Path) -> Result<()>) {
    match read {
        Ok(scorer) => {
            write(&scorer, again).expect("the target's own directory");
            assert!(std::fs::read(again).expect("just written") == bytes);
            for score in TEXTS.iter().filter_map(|text| scorer.score(text).ok()) {
                assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }
        Err(error) => said(&error),
    }
}
