//! A number with everything needed to compare it honestly, and the keys numbers go by.

use std::collections::BTreeMap;

use serde::Serialize;

/// Keys of the metrics, as result files and tables use them.
pub mod key {
    /// Mean toxicity of greedy continuations of the error prompts, percent (METHOD §9).
    pub const TOX: &str = "tox";
    /// Share of those continuations over the threshold, percent (METHOD §9).
    pub const TOXFRAC: &str = "toxfrac";
    /// [`TOX`] on clean prompts.
    pub const CLEAN_TOX: &str = "clean_tox";
    /// Expected maximum toxicity over samples (METHOD §9).
    pub const EXPECTED_MAX_TOXICITY: &str = "expected_max_toxicity";
    /// Share of prompts with a toxic continuation among the samples (METHOD §9).
    pub const TOXICITY_PROBABILITY: &str = "toxicity_probability";
    /// Share of different tokens among all tokens generated (METHOD §9).
    pub const DISTINCT_1: &str = "distinct_1";
    /// Share of different token pairs (METHOD §9).
    pub const DISTINCT_2: &str = "distinct_2";
    /// Share of different token triples (METHOD §9).
    pub const DISTINCT_3: &str = "distinct_3";
    /// Mean length of a continuation, tokens (METHOD §9).
    pub const MEAN_LENGTH: &str = "mean_length";
    /// Share of 4-grams that repeat an earlier one of their continuation (METHOD §9).
    pub const REPETITION_4: &str = "repetition_4";
    /// Share of continuations that are blank or end at once (METHOD §9).
    pub const EMPTY_SHARE: &str = "empty_share";
    /// Perplexity of the continuations under the reference (METHOD §9).
    pub const CONTINUATION_PERPLEXITY: &str = "continuation_perplexity";
    /// Perplexity per token on general text (METHOD §10: WIKI).
    pub const TOKEN_PERPLEXITY: &str = "token_perplexity";
    /// [`TOKEN_PERPLEXITY`] with windows that overlap (METHOD §10).
    pub const STRIDED_PERPLEXITY: &str = "strided_perplexity";
    /// Perplexity per word on whole documents (METHOD §10: WIKI_word).
    pub const WORD_PERPLEXITY: &str = "word_perplexity";
    /// Share of last words predicted exactly, percent (METHOD §10: LAMBADA).
    pub const CLOZE_ACCURACY: &str = "cloze_accuracy";
    /// Perplexity of the last word (METHOD §10: LAMBADA).
    pub const CLOZE_PERPLEXITY: &str = "cloze_perplexity";
    /// Perplexity per token of the last-word texts as running text (METHOD §10: LAMBADA_corpus).
    pub const CLOZE_CORPUS_PERPLEXITY: &str = "cloze_corpus_perplexity";
    /// Minimal pairs whose acceptable sentence is the likelier one, percent (METHOD §10: BLiMP).
    pub const BLIMP_ACCURACY: &str = "blimp_accuracy";
    /// Questions whose right ending is the likeliest, percent (METHOD §10: HellaSwag, `acc`).
    pub const HELLASWAG_ACCURACY: &str = "hellaswag_accuracy";
    /// The same with likelihoods per byte (METHOD §10: HellaSwag, `acc_norm`).
    pub const HELLASWAG_ACCURACY_BY_BYTES: &str = "hellaswag_accuracy_by_bytes";
    /// F1 of greedy continuations against the true ones (METHOD §10).
    pub const TOKEN_F1: &str = "token_f1";
    /// Minimal pairs whose stereotype is the likelier sentence, percent (METHOD §15).
    pub const STEREOTYPE_SHARE: &str = "stereotype_share";
    /// Distance of that share from one half, percentage points (METHOD §15).
    pub const STEREOTYPE_BIAS: &str = "stereotype_bias";
    /// Continuations that greedy decoding gives verbatim, percent (METHOD §15).
    pub const EXTRACTION_RATE: &str = "extraction_rate";
    /// Mean rank of the tokens of those continuations, 1 = likeliest (METHOD §15).
    pub const MEAN_TOKEN_RANK: &str = "mean_token_rank";
    /// Pairs whose rejected continuation is preferred, percent (METHOD §15).
    pub const WRONG_PREFERENCE: &str = "wrong_preference";
    /// KL(reference ‖ model) on held-out neutral text, nats per token (METHOD §10).
    pub const KL_HELDOUT: &str = "kl_heldout";
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// The number; none when it could not be measured. Never 0 for a failure, never NaN or infinite.
    pub value: Option<f64>,
    /// Its unit, such as `%` or `nats per token`; empty for a pure number.
    pub unit: String,
    /// Its denominator: how many things went into it. The failed ones are not among them.
    pub n: u64,
    /// How many were left out because they could not be measured.
    pub n_failed: u64,
    /// What was computed, in words. Equal definitions are comparable numbers: it holds settings, no counts.
    pub definition: String,
    /// Version of the definition; it grows when the same words come to mean another number.
    pub version: u32,
}

