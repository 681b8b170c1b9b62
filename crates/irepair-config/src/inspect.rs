//! Settings of `irepair sensitivity` and `irepair score`.

use std::path::PathBuf;

use crate::names::entry;
use crate::problem::Checks;
use crate::{Dtype, Metric, Problem, Reduction, Validate};

options! {
    /// Settings of a sensitivity table: which block carries the error (METHOD §3, §4).
    pub struct SensitivityOptions(this) {
        /// Directory of the model.
        #[arg(value_name = "DIR")]
        model: PathBuf,
        /// Preference pairs, JSONL with `prompt`, `chosen` and `rejected`.
        #[arg(value_name = "FILE")]
        data: PathBuf,
        /// Neutral text, measured beside the rejected text; what metric contrast divides by (without it, chosen text).
        #[arg(value_name = "FILE")]
        general: PathBuf,
        /// What is measured (METHOD §3 [D]). Default grad-l2.
        #[arg(value_name = "METRIC", value_parser = entry::<Metric>())]
        metric: Metric = Metric::GradL2,
        /// How batches are put together (METHOD §3 [D]). Default norm-of-mean, and mean-of-norm for fisher, act-dist, atp and
        /// random, which have no value at a mean gradient.
        reduction: Reduction =
            if this.metric().has_mean_gradient() { Reduction::NormOfMean } else { Reduction::MeanOfNorm },
        /// Batches measured at most (METHOD §17 [F]). Default 500.
        #[arg(value_name = "N")]
        n_batches: u64 = 500,
        /// Pairs per batch (METHOD §17 [D]). Default 4.
        #[arg(value_name = "N")]
        batch_size: usize = 4,
        /// Longest prompt in tokens (METHOD §17 [O]). Default 64.
        #[arg(value_name = "TOKENS")]
        max_prompt: usize = 64,
        /// Longest continuation in tokens (METHOD §17 [O]). Default 64.
        #[arg(value_name = "TOKENS")]
        max_continuation: usize = 64,
        /// Leave prompt tokens out of the loss (METHOD §2 [D]). Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        skip_prompt: bool = false,
        /// Measure the chosen text of the pairs too: the same loss on the same subjects without the error. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        chosen: bool = false,
        /// Directory the values are written to: `error.json`, with `chosen` also `chosen.json`, with `general` also
        /// `neutral.json`.
        #[arg(value_name = "DIR")]
        out: PathBuf,
    }
    common: seed device dtype threads json;
    required: model data;
}

impl Validate for SensitivityOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.count("n_batches", self.n_batches);
        for (key, value) in [
            ("batch_size", self.batch_size),
            ("max_prompt", self.max_prompt),
            ("max_continuation", self.max_continuation),
        ] {
            checks.count(key, value.map(|n| n as u64));
        }
        checks.count("threads", self.threads.map(u64::from));
        checks.device(self.device.as_ref());
        let metric = self.metric();
        checks.clash(
            self.reduction == Some(Reduction::NormOfMean) && !metric.has_mean_gradient(),
            "reduction",
            &format!("clashes with `metric`: {metric} has no value at a mean gradient, only mean-of-norm"),
        );
        checks.0
    }
}

options! {
    /// Settings of a scoring: one NLL per text.
    pub struct ScoreOptions(this) {
        /// Directory of the model.
        #[arg(value_name = "DIR")]
        model: PathBuf,
        /// Texts, JSONL with `text`.
        #[arg(value_name = "FILE")]
        input: PathBuf,
        /// Texts computed at once; changes the speed, not the result. Default 8.
        #[arg(value_name = "N")]
        batch_size: usize = 8,
    }
    common: device dtype threads;
    required: model input;
}

impl Validate for ScoreOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.count("batch_size", self.batch_size.map(|n| n as u64));
        checks.count("threads", self.threads.map(u64::from));
        checks.device(self.device.as_ref());
        checks.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_a_mean_gradient_takes_the_mean_of_its_values() {
        let of = |metric, reduction| SensitivityOptions { metric: Some(metric), reduction, ..Default::default() };
        assert_eq!(of(Metric::Density, None).reduction(), Reduction::NormOfMean);
        assert_eq!(of(Metric::Fisher, None).reduction(), Reduction::MeanOfNorm);
        let problems = of(Metric::Fisher, Some(Reduction::NormOfMean)).problems();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let want = "`reduction`: clashes with `metric`: fisher has no value at a mean gradient, only mean-of-norm";
        assert_eq!(said, [want]);
        assert!(of(Metric::Snip, Some(Reduction::NormOfMean)).problems().is_empty());
    }
}
