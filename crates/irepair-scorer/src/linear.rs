//! The linear scorer: weights of n-grams, a calibration, and the hashes of what it was trained on.

use irepair_core::fs::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::Scorer;
use crate::calibrate::Platt;
use crate::seen::{SEEN, SeenTexts};
use crate::train::{LinearSettings, Training, weighted};

/// Digits of a file's SHA-256 in a scorer's name.
const N_NAME_DIGITS: usize = 12;

/// Everything of a linear scorer but its long lists of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// How it was trained.
    pub settings: LinearSettings,
    /// Added to every margin.
    pub bias: f64,
    /// From margin to probability.
    pub calibration: Platt,
    /// The texts it was trained on, counted.
    pub training: Training,
}

/// A logistic regression on n-grams. [`crate::train_linear`] makes one, [`LinearScorer::read`] reads one.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearScorer {
    pub(crate) manifest: Manifest,
    /// Per bucket.
    pub(crate) weights: Vec<f32>,
    /// Per bucket; 0 for n-grams that too few training texts have.
    pub(crate) idf: Vec<f32>,
    pub(crate) seen: SeenTexts,
    name: String,
}

impl LinearScorer {
    pub(crate) fn new(manifest: Manifest, weights: Vec<f32>, idf: Vec<f32>, seen: SeenTexts) -> Self {
        let mut scorer = Self { manifest, weights, idf, seen, name: String::new() };
        scorer.name = pinned("linear", &sha256_hex(&scorer.to_bytes()));
        scorer
    }

    /// Settings, calibration and training.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The texts it was trained on, which it refuses to score.
    pub fn seen(&self) -> &SeenTexts {
        &self.seen
    }

    /// Log-odds before calibration; none when no n-gram of the text occurred in training.
    pub fn margin(&self, text: &str) -> Option<f64> {
        let settings = self.manifest.settings.features;
        let buckets = settings.buckets(text);
        let mut row = weighted(&self.idf, settings, &buckets).peekable();
        row.peek()?;
        let sum: f64 = row.map(|(bucket, v)| f64::from(self.weights[bucket as usize]) * f64::from(v)).sum();
        Some(self.manifest.bias + sum)
    }
}

/// A scorer's name: its kind and the first digits of the SHA-256 of the file it is.
pub fn pinned(kind: &str, sha256: &str) -> String {
    format!("{kind}-{}", &sha256[..N_NAME_DIGITS.min(sha256.len())])
}

impl Scorer for LinearScorer {
    /// `linear-` and the first digits of the SHA-256 of its file.
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    /// The calibrated probability that people call the text toxic.
    ///
    /// # Errors
    /// For a text it was trained on, and one without any n-gram of the training texts: its score would be nothing but
    /// the share of toxic texts in the training file.
    fn score(&self, text: &str) -> Result<f64, String> {
        if self.seen.contains(text) {
            return Err(SEEN.to_owned());
        }
        let margin = self.margin(text).ok_or("the text has no n-gram that the scorer knows")?;
        Ok(self.manifest.calibration.probability(margin))
    }
}
