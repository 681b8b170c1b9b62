//! A job: one row of a table, for one model and one seed, as one `irepair job` call.

use irepair_core::spec::Measures;
use serde::{Deserialize, Serialize};

use crate::{Checks, Dtype, EvalOptions, RelearnOptions, RepairOptions, Validate};

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

    /// How many entries CHANGELOG.md has under *Numbers changed, of some rows alone* that hold for this job: a result
    /// of another version is computed again.
    pub fn numbers_version(&self) -> u32 {
        SOME_NUMBERS_CHANGED.iter().map(|holds| u32::from(holds(self))).sum()
    }
}

/// One for each entry of CHANGELOG.md under *Numbers changed, of some rows alone*, in its order: whether it holds for a
/// job.
pub const SOME_NUMBERS_CHANGED: &[fn(&Job) -> bool] = &[is_counted_otherwise, has_narrow_adapters];

/// Counted work was that of the rejected text alone. Nothing is decided by it in a run that is compared at no equal
/// compute.
fn is_counted_otherwise(job: &Job) -> bool {
    let kept = job.watch.as_ref().and_then(|watch| watch.kept.as_ref());
    let (repair, measures) = (&job.repair, job.repair.policy().row().measures);
    let other_texts = measures != Measures::Never && repair.sensitivity().row().at_steps != Some([1, 1]);
    kept.is_none_or(|kept| kept.equal_compute_flops.is_some())
        && repair.method().trains()
        && (other_texts || measures == Measures::Once || repair.reads_fisher())
}

/// Adapters of bfloat16 weights were rounded to the nearest.
fn has_narrow_adapters(job: &Job) -> bool {
    job.repair.lora_rank.is_some() && job.repair.dtype() == Dtype::Bf16
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, Metric, Policy};

    #[test]
    fn numbers_of_some_rows_have_a_version_of_their_own() {
        let job = |repair: RepairOptions| {
            let repair = RepairOptions { method: repair.method.or(Some(Method::Irepair)), ..repair };
            Job { repair, ..Job::default() }
        };
        let version = |repair| job(repair).numbers_version();
        assert_eq!(version(RepairOptions::default()), 0);
        assert_eq!(version(RepairOptions { method: Some(Method::Dpo), ..Default::default() }), 0);
        assert_eq!(version(RepairOptions { policy: Some(Policy::Random), ..Default::default() }), 0);
        let fixed = RepairOptions { policy: Some(Policy::Fixed), ..Default::default() };
        assert_eq!(version(fixed.clone()), 1);
        for (metric, want) in [(Metric::Density, 0), (Metric::Contrast, 1), (Metric::Efficiency, 1)] {
            let sensitivity = Some(metric);
            assert_eq!(version(RepairOptions { sensitivity, ..Default::default() }), want, "{metric}");
            // Nothing is measured.
            let policy = Some(Policy::Random);
            assert_eq!(version(RepairOptions { sensitivity, policy, ..Default::default() }), 0, "{metric}");
        }
        let adapters = RepairOptions { method: Some(Method::Dpo), lora_rank: Some(8), ..Default::default() };
        assert_eq!(version(adapters.clone()), 0);
        assert_eq!(version(RepairOptions { dtype: Some(Dtype::Bf16), ..adapters }), 1);
        // A search compares nothing at equal compute.
        let watched = |equal_compute_flops| {
            let kept = Some(Kept { equal_compute_flops, ..Kept::default() });
            Job { watch: Some(Watch { kept, ..Watch::default() }), ..job(fixed.clone()) }.numbers_version()
        };
        assert_eq!([watched(None), watched(Some(1e12))], [0, 1]);
    }
}
