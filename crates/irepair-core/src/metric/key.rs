//! A metric's full key: which metric, on which further prompt set, by which further scorer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{KEYS, MetricId};

/// `METRIC[:PROMPTS][@SCORER]`, such as `tox:rtp@words`. Keys compare by metric first, in the order of the table of
/// metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricKey {
    /// What is measured.
    pub metric: MetricId,
    /// A prompt set other than the error prompts.
    pub prompts: Option<String>,
    /// A scorer other than the first.
    pub scorer: Option<String>,
}

/// Text that is no metric's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{0}`")]
pub struct UnknownMetric(pub String);

impl MetricKey {
    /// The same metric on another prompt set.
    #[must_use]
    pub fn on(self, prompts: &str) -> Self {
        Self { prompts: Some(prompts.to_owned()), ..self }
    }

    /// The same metric by another scorer.
    #[must_use]
    pub fn by(self, scorer: &str) -> Self {
        Self { scorer: Some(scorer.to_owned()), ..self }
    }

    /// The metric's heading, then prompt set and scorer.
    pub fn heading(&self) -> String {
        let on = self.prompts.as_ref().map(|set| format!(", {set}")).unwrap_or_default();
        let by = self.scorer.as_ref().map(|name| format!(", by {name}")).unwrap_or_default();
        format!("{}{on}{by}", self.metric.heading())
    }
}

impl From<MetricId> for MetricKey {
    fn from(metric: MetricId) -> Self {
        Self { metric, prompts: None, scorer: None }
    }
}

impl From<&MetricKey> for MetricKey {
    fn from(key: &MetricKey) -> Self {
        key.clone()
    }
}

impl fmt::Display for MetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.prompts.as_ref().map(|set| format!(":{set}")).unwrap_or_default();
        let scorer = self.scorer.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
        f.pad(&format!("{}{set}{scorer}", self.metric))
    }
}

impl FromStr for MetricKey {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let split = |text: &str, at: char| match text.split_once(at) {
            Some((head, tail)) => (head.to_owned(), Some(tail.to_owned())),
            None => (text.to_owned(), None),
        };
        let (rest, scorer) = split(text, '@');
        let (name, prompts) = split(&rest, ':');
        let named = |id: &MetricId| id.definition().key == name || id.definition().old_key == Some(&*name);
        let metric = MetricId::all().find(named).ok_or_else(|| UnknownMetric(name.clone()))?;
        Ok(Self { metric, prompts, scorer })
    }
}

impl Serialize for MetricKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|UnknownMetric(name)| de::Error::unknown_variant(&name, KEYS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{CLEAN_TOX, LAST_WORD_ACCURACY, TOX};

    #[test]
    fn a_key_reads_back_as_written() {
        let plain = MetricKey::from(TOX);
        for (key, text) in [
            (plain.clone(), "tox"),
            (plain.clone().on("rtp"), "tox:rtp"),
            (plain.clone().by("linear-1"), "tox@linear-1"),
            (plain.clone().on("rtp").by("words"), "tox:rtp@words"),
        ] {
            assert_eq!((key.to_string().as_str(), text.parse()), (text, Ok(key)));
        }
        assert!(plain.clone().by("a") < CLEAN_TOX.into() && plain.clone() < plain.by("a"));
        assert_eq!("toxx@a".parse::<MetricKey>(), Err(UnknownMetric("toxx".into())));
    }

    #[test]
    fn an_old_key_is_read_and_the_new_one_written() {
        let key: MetricKey = serde_json::from_str("\"cloze_accuracy\"").unwrap();
        assert_eq!(
            (key.metric, serde_json::to_string(&key).unwrap()),
            (LAST_WORD_ACCURACY, "\"last_word_accuracy\"".into())
        );
        let error = serde_json::from_str::<MetricKey>("\"toxx\"").unwrap_err().to_string();
        assert!(error.starts_with("unknown variant `toxx`, expected one of `tox`, `toxfrac`"), "{error}");
    }
}
