//! `experiments/paper/paper.toml`: the paper's numbers, shown with ours where a row or a model names its counterpart.

use std::collections::BTreeMap;

use irepair_core::metric::MetricKey;
use serde::{Deserialize, Serialize};

use crate::{Checks, Validate};

/// The paper's models, methods and numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paper {
    /// H4: error density pooled over models, percent (METHOD §4).
    pub pooled_density_percent: Option<f64>,
    /// Its models.
    pub models: Vec<PaperModel>,
    /// Its methods, in the order of its tables.
    pub methods: Vec<PaperMethod>,
    /// Its headline numbers, in reading order.
    pub headlines: Vec<Headline>,
}

/// A model of the paper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaperModel {
    /// What base models call it in their key `paper`.
    pub name: String,
    /// Its name in the paper.
    pub title: String,
    /// Its error density D, percent (METHOD §4).
    pub density_percent: Option<f64>,
}

/// A method of the paper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaperMethod {
    /// What rows call it in their key `paper`.
    pub name: String,
    /// Values by metric, the mean over models as the paper prints it.
    pub mean: BTreeMap<MetricKey, f64>,
    /// Values by model, then by metric.
    pub models: BTreeMap<String, BTreeMap<MetricKey, f64>>,
    /// Time of a step in steps of the profile's baseline.
    pub step_time: Option<f64>,
}

/// One headline number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headline {
    /// What it says: H1, H2 or H3.
    pub claim: Claim,
    /// The method it is about.
    pub method: String,
    /// Its value, percent.
    pub percent: f64,
}

/// What a headline number says of a method (METHOD §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// Toxicity removed.
    H1,
    /// Toxicity removed beyond the baseline's.
    H2,
    /// Perplexity rise avoided against the baseline's.
    H3,
}

impl Claim {
    /// All of them, in reading order.
    pub const ALL: [Self; 3] = [Self::H1, Self::H2, Self::H3];
}

impl Paper {
    /// A method by name.
    pub fn method(&self, name: &str) -> Option<&PaperMethod> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// A model by name.
    pub fn model(&self, name: &str) -> Option<&PaperModel> {
        self.models.iter().find(|model| model.name == name)
    }
}

impl Validate for Paper {
    fn clashes(&self, checks: &mut Checks) {
        for (i, model) in self.models.iter().enumerate() {
            checks.clash(model.name.is_empty(), &format!("models[{i}].name"), "is missing");
            checks.clash(model.title.is_empty(), &format!("models[{i}].title"), "is missing");
        }
        let models: Vec<&str> = self.models.iter().map(|model| &*model.name).collect();
        let methods: Vec<&str> = self.methods.iter().map(|method| &*method.name).collect();
        for (i, method) in self.methods.iter().enumerate() {
            checks.clash(method.name.is_empty(), &format!("methods[{i}].name"), "is missing");
            for name in method.models.keys() {
                checks.named(&format!("methods[{i}].models"), Some(name), &models);
            }
        }
        for (i, headline) in self.headlines.iter().enumerate() {
            checks.named(&format!("headlines[{i}].method"), Some(&headline.method), &methods);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, from_str};

    #[test]
    fn names_and_metrics_are_checked_with_the_nearest_known_one() {
        let text = "[[models]]\nname = 'large'\ntitle = 'L'\n[[methods]]\nname = 'dpo'\nmean = { tux = 1.0 }\n\
                    models = { lage = { tox = 1.0 } }\n[[headlines]]\nclaim = 'H1'\nmethod = 'dop'\npercent = 1.0\n";
        let Err(Error::Problems { problems, .. }) = from_str::<Paper>(text, "paper.toml") else { panic!("must fail") };
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "line 6, `methods[0].mean.tux`: unknown value `tux`; did you mean `tox`?",
                "line 7, `methods[0].models`: unknown name `lage`; did you mean `large`?",
                "line 10, `headlines[0].method`: unknown name `dop`; did you mean `dpo`?",
            ]
        );
    }
}
