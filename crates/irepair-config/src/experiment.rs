//! `experiments/<profile>/`: the profile, one file per row, and the learning rates that were chosen.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::fs::list;
use irepair_core::spec::Range;
use serde::{Deserialize, Serialize};

use crate::profile::shared_repair_problems;
use crate::{
    Checks, Comparison, Error, FigureKey, Paper, PaperMethod, PaperModel, Problem, Profile, RepairOptions, Result,
    TableKey, Validate, from_toml,
};

/// One row of the tables: a method with its settings, run for every model and seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Row {
    /// Name in tables.
    pub title: String,
    /// Tables it stands in.
    pub tables: Vec<TableKey>,
    /// Figures it stands in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<FigureKey>,
    /// Place among the rows of a table, lowest first. Rows without it come last, by name.
    pub order: Option<u32>,
    /// The method of experiments/paper/paper.toml whose numbers are shown with this row's. Without it, none are.
    pub paper: Option<String>,
    /// Seeds, instead of the profile's number.
    pub seeds: Option<u32>,
    /// Base models it runs on; without it, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The row whose learning rates it takes, for a comparison that changes one thing; without it, it has its own.
    pub rates_of: Option<String>,
    /// Hold KL on texts the base model writes itself, though the profile has neutral ones. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_utility: bool,
    /// Updates from one point on validation data to the next, instead of the profile's: for a method whose updates are
    /// not those of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Continuations sampled per prompt, of which the one is measured that `judge` gives the lowest score (METHOD §26
    /// [O]): with method vanilla a row without training. Without it, greedy ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of: Option<usize>,
    /// The profile's scorer that chooses under `best_of`; not the first one, which fills the tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// Settings, laid over the profile's.
    pub repair: RepairOptions,
}

impl Row {
    /// True when it runs on this base model.
    pub fn runs_on(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|named| named == model)
    }
}

impl Validate for Row {
    fn clashes(&self, checks: &mut Checks) {
        checks.clash(self.title.is_empty(), "title", "is missing");
        let tables: Vec<String> = TableKey::ALL.iter().map(ToString::to_string).collect();
        let missing = format!("is missing: name at least one of {}", tables.join(", "));
        checks.clash(self.tables.is_empty(), "tables", &missing);
        checks.clash(self.repair.method.is_none(), "repair.method", "is missing");
        checks.count("every", self.every);
        checks.count("best_of", self.best_of.map(|n| n as u64));
        let alone = self.best_of.is_some() != self.judge.is_some();
        checks.clash(alone, "best_of", "needs `judge`, and `judge` needs it: one samples, the other chooses");
        checks.inside("repair", shared_repair_problems(&self.repair));
    }
}

/// Learning rates chosen by the search: row name, or row name and KL budget, then model name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LearningRates(pub BTreeMap<String, BTreeMap<String, f64>>);

impl LearningRates {
    /// The rate chosen for a row and a model.
    pub fn get(&self, row: &str, model: &str) -> Option<f64> {
        self.0.get(row)?.get(model).copied()
    }

    /// The rate chosen for a row and a model within a KL budget (METHOD §20).
    pub fn within(&self, row: &str, model: &str, budget: f64) -> Option<f64> {
        self.get(&Self::key_within(row, budget), model)
    }

    /// The key of a row's rate within a KL budget: `dpo@0.05`.
    pub fn key_within(row: &str, budget: f64) -> String {
        format!("{row}@{budget}")
    }
}

impl Validate for LearningRates {
    fn clashes(&self, checks: &mut Checks) {
        for (row, models) in &self.0 {
            for (model, lr) in models {
                checks
                    .value(&format!("{row}.{model}"), Some(lr), "a number over 0", |lr| Range::Positive.contains(*lr));
            }
        }
    }
}

/// Everything under `experiments/<profile>/`, and the paper's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experiment {
    /// What all rows share.
    pub profile: Profile,
    /// Rows by name, which is the name of their file.
    pub rows: BTreeMap<String, Row>,
    /// Chosen learning rates; empty before the first search.
    pub learning_rates: LearningRates,
    /// The paper's numbers, from `paper.toml` of this directory, else of its neighbour `paper`; empty where there is
    /// none.
    pub paper: Paper,
}

/// Files of a profile that are not rows.
const NO_ROWS: [&str; 3] = ["profile", "learning-rates", "paper"];

