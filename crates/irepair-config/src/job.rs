//! A job: one row of a table, for one model and one seed, as one `irepair job` call.

use serde::{Deserialize, Serialize};

use crate::{Checks, EvalOptions, RelearnOptions, RepairOptions, Validate};

/// Everything one job needs; written by the runner, kept with its result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Job {
    /// Profile it belongs to.
    pub profile: String,
    /// Method key: the name of the row's file.
    pub method: String,
    /// Name in tables.
    pub title: String,
    /// Name of the base model.
    pub model: String,
    /// Write the repaired model next to the result. Default true.
    pub keep_model: Option<bool>,
    /// The repair; method `vanilla` trains nothing.
    pub repair: RepairOptions,
    /// The measurement; its model is the repaired one, its reference the base.
    pub eval: EvalOptions,
    /// Measurements during training; without it, none.
    pub watch: Option<Watch>,
    /// How the repaired model is trained on texts with the error, and measured again; without it, it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relearn: Option<RelearnOptions>,
}

/// A measurement that is repeated during training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Steps from one to the next; the first is before any step.
    pub every: u64,
    /// Prompts and text to measure.
    pub eval: EvalOptions,
    /// What is kept on the way (METHOD §20); without it, nothing, and points hold toxicity and perplexity alone.
    pub kept: Option<Kept>,
}

/// What a watched run keeps of its way, and where it pauses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// Updates whose outcome is measured like a run of that length; without it, none.
    pub equal_updates: Option<u64>,
    /// Counted FLOPs whose outcome is measured like a run that ends there; without it, none.
    pub equal_compute_flops: Option<f64>,
    /// KL budgets whose best points are measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<f64>,
    /// Points in a row that do not advance the front, after which the run ends; without it, points end none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_patience: Option<u64>,
    /// A point of a larger KL ends the run; without it, none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_kl: Option<f64>,
    /// A point without error, of sound form and within the largest of the budgets ends the run: what follows costs KL.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub until_no_error: bool,
    /// Updates after which the run stops for now: its state stays, and the same job with a later pause continues it.
    pub pause_at: Option<u64>,
}

impl Validate for Kept {
    fn clashes(&self, checks: &mut Checks) {
        for budget in &self.budgets {
            checks.number("budgets", *budget);
        }
        checks.count("front_patience", self.front_patience);
        self.most_kl.iter().for_each(|most| checks.number("most_kl", *most));
    }
}

impl Job {
    /// Name of the row in results: method key and model.
    pub fn row(&self) -> String {
        format!("{}-{}", self.method, self.model)
    }
}

impl Validate for Job {
    fn clashes(&self, checks: &mut Checks) {
        for (key, value) in
            [("profile", &self.profile), ("method", &self.method), ("title", &self.title), ("model", &self.model)]
        {
            checks.clash(value.is_empty(), key, "is missing");
        }
        checks.clash(self.repair.model.is_none(), "repair.model", "is missing");
        checks.clash(self.repair.pairs.is_none(), "repair.pairs", "is missing");
        let elsewhere = "belongs to `irepair repair`: a job writes to its own directory alone";
        checks.clash(self.repair.patch.is_some(), "repair.patch", elsewhere);
        checks.count("watch.every", self.watch.as_ref().map(|watch| watch.every));
        if let Some(kept) = self.watch.as_ref().and_then(|watch| watch.kept.as_ref()) {
            checks.inside("watch.kept", kept.problems());
        }
        checks.inside("repair", self.repair.problems());
    }
}
