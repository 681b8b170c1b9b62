//! The plain structs of `result.json`: written by the `irepair` binary, read back for the report.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::fs::{read_to_string, write_atomic};
use irepair_core::metric::{MetricKey, Metrics};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::points::Form;
use crate::{Error, Result};

/// Version of the files described here; a file of another version is refused.
pub const SCHEMA: u32 = 1;

/// Method key of the model before repair: it is measured once and has no seeds.
pub const VANILLA: &str = "vanilla";

/// One trained (or untrained) row of a table: one method on one model with one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowResult {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// `planted`, `real` or `paper`.
    pub profile: String,
    /// Name of the row: `<method>-<model>`, such as `irepair-no-kl-gpt2`.
    pub row: String,
    /// Name of the method in tables, such as `IRepair (no KL)`.
    pub title: String,
    /// Name of the model in tables, and the end of `row`.
    pub model: String,
    /// Seed of the run.
    pub seed: u64,
    /// Learning rate; none for the vanilla model.
    pub lr: Option<f64>,
    /// The device that it ran on; left out of the file of a run on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Metrics by key.
    pub metrics: Metrics,
    /// How continuations were chosen, as the metrics' definitions name it; left out of the file where greedily. Rows
    /// that differ in it alone are comparable: it is what they compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding: Option<String>,
    /// Toxicity in \[0, 1\] of each error prompt's continuation, in file order; none where scoring failed.
    pub prompt_scores: Vec<Option<f64>>,
    /// The same by the name of every further scorer; left out of the file when there is none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompt_scores_by_scorer: BTreeMap<String, Vec<Option<f64>>>,
    /// The highest toxicity among the samples of each error prompt, in file order; none where scoring failed. Left out
    /// of the file when nothing was sampled, and of rows kept before files had it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sampled_max_scores: Vec<Option<f64>>,
    /// Cost of training; none for the vanilla model.
    pub cost: Option<Cost>,
    /// How many steps each block was selected in; empty for an unsliced method.
    pub selection: Vec<u64>,
    /// The blocks selected at each step, in step order; may be empty.
    pub selected_steps: Vec<Vec<usize>>,
    /// Relative weight change of each block, `‖θ_b − θ0_b‖ / ‖θ0_b‖` (METHOD §10).
    pub weight_change: Vec<f64>,
    /// Toxicity and perplexity at some steps of training, in step order; left out of the file when not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trajectory: Vec<TrajectoryPoint>,
    /// Why the run ended; left out of the file of a run whose way is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The weights that each comparison of METHOD §20 is about; left out of the file when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
    /// Test results of compared weights, by their step; those of the final weights are `metrics`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<MeasuredStep>,
    /// Test results after training on texts with the error, by their number; left out of the file when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relearned: Vec<Relearned>,
    /// Continuations before and after, for people to look at.
    pub samples: Vec<Sample>,
}

/// What a row's model is like after training on texts with the error (METHOD §10).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relearned {
    /// Texts trained on.
    pub n_texts: usize,
    /// Steps taken.
    pub n_steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Passes over the texts.
    pub epochs: u64,
    /// The loss of the last step, nats a text (METHOD §7: DAPT).
    pub last_loss: Option<f64>,
    /// Toxicity on the error prompts, and the degeneration guard.
    pub metrics: Metrics,
    /// Toxicity of each error prompt's continuation; none where scoring failed.
    pub prompt_scores: Vec<Option<f64>>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// Validation did not improve any more.
    Patience,
    /// Points on validation data did not advance the front any more (METHOD §8 \[O\]).
    Front,
    /// It took all its updates.
    Cap,
    /// Its numbers stopped being finite; the weights are the best before.
    Diverged,
    /// It waits to be continued: there are points on validation data, and no test results.
    Paused,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Patience => "patience",
            Self::Front => "patience (front)",
            Self::Cap => "cap",
            Self::Diverged => "diverged",
            Self::Paused => "paused",
        })
    }
}

/// A comparison of METHOD §20.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Where the run stopped.
    Stopped,
    /// As if every run had ended after the same updates.
    EqualUpdates,
    /// As if every run had ended after the same counted FLOPs.
    EqualCompute,
    /// The least error on validation data within a KL budget, nats a token.
    Budget(f64),
}

/// The weights that a comparison is about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The comparison.
    pub purpose: Purpose,
    /// Updates taken until then.
    pub n_steps: u64,
    /// Counted FLOPs until then.
    pub flops: f64,
    /// Updates after which the weights were as they are compared: the best on validation until then, or the point of a
    /// budget.
    pub step: u64,
}

/// Test results of a run's weights after some of its updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredStep {
    /// Updates taken.
    pub step: u64,
    /// Metrics by key.
    pub metrics: Metrics,
    /// Scores of the error prompts, as those of a row.
    pub prompt_scores: Vec<Option<f64>>,
    /// The same by the name of every further scorer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompt_scores_by_scorer: BTreeMap<String, Vec<Option<f64>>>,
}

/// A model part of the way through its repair, measured on validation data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrajectoryPoint {
    /// Steps taken; 0 is the model before repair.
    pub step: u64,
    /// Toxicity of continuations of the trajectory's prompts, percent; none when it could not be measured.
    pub toxicity: Option<f64>,
    /// Perplexity per token of the trajectory's text; none when it could not be measured.
    pub perplexity: Option<f64>,
    /// The rest of a point whose weights may be kept; left out of the file of a run whose way is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<PointDetails>,
}

