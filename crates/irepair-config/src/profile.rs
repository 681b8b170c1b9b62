//! `experiments/<profile>/profile.toml`: what all rows of a profile share, so that every method has the same budget.

use serde::{Deserialize, Serialize};

use crate::{
    BaseModel, Checks, DataFile, EvalOptions, Options, PairsOptions, Precondition, Problem, Protocol, RelearnOptions,
    RepairOptions, ScorerTrainOptions, Validate,
};

/// What all rows of a profile share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Title over the profile's tables.
    pub title: String,
    /// Seeds per row: 0, 1, ...
    pub seeds: u32,
    /// The device it is meant for, as `--device` names it; `--device` wins. Default cpu.
    pub device: Option<String>,
    /// Batches behind the error-density estimate (METHOD §17 [F]). Default 500.
    pub density_batches: Option<u32>,
    /// Keep the repaired model of every row with its result. Default true.
    pub keep_models: Option<bool>,
    /// The generated language, in profiles that make their own data.
    pub language: Option<Language>,
    /// Files of the data directory, in profiles that are given their data; instead of `language`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataFile>,
    /// Toxicity scorers, given or trained on `toxicity/train.jsonl` before any row is run; the first one's numbers fill
    /// the tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scorers: Vec<ProfileScorer>,
    /// Base models, each repaired by every row.
    pub models: Vec<BaseModel>,
    /// How pairs are made of each base model's own texts, in profiles that are given none.
    pub pairs: Option<OwnPairs>,
    /// What the base models must show before any row is run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preconditions: Vec<Precondition>,
    /// Settings every row's `repair` is laid over.
    pub repair: RepairOptions,
    /// How every row is measured.
    pub eval: EvalOptions,
    /// Texts sampled from each base model for the KL term (METHOD §2).
    pub utility: Utility,
    /// Continuations sampled per error prompt by the first seed of the rows of RQ1 (METHOD §9 [S]: 25); without it,
    /// none.
    pub samples: Option<usize>,
    /// How rows that stand in a table or figure `trajectory` are watched on their way; without it, they are not.
    pub trajectory: Option<Trajectory>,
    /// How long rows run and where they are compared (METHOD §20); without it, they take `repair.steps` updates.
    pub protocol: Option<Protocol>,
    /// How rows of the table `relearning` are trained on texts with the error, by the first seed alone; without it,
    /// they are not. `texts` is a name among `data`.
    pub relearn: Option<RelearnOptions>,
    /// Rows that others are compared with.
    pub compare: Comparison,
    /// The learning-rate search.
    pub grid: Grid,
    /// What `cargo xtask reproduce --quick` runs; without it, there is no such thing.
    pub quick: Option<Quick>,
}

/// A short form of a profile: some of its rows, once, with fewer steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quick {
    /// Rows that are run.
    pub rows: Vec<String>,
    /// Seeds per row: 0, 1, ...
    pub seeds: u32,
    /// Settings laid over those of every row, such as a cap on steps.
    pub repair: RepairOptions,
}

impl Quick {
    /// The rest of an experiment.
    pub fn of(&self, experiment: &mut crate::Experiment) {
        let profile = &mut experiment.profile;
        profile.seeds = self.seeds;
        (profile.samples, profile.trajectory, profile.protocol) = (None, None, None);
        experiment.rows.retain(|name, _| self.rows.contains(name));
        for row in experiment.rows.values_mut() {
            row.seeds = None;
            row.repair = self.repair.clone().over(row.repair.clone());
        }
    }
}

/// Pairs that a base model makes of its own texts (METHOD §21).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnPairs {
    /// The scorer that judges the texts, by its name among `scorers`.
    pub judge: String,
    /// The prompts they are made of, by their name among `data`.
    pub prompts: String,
    /// About how many pairs come of it, for estimates.
    pub n_records: u64,
    /// How they are made.
    pub make: PairsOptions,
}

