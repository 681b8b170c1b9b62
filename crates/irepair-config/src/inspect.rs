//! Settings of `irepair sensitivity` and `irepair score`.

use std::path::PathBuf;

use irepair_core::Columns;

use crate::names::entry;
use crate::{Checks, Dtype, Long, Metric, PromptSide, Reduction, UnitKind, Validate};

options! {
    /// Settings of a sensitivity table: which block carries the error (METHOD §3, §4).
    pub struct SensitivityOptions => SensitivityPlan(this) {
        /// Directory of the model.
        model: PathBuf as "DIR" [required],
        /// Preference pairs, JSONL with `prompt`, `chosen` and `rejected`.
        data: PathBuf as "FILE" [required],
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Neutral text, measured too; metrics contrast, snip-diff and wanda-diff compare with it (without it, with
        /// chosen text), and efficiency needs it for its Fisher matrix, of 64 texts at most.
        #[arg(value_name = "FILE", alias = "general")]
        #[serde(alias = "general")]
        neutral: PathBuf,
        /// The metric (METHOD §3 [D]). Default grad-l2.
        #[arg(value_name = "METRIC", value_parser = entry::<Metric>())]
        metric: Metric = Metric::GradL2,
        /// How batches become one value (METHOD §3 [D]). Default norm-of-mean, and mean-of-norm for fisher, efficiency,
        /// act-dist, atp, eap-ig, patching, wanda-diff, mask and random, which have no value at a mean gradient.
        #[arg(value_name = "REDUCTION", value_parser = entry::<Reduction>())]
        reduction: Reduction = this.metric().default_reduction(),
        /// Batches measured at most (METHOD §17 [F]). Default 500.
        n_batches: u64 as "N" = 500,
        /// Pairs per batch (METHOD §17 [D]). Default 4.
        batch_size: usize as "N" = 4,
        /// Longest prompt in tokens (METHOD §17 [O]). Default 64.
        max_prompt: usize as "TOKENS" = 64,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
        /// Longest continuation in tokens (METHOD §17 [O]). Default 64.
        max_continuation: usize as "TOKENS" = 64,
        /// Leave prompt tokens out of the loss (METHOD §2 [D]). Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        skip_prompt: bool = false,
        /// Measure the chosen text of the pairs too: the same loss on the same subjects without the error. Default
        /// false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        chosen: bool = false,
        /// Kind of units that get a value each, from the same passes; act-dist, atp, eap-ig and patching rank blocks
        /// alone. Without it, blocks; with it, `out` holds rankings of the units, such as `error.ranking.jsonl`, which
        /// `grade` reads (METHOD §23 [O]).
        #[arg(value_name = "KIND", value_parser = entry::<UnitKind>())]
        unit: UnitKind,
        /// Directory the values are written to: `error.json`, with `chosen` also `chosen.json`, with `neutral` also
        /// `neutral.json`. With `unit`, rankings alone.
        out: PathBuf as "DIR",
    }
    common: seed device dtype threads json;
}

impl Validate for SensitivityOptions {
    fn clashes(&self, checks: &mut Checks) {
        let metric = self.metric();
        let what = format!("clashes with `metric`: {metric} has no value at a mean gradient, only mean-of-norm");
        let alone = self.unit.is_some_and(|unit| unit != UnitKind::Block) && !metric.has_units();
        checks.clash(alone, "unit", &format!("clashes with `metric`: {metric} is of whole blocks alone"));
        checks.clash(self.reduction().row().at_mean_gradient && !metric.has_mean_gradient(), "reduction", &what);
    }
}

options! {
    /// Settings of a scoring: one NLL per text.
    pub struct ScoreOptions => ScorePlan(this) {
        /// Directory of the model.
        model: PathBuf as "DIR" [required],
        /// Texts, JSONL with `text`.
        input: PathBuf as "FILE" [required],
        /// A text longer than the model's context: `refuse` stops and names its line, `window` scores it in windows,
        /// every token but the first once, `cut` scores its first tokens (docs/FILES.md). Default refuse.
        long: Long = Long::Refuse,
        /// Texts computed at once; changes the speed, not the result. Default 8.
        batch_size: usize as "N" = 8,
    }
    common: device dtype threads;
}

impl Validate for ScoreOptions {}

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
        for metric in [Metric::EapIg, Metric::Patching] {
            let heads = SensitivityOptions { unit: Some(UnitKind::Head), ..of(metric, None) };
            assert_eq!(heads.problems().len(), 1, "{metric}");
        }
        for metric in [Metric::WandaDiff, Metric::Mask] {
            let heads = SensitivityOptions { unit: Some(UnitKind::Head), ..of(metric, None) };
            assert!(heads.problems().is_empty(), "{metric}");
        }
        let blocks = SensitivityOptions { unit: Some(UnitKind::Block), ..of(Metric::Atp, None) };
        assert!(blocks.problems().is_empty());
        let heads = SensitivityOptions { unit: Some(UnitKind::Head), ..of(Metric::Atp, None) };
        assert_eq!(heads.problems()[0].to_string(), "`unit`: clashes with `metric`: atp is of whole blocks alone");
    }
}