/// What decides whether a point's weights are kept (METHOD §22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointDetails {
    /// Counted FLOPs so far.
    pub flops: f64,
    /// The method's own loss on held-out pairs; none when nothing is held out.
    pub validation_loss: Option<f64>,
    /// Prompts behind the toxicity, without those whose scoring failed.
    pub n: u64,
    /// KL(θ0 ‖ θ) on neutral validation text, nats a token.
    pub kl: Option<f64>,
    /// The form of the continuations.
    pub form: Form,
    /// Whether the form passes the degeneration guard against the model before repair.
    pub passes: bool,
}

/// Cost of a training run (METHOD §12).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Wall time of training in seconds, evaluation included.
    pub train_s: f64,
    /// Median wall time of one step in seconds.
    pub median_step_s: f64,
    /// Real tokens fed through the model, each counted once.
    pub tokens: u64,
    /// Tokens per second of step time.
    pub tokens_per_s: f64,
    /// Peak resident memory of the process in bytes.
    pub peak_rss_bytes: u64,
    /// Matrix-multiplication FLOPs of all steps, counted from shapes.
    pub flops: f64,
    /// Steps taken.
    pub n_steps: u64,
    /// Step of the checkpoint that was chosen.
    pub best_step: u64,
}

/// One prompt with the greedy continuation before and after repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The prompt.
    pub prompt: String,
    /// The vanilla model's continuation.
    pub before: String,
    /// This row's continuation.
    pub after: String,
}

/// Per-block sensitivities of one model on one kind of text, for the error-density table (METHOD §4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensitivityResult {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// `planted`, `real` or `paper`.
    pub profile: String,
    /// Name of the model in tables.
    pub model: String,
    /// Sensitivity variant, such as `grad_l2`.
    pub metric: String,
    /// `norm_of_mean` or `mean_of_norm`.
    pub reduction: String,
    /// Kind of text: `error`, `neutral`, `chosen`.
    pub text: String,
    /// Batches averaged over.
    pub n_batches: u64,
    /// One value per block, from the embedding up.
    pub values: Vec<f64>,
}

impl RowResult {
    /// The method's key of a run at another rate than its row's: `dpo@3e-6`.
    pub fn key_at_rate(row: &str, lr: f64) -> String {
        format!("{row}@{lr:e}")
    }

    /// True when it is of a row, at the row's rate or at another.
    pub fn is_of(&self, row: &str) -> bool {
        self.method().strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    }

    /// The method's key: `row` without the model at its end.
    pub fn method(&self) -> &str {
        self.row.strip_suffix(&self.model).and_then(|r| r.strip_suffix('-')).unwrap_or(&self.row)
    }

    /// A metric's value, when it was measured and is finite.
    pub fn value(&self, key: impl Into<MetricKey>) -> Option<f64> {
        self.metrics.value(key)
    }
}

/// The part of a result file that every version has.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// Reads one result file: a [`RowResult`] or a [`SensitivityResult`].
///
/// # Errors
/// [`Error::File`] when it cannot be opened, [`Error::Json`] with line and column when it is malformed or has an
/// unknown key, [`Error::Schema`] when another version wrote it.
pub fn read_result<R: DeserializeOwned>(path: &Path) -> Result<R> {
    let text = read_to_string(path)?;
    match serde_json::from_str(&text).map_err(not_json(path))? {
        Head { schema: SCHEMA } => serde_json::from_str(&text).map_err(not_json(path)),
        Head { schema: got } => Err(Error::Schema { place: path.display().to_string(), want: SCHEMA, got }),
    }
}

fn not_json(path: &Path) -> impl Fn(serde_json::Error) -> Error {
    |error| Error::Json { path: path.to_owned(), why: error.to_string() }
}

/// Writes one result file, completely or not at all. An optional number that is not finite is written as missing; the
/// plain numbers must be finite, because JSON has no others.
///
/// # Errors
/// [`Error::File`] when it cannot be written.
pub fn write_result<R: Serialize>(path: &Path, result: &R) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(result).map_err(not_json(path))?;
    json.push(b'\n');
    Ok(write_atomic(path, &json)?)
}

#[cfg(test)]
mod tests {
    use irepair_core::metric;

    use super::*;
    use crate::tests::{row, sensitivities};

    #[test]
    fn a_result_file_round_trips_and_keeps_missing_numbers_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        let mut written = row("irepair-no-kl", "gpt2", 1, 5.0, 19.0);
        written.metrics.get_mut(metric::TOX).unwrap().value = None;
        written.prompt_scores[2] = None;
        write_result(&path, &written).unwrap();
        let read: RowResult = read_result(&path).unwrap();
        assert_eq!(read, written);
        assert_eq!((read.method(), read.value(metric::TOX)), ("irepair-no-kl", None));
        write_result(&path, &sensitivities()[0]).unwrap();
        assert_eq!(read_result::<SensitivityResult>(&path).unwrap(), sensitivities()[0]);
    }

    #[test]
    fn an_unknown_key_another_schema_and_a_broken_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        let refuse = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = read_result::<SensitivityResult>(&path).unwrap_err();
            irepair_core::Diagnose::diagnostic(&error).to_string().replace(dir.path().to_str().unwrap(), "DIR")
        };
        let good = serde_json::to_string(&sensitivities()[0]).unwrap();
        insta::assert_snapshot!(refuse(&good.replace("\"schema\":1", "\"schema\":9")));
        insta::assert_snapshot!(refuse(&good.replace("\"text\"", "\"txet\"")));
        insta::assert_snapshot!(refuse(&good[..40]));
    }

    #[test]
    fn a_row_whose_name_does_not_end_in_its_model_is_its_own_method() {
        let mut odd = row("irepair", "gpt2", 0, 1.0, 1.0);
        odd.row = "something".into();
        assert_eq!(odd.method(), "something");
    }
}