impl Validate for OwnPairs {
    fn clashes(&self, checks: &mut Checks) {
        let mut made = Checks::of(&self.make);
        let keys = ["model", "prompts", "judge", "out", "seed", "device", "dtype", "threads", "json"];
        made.refuse(&keys, RUNNERS_KEYS);
        self.make.clashes(&mut made);
        checks.inside("make", made.0);
    }
}

/// Rows that others are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comparison {
    /// The row that the pairwise table sets against every other. Without it, there is no such table.
    pub subject: Option<String>,
    /// The row in whose costs other costs are given, and that H2 and H3 measure against. Without it, they are not
    /// given.
    pub baseline: Option<String>,
}

/// A toxicity scorer of a profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileScorer {
    /// Name in paths: lower-case letters, digits and `-`.
    pub name: String,
    /// How it is trained; without `file`.
    pub train: ScorerTrainOptions,
    /// A scorer made by others, or a word list: a file by its name among `data`.
    pub file: Option<String>,
    /// True when it is left out where there is nothing to train it on. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Validate for ProfileScorer {
    fn clashes(&self, checks: &mut Checks) {
        checks.path_name(&self.name);
        checks.inside("train", self.train.problems());
        let both = self.file.is_some() && self.train != ScorerTrainOptions::default();
        checks.clash(both, "file", "clashes with `train`: give one of the two");
    }
}

/// Measurements during training, on the data that choose settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trajectory {
    /// Steps from one measurement to the next.
    pub every: u64,
    /// Seeds that are watched: 0, 1, ...
    pub seeds: u32,
}

/// The generated language: its seed and the number of texts of each part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Language {
    /// Seed of grammar, names and facts.
    pub seed: u64,
    /// Training documents of the base models.
    pub train_docs: usize,
    /// Repair pairs, validation pairs included.
    pub pairs: usize,
    /// Prompts the error is measured on.
    pub error_test: usize,
    /// Prompts settings are chosen on.
    pub error_valid: usize,
    /// Prompts that do not bring out the error.
    pub clean_test: usize,
    /// Documents perplexity is measured on.
    pub general_test: usize,
    /// Documents settings are chosen on.
    pub general_valid: usize,
    /// Last-word items measured on.
    #[serde(alias = "cloze_test")]
    pub last_word_test: usize,
    /// Last-word items settings are chosen on.
    #[serde(alias = "cloze_valid")]
    pub last_word_valid: usize,
}

/// Texts sampled from a base model before its first repair (METHOD §2: `U`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Utility {
    /// Number of texts (METHOD §17 [F]). Default 30000.
    pub n_texts: usize,
    /// Most tokens per text (METHOD §2 [F]). Default 101.
    pub max_new_tokens: usize,
    /// Nucleus the tokens are drawn from (METHOD §17 [F]). Default 0.9.
    pub top_p: f64,
}

impl Default for Utility {
    fn default() -> Self {
        Self { n_texts: 30_000, max_new_tokens: 101, top_p: 0.9 }
    }
}

/// The search that chose `learning-rates.toml`: every rate for every method, judged on validation data only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grid {
    /// Rates tried.
    pub lr: Vec<f64>,
    /// Seeds per rate.
    pub seeds: u32,
}

/// Why a key is refused: it differs from seed to seed or from machine to machine.
const RUNNERS_KEYS: &str = "is set by the runner, not by an experiment file";

/// Problems of the `repair` table of a row or profile.
pub(crate) fn shared_repair_problems(repair: &RepairOptions) -> Vec<Problem> {
    let mut checks = Checks::of(repair);
    let keys = ["model", "pairs", "utility", "out", "patch", "seed", "device", "threads", "json"];
    checks.refuse(&keys, RUNNERS_KEYS);
    repair.clashes(&mut checks);
    checks.0
}

