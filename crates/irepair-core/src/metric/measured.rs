//! A number with everything needed to compare it honestly, and many of them by key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MetricId, MetricKey};

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// What `value` is the mean of, in its unit and in the order of what was measured; none = failed. For intervals:
    /// empty where the value is no mean, and never written.
    #[serde(skip)]
    pub values: Vec<Option<f64>>,
}

impl Metric {
    /// A metric of version 1 in the unit of `id`; a value that is not finite is missing.
    pub fn new(id: MetricId, value: f64, n: usize, n_failed: usize, definition: impl Into<String>) -> Self {
        Self {
            value: Some(value).filter(|v| v.is_finite()),
            unit: id.definition().unit.to_owned(),
            n: n as u64,
            n_failed: n_failed as u64,
            definition: definition.into(),
            version: 1,
            values: Vec::new(),
        }
    }

    /// The mean of the values that are there, times 100 when the unit is percent; missing when none is.
    pub fn mean(id: MetricId, values: &[Option<f64>], definition: impl Into<String>) -> Self {
        let n = values.iter().flatten().count();
        let factor = if id.definition().unit == "%" { 100.0 } else { 1.0 };
        let mean = factor * values.iter().flatten().sum::<f64>() / n as f64;
        let n_failed = values.len() - n;
        let values = values.iter().map(|value| value.map(|value| factor * value)).collect();
        Self { values, ..Self::new(id, mean, n, n_failed, definition) }
    }

    /// `part / whole`; missing when the whole is 0.
    pub fn share(id: MetricId, part: usize, whole: usize, definition: impl Into<String>) -> Self {
        Self::new(id, part as f64 / whole as f64, whole, 0, definition)
    }
}

/// Metrics by key, in the order of the table of metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<MetricKey, Metric>);

impl Metrics {
    /// Adds a metric, or replaces the one under that key.
    pub fn insert(&mut self, key: impl Into<MetricKey>, metric: Metric) {
        self.0.insert(key.into(), metric);
    }

    /// The metric under a key.
    pub fn get(&self, key: impl Into<MetricKey>) -> Option<&Metric> {
        self.0.get(&key.into())
    }

    /// The metric under a key, to change.
    pub fn get_mut(&mut self, key: impl Into<MetricKey>) -> Option<&mut Metric> {
        self.0.get_mut(&key.into())
    }

    /// The value under a key; none when it is not there, could not be measured or is not finite.
    pub fn value(&self, key: impl Into<MetricKey>) -> Option<f64> {
        self.get(key)?.value.filter(|v| v.is_finite())
    }

    /// Every key with its metric.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&MetricKey, &Metric)> {
        self.0.iter()
    }
}

impl<K: Into<MetricKey>> FromIterator<(K, Metric)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (K, Metric)>>(metrics: I) -> Self {
        Self(metrics.into_iter().map(|(key, metric)| (key.into(), metric)).collect())
    }
}

impl<K: Into<MetricKey>> Extend<(K, Metric)> for Metrics {
    fn extend<I: IntoIterator<Item = (K, Metric)>>(&mut self, metrics: I) {
        self.0.extend(metrics.into_iter().map(|(key, metric)| (key.into(), metric)));
    }
}

impl IntoIterator for Metrics {
    type Item = (MetricKey, Metric);
    type IntoIter = std::collections::btree_map::IntoIter<MetricKey, Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{BLIMP_ACCURACY, DISTINCT_1, TOKEN_F1, TOX};

    #[test]
    fn a_failure_is_missing_not_zero() {
        let metric = Metric::mean(BLIMP_ACCURACY, &[Some(1.0), None, Some(0.5)], "mean");
        assert_eq!((metric.value, metric.n, metric.n_failed, &*metric.unit), (Some(75.0), 2, 1, "%"));
        assert_eq!(metric.values, [Some(100.0), None, Some(50.0)]);
        let metric = Metric::mean(TOKEN_F1, &[None, None], "mean");
        assert_eq!((metric.value, metric.n, metric.n_failed, &*metric.unit), (None, 0, 2, ""));
        assert_eq!(Metric::share(DISTINCT_1, 0, 0, "share").value, None);
        assert_eq!(Metric::new(DISTINCT_1, f64::INFINITY, 1, 0, "exp of a lot").value, None);
    }

    #[test]
    fn metrics_are_written_by_importance() {
        let mut metrics = Metrics::from_iter([(DISTINCT_1, Metric::share(DISTINCT_1, 1, 2, "d"))]);
        metrics.extend([(TOX, Metric::mean(TOX, &[], "d"))]);
        assert_eq!(
            serde_json::to_string(&metrics).unwrap(),
            "{\"tox\":{\"value\":null,\"unit\":\"%\",\"n\":0,\"n_failed\":0,\"definition\":\"d\",\"version\":1},\
             \"distinct_1\":{\"value\":0.5,\"unit\":\"\",\"n\":2,\"n_failed\":0,\"definition\":\"d\",\"version\":1}}"
        );
        assert_eq!((metrics.value(DISTINCT_1), metrics.value(TOX), metrics.iter().len()), (Some(0.5), None, 2));
    }
}
