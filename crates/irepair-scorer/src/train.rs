//! From labelled texts to a linear scorer.

use irepair_data::Labeled;
use serde::{Deserialize, Serialize};

use crate::calibrate::Platt;
use crate::features::FeatureSettings;
use crate::linear::{LinearScorer, Manifest};
use crate::logistic::{Rows, fit};
use crate::seen::{SeenTexts, text_hash};
use crate::{Error, Result};

/// How a linear scorer is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearSettings {
    /// Which n-grams are features.
    pub features: FeatureSettings,
    /// Inverse strength of the L2 penalty, as scikit-learn's `C`.
    pub c: f64,
    /// Texts that must hold an n-gram for it to count.
    pub min_texts: u32,
    /// Most steps of the minimiser.
    pub max_iterations: u64,
}

impl Default for LinearSettings {
    fn default() -> Self {
        Self { features: FeatureSettings::default(), c: 3.0, min_texts: 2, max_iterations: 300 }
    }
}

/// The training texts and the outcome, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// SHA-256 of the training file's bytes, in hexadecimal.
    pub data_sha256: String,
    /// Texts the weights were fitted on.
    pub n_fit: usize,
    /// Texts held out of that to calibrate: those whose hash is a multiple of [`HOLD_OUT`].
    pub n_calibration: usize,
    /// Texts left out because they have neither letters nor digits.
    pub n_blank: usize,
    /// Toxic texts among the fitted and the calibrating ones.
    pub n_toxic: usize,
    /// N-grams (buckets) with a weight.
    pub n_features: usize,
    /// Steps the minimiser took.
    pub n_iterations: u64,
}

/// One text in so many is held out to calibrate [O].
pub const HOLD_OUT: u64 = 10;

/// Fits weights on nine tenths of the texts and a Platt calibration on the other tenth, which is chosen by a hash of
/// the text. `data_sha256` is the hash of the file they come from.
///
/// # Errors
/// [`Error::OneClass`] when either part lacks toxic or other texts; [`Error::Fit`].
///
/// # Source
/// METHOD §9 [O]: an offline scorer. TF-IDF of present n-grams with L2 logistic regression [S].
pub fn train_linear(labels: &[Labeled], data_sha256: String, settings: LinearSettings) -> Result<LinearScorer> {
    let mut texts: Vec<(Vec<u32>, bool, bool)> = Vec::with_capacity(labels.len());
    for label in labels {
        let buckets = settings.features.buckets(&label.text);
        if !buckets.is_empty() {
            texts.push((buckets, label.toxic, text_hash(&label.text).is_multiple_of(HOLD_OUT)));
        }
    }
    let n_calibration = texts.iter().filter(|(.., held_out)| *held_out).count();
    let n_fit = texts.len() - n_calibration;

    let mut n_texts = vec![0_u32; settings.features.n_buckets()];
    for (buckets, ..) in texts.iter().filter(|(.., held_out)| !held_out) {
        for &bucket in buckets {
            n_texts[bucket as usize] += 1;
        }
    }
    let idf: Vec<f32> = n_texts.iter().map(|&n| if n < settings.min_texts { 0.0 } else { idf(n_fit, n) }).collect();

    // Columns are buckets with a weight, renumbered: a third of them, so the minimiser's vectors are a third as long.
    let mut column = vec![u32::MAX; idf.len()];
    let mut buckets_of = Vec::new();
    for (bucket, _) in idf.iter().enumerate().filter(|(_, idf)| **idf > 0.0) {
        column[bucket] = buckets_of.len() as u32;
        buckets_of.push(bucket);
    }
    let (mut rows, mut toxic) = (Rows::new(), Vec::new());
    for (buckets, is_toxic, _) in texts.iter().filter(|(.., held_out)| !held_out) {
        let row = weighted(&idf, settings.features, buckets);
        rows.push(row.map(|(bucket, value)| (column[bucket as usize], value)));
        toxic.push(*is_toxic);
    }
    if !(toxic.contains(&true) && toxic.contains(&false)) {
        return Err(Error::OneClass { what: "the part the scorer is fitted on", n: n_fit });
    }
    let fitted = fit(&rows, &toxic, buckets_of.len(), settings.c, settings.max_iterations)?;
    drop(rows);
    let mut weights = vec![0.0_f32; idf.len()];
    for (&bucket, &weight) in buckets_of.iter().zip(&fitted.weights) {
        weights[bucket] = weight as f32;
    }

    let held_out: Vec<&(Vec<u32>, bool, bool)> = texts.iter().filter(|(.., held_out)| *held_out).collect();
    let margin = |(buckets, ..): &&(Vec<u32>, bool, bool)| {
        fitted.bias
            + weighted(&idf, settings.features, buckets)
                .map(|(bucket, value)| f64::from(weights[bucket as usize]) * f64::from(value))
                .sum::<f64>()
    };
    let margins: Vec<f64> = held_out.iter().map(margin).collect();
    let calibration = Platt::fit(&margins, &held_out.iter().map(|(_, toxic, _)| *toxic).collect::<Vec<_>>())?;
    let training = Training {
        data_sha256,
        n_fit,
        n_calibration,
        n_blank: labels.len() - texts.len(),
        n_toxic: texts.iter().filter(|(_, toxic, _)| *toxic).count(),
        n_features: buckets_of.len(),
        n_iterations: fitted.n_iterations,
    };
    let manifest = Manifest { settings, bias: fitted.bias, calibration, training };
    let seen = SeenTexts::of(labels.iter().map(|label| &label.text));
    Ok(LinearScorer::new(manifest, weights, idf, seen))
}

/// The rarer, the heavier: `ln((1 + n) / (1 + n_with)) + 1`, as scikit-learn has it.
fn idf(n: usize, n_with: u32) -> f32 {
    (((1 + n) as f64 / (1.0 + f64::from(n_with))).ln() + 1.0) as f32
}

/// The features of a text with their values: the n-gram's idf, words and characters each scaled to length 1 apart, so
/// that the many characters do not drown the few words. Empty when none of its n-grams occurred in training.
pub(crate) fn weighted<'a>(
    idf: &'a [f32],
    settings: FeatureSettings,
    buckets: &'a [u32],
) -> impl Iterator<Item = (u32, f32)> + 'a {
    let n_words = buckets.partition_point(|&bucket| bucket < settings.first_char_bucket());
    let (words, chars) = buckets.split_at(n_words);
    [words, chars].into_iter().flat_map(move |group| {
        let square: f64 = group.iter().map(|&bucket| f64::from(idf[bucket as usize]).powi(2)).sum();
        let scale = if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 };
        let known = group.iter().filter(|&&bucket| idf[bucket as usize] > 0.0);
        known.map(move |&bucket| (bucket, (f64::from(idf[bucket as usize]) * scale) as f32))
    })
}