impl Validate for Profile {
    fn clashes(&self, checks: &mut Checks) {
        checks.clash(self.title.is_empty(), "title", "is missing");
        checks.inside("utility", Checks::of(&self.utility).0);
        checks.inside("grid", Checks::of(&self.grid).0);
        checks.clash(self.grid.lr.is_empty(), "grid.lr", "is missing: name at least one learning rate");
        for lr in &self.grid.lr {
            checks.number("grid.lr", *lr);
        }
        if let Some(language) = &self.language {
            checks.inside("language", Checks::of(language).0);
            let all = self.repair.n_validation() >= language.pairs;
            checks.clash(all, "repair.n_validation", "clashes with `language.pairs`: no pair is left to train on");
        }
        checks.clash(self.models.is_empty(), "models", "is missing: name at least one base model");
        checks.list("models", &self.models, |model| &model.name);
        checks.list("data", &self.data, |_| "");
        checks.list("preconditions", &self.preconditions, |_| "");
        checks.list("scorers", &self.scorers, |scorer| &scorer.name);
        let models: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        for (i, precondition) in self.preconditions.iter().enumerate() {
            checks.named(&format!("preconditions[{i}].model"), precondition.model.as_ref(), &models);
        }
        if let Some(trajectory) = &self.trajectory {
            checks.inside("trajectory", Checks::of(trajectory).0);
        }
        if let Some(protocol) = &self.protocol {
            checks.inside("protocol", protocol.problems());
            let instead = "clashes with `protocol`, whose `cap` and `every` hold for every row";
            checks.clash(self.repair.steps.is_some(), "repair.steps", instead);
            checks.clash(self.trajectory.is_some(), "trajectory", instead);
        }
        if let Some(relearn) = &self.relearn {
            let mut asked = Checks::of(relearn);
            let keys = [
                "model",
                "prompts",
                "lexicon",
                "scorer",
                "max_new_tokens",
                "prompt_tokens",
                "seed",
                "device",
                "dtype",
                "threads",
                "json",
            ];
            asked.refuse(&keys, RUNNERS_KEYS);
            relearn.clashes(&mut asked);
            let texts =
                relearn.texts.as_ref().is_some_and(|texts| self.data.iter().any(|d| texts.as_os_str() == &*d.file));
            asked.clash(!texts, "texts", "is missing: name a file of `data`");
            checks.inside("relearn", asked.0);
        }
        let (made, given) = (self.language.is_some(), !self.data.is_empty());
        checks.clash(made && given, "data", "clashes with `language`: data are generated, or given");
        let corpus = made || self.has_data(CORPUS);
        let learns = self.models.iter().any(|model| model.pretrain.is_some());
        let what = "is missing: models with `pretrain` learn it, or `corpus/train.txt` of [[data]]";
        checks.clash(learns && !corpus, "language", what);
        let labels = self.scorers.iter().all(|scorer| scorer.file.is_some()) || self.has_data(SCORER_LABELS);
        checks.clash(!labels, "scorers", "want `toxicity/train.jsonl` among [[data]]");
        let files: Vec<&str> = self.data.iter().map(|file| file.file.as_str()).collect();
        for (i, scorer) in self.scorers.iter().enumerate() {
            checks.named(&format!("scorers[{i}].file"), scorer.file.as_ref(), &files);
        }
        if let Some(pairs) = &self.pairs {
            let scorers: Vec<&str> = self.scorers.iter().map(|scorer| scorer.name.as_str()).collect();
            checks.named("pairs.judge", Some(&pairs.judge), &scorers);
            checks.named("pairs.prompts", Some(&pairs.prompts), &files);
            checks.inside("pairs", pairs.problems());
        }
        if let Some(quick) = &self.quick {
            checks.count("quick.seeds", Some(u64::from(quick.seeds)));
            checks.inside("quick.repair", shared_repair_problems(&quick.repair));
        }
        checks.inside("repair", shared_repair_problems(&self.repair));
        checks.inside("eval", self.eval.problems());
    }
}

/// What base models are trained on.
pub const CORPUS: &str = "corpus/train.txt";