impl Experiment {
    /// Reads and checks every file of `dir`.
    ///
    /// # Errors
    /// [`Error::Core`] when the directory or a file cannot be read; [`Error::Problems`] with the problems of all files.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut problems = Vec::new();
        let profile = unless_problems(from_toml(&dir.join("profile.toml")), &mut problems)?;
        let mut experiment = Self { profile, ..Self::default() };
        let rates = dir.join("learning-rates.toml");
        if rates.exists() {
            experiment.learning_rates = unless_problems(from_toml(&rates), &mut problems)?;
        }
        let papers = [dir.join("paper.toml"), dir.join("../paper/paper.toml")];
        if let Some(paper) = papers.iter().find(|path| path.exists()) {
            experiment.paper = unless_problems(from_toml(paper), &mut problems)?;
        }
        for name in toml_files(dir)?.into_iter().filter(|name| !NO_ROWS.contains(&name.as_str())) {
            let row = unless_problems(from_toml(&dir.join(format!("{name}.toml"))), &mut problems)?;
            experiment.rows.insert(name, row);
        }
        if problems.is_empty() {
            problems = experiment.problems();
        }
        if problems.is_empty() {
            return Ok(experiment);
        }
        Err(Error::Problems { place: dir.display().to_string(), problems })
    }

    /// Every row with its name, in the order of tables.
    pub fn ordered(&self) -> Vec<(&str, &Row)> {
        let mut rows: Vec<(&str, &Row)> = self.rows.iter().map(|(name, row)| (name.as_str(), row)).collect();
        rows.sort_by_key(|(_, row)| row.order.unwrap_or(u32::MAX));
        rows
    }

    /// The paper's method that a row names.
    pub fn paper_method(&self, row: &Row) -> Option<&PaperMethod> {
        self.paper.method(row.paper.as_ref()?)
    }

    /// The paper's model that a base model names.
    pub fn paper_model(&self, model: &str) -> Option<&PaperModel> {
        let model = self.profile.models.iter().find(|known| known.name == model)?;
        self.paper.model(model.paper.as_ref()?)
    }

    /// Clashes between files; each file alone was checked when it was read.
    fn problems(&self) -> Vec<Problem> {
        let (mut problems, mut names) = (Vec::new(), Checks::default());
        let rows: Vec<&str> = self.rows.keys().map(String::as_str).collect();
        let methods: Vec<&str> = self.paper.methods.iter().map(|method| &*method.name).collect();
        let models: Vec<&str> = self.paper.models.iter().map(|model| &*model.name).collect();
        let known: Vec<&str> = self.profile.models.iter().map(|model| &*model.name).collect();
        let judges: Vec<&str> = self.profile.scorers.iter().skip(1).map(|scorer| &*scorer.name).collect();
        for (name, row) in &self.rows {
            for problem in self.profile.repair_of(row).problems() {
                let key = format!("{name}.toml with profile.toml: repair.{}", problem.key);
                problems.push(Problem { key, ..problem });
            }
            names.named(&format!("{name}.toml: rates_of"), row.rates_of.as_ref(), &rows);
            names.named(&format!("{name}.toml: judge"), row.judge.as_ref(), &judges);
            names.named(&format!("{name}.toml: paper"), row.paper.as_ref(), &methods);
            let start = self.profile.protocol.as_ref().map(|protocol| protocol.halving_start);
            let between = start.zip(row.every).is_some_and(|(start, every)| every > 0 && !start.is_multiple_of(every));
            let what = "clashes with `protocol.halving_start` of profile.toml: rates are judged at a point";
            names.clash(between, &format!("{name}.toml: every"), what);
            for model in &row.models {
                names.named(&format!("{name}.toml: models"), Some(model), &known);
            }
        }
        for (i, model) in self.profile.models.iter().enumerate() {
            names.named(&format!("profile.toml: models[{i}].paper"), model.paper.as_ref(), &models);
        }
        for row in self.profile.quick.iter().flat_map(|quick| &quick.rows) {
            names.named("profile.toml: quick.rows", Some(row), &rows);
        }
        let Comparison { subject, baseline } = &self.profile.compare;
        for row in [subject, baseline].into_iter().flatten() {
            let is_of_some = self.rows.get(row).is_some_and(|row| !row.models.is_empty());
            let what = "is not for a row of `compare`, which means over all models";
            names.clash(is_of_some, &format!("{row}.toml: models"), what);
        }
        names.named("profile.toml: compare.subject", subject.as_ref(), &rows);
        names.named("profile.toml: compare.baseline", baseline.as_ref(), &rows);
        for (row, models) in &self.learning_rates.0 {
            let row = row.split_once('@').map_or(row.as_str(), |(row, _)| row).to_owned();
            names.named("learning-rates.toml", Some(&row), &rows);
            for model in models.keys() {
                names.named(&format!("learning-rates.toml: {row}"), Some(model), &known);
            }
        }
        problems.extend(names.0);
        problems
    }
}

/// The value; or its default, when the file's problems can be reported together with those of other files.
fn unless_problems<T: Default>(loaded: Result<T>, all: &mut Vec<Problem>) -> Result<T> {
    match loaded {
        Err(Error::Problems { place, problems }) => {
            let file = Path::new(&place).file_name().map(|name| name.to_string_lossy().into_owned());
            let file = file.unwrap_or(place);
            all.extend(
                problems.into_iter().map(|problem| Problem { key: format!("{file}: {}", problem.key), ..problem }),
            );
            Ok(T::default())
        }
        loaded => loaded,
    }
}

/// Names, without `.toml`, of the files of `dir`, sorted.
fn toml_files(dir: &Path) -> Result<Vec<String>> {
    let files = list(dir)?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    Ok(files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect())
}