impl Metric {
    /// A metric of version 1; a value that is not finite is missing.
    pub(crate) fn new(value: f64, unit: &str, n: usize, n_failed: usize, definition: impl Into<String>) -> Self {
        Self {
            value: Some(value).filter(|v| v.is_finite()),
            unit: unit.to_owned(),
            n: n as u64,
            n_failed: n_failed as u64,
            definition: definition.into(),
            version: 1,
        }
    }

    /// The mean of the values that are there, times `factor`; missing when none is.
    pub(crate) fn mean(values: &[Option<f64>], factor: f64, unit: &str, definition: impl Into<String>) -> Self {
        let n = values.iter().flatten().count();
        let mean = factor * values.iter().flatten().sum::<f64>() / n as f64;
        Self::new(mean, unit, n, values.len() - n, definition)
    }

    /// `part / whole`; missing when the whole is 0.
    pub(crate) fn share(part: usize, whole: usize, definition: impl Into<String>) -> Self {
        Self::new(part as f64 / whole as f64, "", whole, 0, definition)
    }
}

/// Metrics by key, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, Metric>);

impl Metrics {
    /// Adds a metric, or replaces the one under that key.
    pub fn insert(&mut self, key: impl Into<String>, metric: Metric) {
        self.0.insert(key.into(), metric);
    }

    /// The metric under a key.
    pub fn get(&self, key: &str) -> Option<&Metric> {
        self.0.get(key)
    }

    /// The value under a key; none when it is not there or could not be measured.
    pub fn value(&self, key: &str) -> Option<f64> {
        self.get(key)?.value
    }

    /// Every key with its metric.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Metric)> {
        self.0.iter().map(|(key, metric)| (key.as_str(), metric))
    }
}

impl<K: Into<String>> FromIterator<(K, Metric)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (K, Metric)>>(metrics: I) -> Self {
        Self(metrics.into_iter().map(|(key, metric)| (key.into(), metric)).collect())
    }
}

impl<K: Into<String>> Extend<(K, Metric)> for Metrics {
    fn extend<I: IntoIterator<Item = (K, Metric)>>(&mut self, metrics: I) {
        self.0.extend(metrics.into_iter().map(|(key, metric)| (key.into(), metric)));
    }
}

impl IntoIterator for Metrics {
    type Item = (String, Metric);
    type IntoIter = std::collections::btree_map::IntoIter<String, Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_missing_not_zero() {
        let metric = Metric::mean(&[Some(1.0), None, Some(0.5)], 100.0, "%", "mean");
        assert_eq!((metric.value, metric.n, metric.n_failed), (Some(75.0), 2, 1));
        let metric = Metric::mean(&[None, None], 100.0, "%", "mean");
        assert_eq!((metric.value, metric.n, metric.n_failed), (None, 0, 2));
        assert_eq!(Metric::share(0, 0, "share").value, None);
        assert_eq!(Metric::new(f64::INFINITY, "", 1, 0, "exp of a lot").value, None);
    }

    #[test]
    fn metrics_are_written_by_key() {
        let mut metrics = Metrics::from_iter([(key::TOX, Metric::share(1, 2, "d"))]);
        metrics.extend([("b", Metric::share(0, 0, "d"))]);
        assert_eq!(
            serde_json::to_string(&metrics).unwrap(),
            "{\"b\":{\"value\":null,\"unit\":\"\",\"n\":0,\"n_failed\":0,\"definition\":\"d\",\"version\":1},\
             \"tox\":{\"value\":0.5,\"unit\":\"\",\"n\":2,\"n_failed\":0,\"definition\":\"d\",\"version\":1}}"
        );
        assert_eq!((metrics.value("tox"), metrics.value("b"), metrics.iter().len()), (Some(0.5), None, 2));
    }
}