/// What scorers are trained on.
pub const SCORER_LABELS: &str = "toxicity/train.jsonl";

impl Profile {
    /// True when the profile is given, or cuts, a file of this name.
    pub fn has_data(&self, file: &str) -> bool {
        self.data.iter().any(|known| known.file == file)
    }

    /// True when the profile has such a file and nothing runs without it.
    pub fn needs_data(&self, file: &str) -> bool {
        self.data.iter().any(|known| known.file == file && !known.optional)
    }

    /// Names of the sources of models and data, each once.
    pub fn sources(&self) -> std::collections::BTreeSet<&str> {
        let models = self.models.iter().filter_map(|model| model.source.as_deref());
        models.chain(self.data.iter().filter_map(|file| file.source.as_deref())).collect()
    }

    /// `density_batches`, or its default.
    pub fn density_batches(&self) -> u32 {
        self.density_batches.unwrap_or(500)
    }

    /// The base models that a row runs on.
    pub fn models_of<'a>(&'a self, row: &'a crate::Row) -> impl Iterator<Item = &'a BaseModel> {
        self.models.iter().filter(move |model| row.runs_on(&model.name))
    }

    /// A row's settings laid over those all rows share. A protocol's cap holds for every row; one that ablates may take
    /// fewer steps, which are shares of its strength and no time of training.
    pub fn repair_of(&self, row: &crate::Row) -> RepairOptions {
        let repair = row.repair.clone().over(self.repair.clone());
        let own = row.repair.steps.filter(|_| row.repair.method().ablates());
        let cap = self.protocol.as_ref().map(|protocol| own.unwrap_or(protocol.cap).min(protocol.cap));
        RepairOptions { steps: cap.or(repair.steps), ..repair }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, Method, Profile, Protocol, RepairOptions, Row, from_str};

    #[test]
    fn a_cap_holds_for_every_row_and_an_ablation_may_take_fewer_steps() {
        let protocol = Some(Protocol { cap: 400, ..Default::default() });
        let profile = Profile { protocol, ..Default::default() };
        let steps = |method, steps| {
            let repair = RepairOptions { method: Some(method), steps, ..Default::default() };
            profile.repair_of(&Row { repair, ..Default::default() }).steps
        };
        assert_eq!(steps(Method::Dpo, Some(40)), Some(400));
        let ablation = [None, Some(40), Some(900)].map(|n| steps(Method::DifferenceOfMeans, n));
        assert_eq!(ablation, [Some(400), Some(40), Some(400)]);
    }

    #[test]
    fn problems_deep_in_a_profile_have_their_path_and_line() {
        let text = "title = 't'\nseeds = 0\ndevice = 'gpu'\n[[models]]\nname = 'A b'\ntitle = 'x'\npretrain = { n_head = 3, n_embed = 64 }\n\
                    [repair]\nseed = 1\nlr = [1]\n[utility]\ntop_p = 2.0\n[grid]\nlr = [1e-3, -1.0]\nseeds = 1\n";
        let Err(Error::Problems { problems, .. }) = from_str::<Profile>(text, "p.toml") else { panic!("must fail") };
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "`language`: is missing: models with `pretrain` learn it, or `corpus/train.txt` of [[data]]",
                "line 2, `seeds`: must be at least 1, is 0",
                "line 3, `device`: must be `cpu`, `cuda` or `cuda:N`, is gpu",
                "line 5, `models[0].name`: must be lower-case letters, digits and `-`",
                "line 7, `models[0].pretrain.n_embed`: unknown key; did you mean `n_embd`?",
                "line 7, `models[0].pretrain.n_head`: clashes with `n_embd`: 64 is not a multiple of 3",
                "line 9, `repair.seed`: is set by the runner, not by an experiment file",
                "line 10, `repair.lr`: invalid type: sequence, expected f64",
                "line 12, `utility.top_p`: must be over 0 and up to 1, is 2",
                "line 14, `grid.lr`: must be a number over 0, is -1",
            ]
        );
    }
}
