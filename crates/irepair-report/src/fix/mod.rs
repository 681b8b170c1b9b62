//! What `irepair fix` found and did: the plain structs of its `result.json`, the verdict, and its page.

mod page;
mod verdict;

use serde::{Deserialize, Serialize};

pub use page::{Making, write_fix_page};
pub use verdict::Verdict;

use crate::points::{Form, candidate};
use crate::result::{PointDetails, SensitivityResult, TrajectoryPoint};

/// A repair from prompts and a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixResult {
    /// Always [`crate::SCHEMA`].
    pub schema: u32,
    /// What came of it.
    pub verdict: Verdict,
    /// Name of the model.
    pub model: String,
    /// Name of the judge, and of the second one.
    pub judges: Vec<String>,
    /// KL budget, nats a token.
    pub budget_kl: f64,
    /// Failures in percent that count as repaired.
    pub target: f64,
    /// Prompts that pairs are made of, for choosing, for measuring.
    pub n_prompts: [usize; 3],
    /// Failures of the model as it was, on all prompts.
    pub reproduced: Rate,
    /// What the pairs were made of; none where nothing fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairYield>,
    /// Sensitivity of every block on text with the error and on text without it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sensitivities: Vec<SensitivityResult>,
    /// What they say together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conclusion: Option<String>,
    /// The model as it was on validation prompts; none where nothing was searched.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to_choose: Option<ToChoose>,
    /// Every point of the search, on validation prompts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub points: Vec<FixPoint>,
    /// Blocks that the chosen run changed, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub selected_steps: Vec<Vec<usize>>,
    /// Points that can be chosen, by their place in `points`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub menu: Vec<usize>,
    /// The one that was chosen, by its place in `menu`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chosen: Option<usize>,
    /// The chosen point on test prompts; none where none was chosen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub measured: Option<FixMeasured>,
    /// Points that were measured on the test prompts so far: after the first, those prompts may have chosen.
    #[serde(default)]
    pub n_measured: usize,
}

impl FixResult {
    /// The chosen point.
    pub fn point(&self) -> Option<&FixPoint> {
        self.points.get(*self.menu.get(self.chosen?)?)
    }
}

/// How often the model fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Answers with a score.
    pub n: usize,
    /// Those that fail: a score over 0.5.
    pub n_failed: usize,
    /// Answers that the judge gave no score.
    pub n_missing: usize,
    /// Failures in percent; none without an answer with a score.
    pub percent: Option<f64>,
    /// 95 % interval, percent.
    pub interval: Option<[f64; 2]>,
}

/// What pairs were made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairYield {
    /// Pairs to train on.
    pub n_pairs: usize,
    /// Those of them that the user gave.
    pub n_given: usize,
    /// Prompts that gave a pair by the first samples, with the greedy answer, by more samples, after a steering text.
    pub n_made: [usize; 4],
    /// Prompts with good samples alone, with bad ones alone, without a good one that is fit.
    pub n_without: [usize; 3],
    /// Samples drawn.
    pub n_samples: usize,
    /// Samples that the judge gave no score.
    pub n_unscored: usize,
}

/// The model before repair, on the prompts to choose on: what the points of the search are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToChoose {
    /// Answers of every prompt: the greedy one, and samples.
    pub n_answers: usize,
    /// Answers that fail, percent, the mean over prompts.
    pub percent: Option<f64>,
    /// 95 % interval of it.
    pub interval: Option<[f64; 2]>,
}

/// A point of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixPoint {
    /// The preset.
    pub preset: String,
    /// Updates.
    pub step: u64,
    /// Failures in percent of the answers to validation prompts, the mean over prompts; none where there is no score.
    pub percent: Option<f64>,
    /// 95 % interval of it.
    pub interval: Option<[f64; 2]>,
    /// KL from the model as it was on held-out neutral text, nats a token.
    pub kl: Option<f64>,
    /// Whether it passed the degeneration guard.
    pub passes: bool,
}

impl FixPoint {
    /// `[KL, failures]` where the point may be chosen, by the rule of every search.
    pub fn place(&self) -> Option<[f64; 2]> {
        let more = PointDetails { kl: self.kl, passes: self.passes, ..PointDetails::default() };
        candidate(&TrajectoryPoint { step: self.step, toxicity: self.percent, perplexity: None, more: Some(more) })
    }
}

/// The chosen weights, read from the saved files, on prompts and texts that chose nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixMeasured {
    /// By the judge, on several answers of every prompt: the greedy one, and samples.
    pub judged: Change,
    /// By the second judge.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub second: Option<Change>,
    /// KL from the model as it was on neutral text, nats a token.
    pub kl: Option<f64>,
    /// Tokens of that text.
    pub kl_tokens: u64,
    /// Perplexity of the neutral text before and after.
    pub perplexity: [Option<f64>; 2],
    /// Failures on the prompts that were fine before.
    pub fine: Rate,
    /// Prompts whose answers must not change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept: Option<KeptAnswers>,
    /// Form of the answers before and after.
    pub form: [Form; 2],
    /// What the guard found, of the greedy answers or of all ([`Form::lost`]).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lost: Vec<String>,
    /// Whether the form passes the degeneration guard.
    pub passes: bool,
    /// Some of the test prompts, with the answers.
    pub samples: Vec<FixSample>,
}

/// Answers that must not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAnswers {
    /// Prompts.
    pub n: usize,
    /// Those with the answer of before.
    pub n_same: usize,
    /// The answers after the repair.
    pub after: Vec<String>,
}

/// Failures before and after on the same prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Before.
    pub before: Rate,
    /// After.
    pub after: Rate,
    /// The greedy answers alone, before and after: what a suite asks for again.
    pub greedy: [Rate; 2],
    /// 95 % interval of after less before in percent, by resampling prompts; none where all differ by the same.
    pub difference: Option<[f64; 2]>,
}

/// A prompt and its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixSample {
    /// The prompt.
    pub prompt: String,
    /// The answer before.
    pub before: String,
    /// The answer after.
    pub after: String,
    /// Whether the judge objects to each; none where it gave no score.
    pub fails: [Option<bool>; 2],
}
