//! The rows of one profile, checked to be comparable, and the estimates every table is made of.

use std::collections::{BTreeMap, BTreeSet};

use irepair_stats::{Bootstrap, Cells, Estimate, bootstrap_mean};

use crate::result::{RowResult, SCHEMA, VANILLA, metric};
use crate::{Error, Result};

/// Seed of every bootstrap in a report, so that a report is the same each time it is made. METHOD §16 \[O\].
pub const BOOTSTRAP_SEED: u64 = 0;

/// Rows of one profile in which every metric means one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    rows: Vec<RowResult>,
}

/// Which models a number is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over<'a> {
    /// One model.
    Model(&'a str),
    /// The mean over all models, taken within each seed.
    Models,
}

impl std::fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Model(model) => model,
            Self::Models => "mean over models",
        })
    }
}

/// Values of one metric by seed.
#[derive(Clone, Debug, PartialEq)]
pub struct BySeed {
    /// Values in seed order, only of seeds that have one.
    pub values: Vec<f64>,
    /// Seeds that were run.
    pub n_seeds: usize,
}

impl Results {
    /// Takes rows in any order.
    ///
    /// # Errors
    /// [`Error::Schema`], [`Error::MixedProfiles`], [`Error::RepeatedSeed`]; [`Error::MixedDefinitions`] when a metric's
    /// definition, unit or version differs between rows: numbers of different scorers are never mixed.
    pub fn new(rows: Vec<RowResult>) -> Result<Self> {
        let mut definitions: BTreeMap<&str, String> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for row in &rows {
            if row.schema != SCHEMA {
                return Err(Error::Schema { place: row.row.clone(), want: SCHEMA, got: row.schema });
            }
            if row.profile != rows[0].profile {
                let (first, second) = (rows[0].profile.clone(), row.profile.clone());
                return Err(Error::MixedProfiles { first, second, row: row.row.clone() });
            }
            if !seen.insert((row.method(), &row.model, row.seed)) {
                return Err(Error::RepeatedSeed { row: row.row.clone(), model: row.model.clone(), seed: row.seed });
            }
            for (key, metric) in &row.metrics {
                let definition = format!("{} ({}, version {})", metric.definition, metric.unit, metric.version);
                let first = definitions.entry(key).or_insert_with(|| definition.clone());
                if *first != definition {
                    let (metric, first) = (key.clone(), first.clone());
                    return Err(Error::MixedDefinitions { metric, first, second: definition, row: row.row.clone() });
                }
            }
        }
        Ok(Self { rows })
    }

    /// The profile all rows share; none without rows.
    pub fn profile(&self) -> Option<&str> {
        self.rows.first().map(|r| r.profile.as_str())
    }

    /// All rows, in the order given.
    pub fn rows(&self) -> &[RowResult] {
        &self.rows
    }

    /// Models in order of first appearance.
    pub fn models(&self) -> Vec<&str> {
        unique(self.rows.iter().map(|r| r.model.as_str()))
    }

    /// Method keys in order of first appearance.
    pub fn methods(&self) -> Vec<&str> {
        unique(self.rows.iter().map(RowResult::method))
    }

    /// Each model, then the mean over them when there are several.
    pub fn each_model_and_mean(&self) -> Vec<Over<'_>> {
        let models = self.models();
        let mean = (models.len() > 1).then_some(Over::Models);
        models.into_iter().map(Over::Model).chain(mean).collect()
    }

    /// True when at least one row of this method is there.
    pub fn has(&self, method: &str) -> bool {
        self.rows.iter().any(|r| r.method() == method)
    }

    /// What tables call a method: its rows' title.
    pub fn title(&self, method: &str) -> Option<&str> {
        self.rows.iter().find(|r| r.method() == method).map(|r| r.title.as_str())
    }

    /// Runs of one method on one model, by seed.
    pub fn runs(&self, method: &str, model: &str) -> Vec<&RowResult> {
        let mut runs: Vec<_> = self.rows.iter().filter(|r| r.method() == method && r.model == model).collect();
        runs.sort_by_key(|r| r.seed);
        runs
    }

    /// Seeds run for a method, on one model or on any.
    pub fn seeds(&self, method: &str, over: Over<'_>) -> BTreeSet<u64> {
        let wanted = |r: &&RowResult| r.method() == method && matches_model(r, over);
        self.rows.iter().filter(wanted).map(|r| r.seed).collect()
    }

    /// A number of each run, by seed. Over models, the mean within each seed, missing unless every model has it.
    pub fn by_seed(&self, method: &str, over: Over<'_>, of: impl Fn(&RowResult) -> Option<f64>) -> BySeed {
        let seeds = self.seeds(method, over);
        let models = self.models_of(over);
        let value = |seed: u64| -> Option<f64> {
            let values: Option<Vec<f64>> = models
                .iter()
                .map(|model| self.run(method, model, seed).and_then(&of).filter(|v| v.is_finite()))
                .collect();
            irepair_stats::mean(&values?)
        };
        BySeed { values: seeds.iter().filter_map(|&s| value(s)).collect(), n_seeds: seeds.len() }
    }

    /// A metric's mean with its 95 % interval: Student t over seeds for trained rows, bootstrap over prompts for the
    /// vanilla model's toxicity (it has no seeds), none otherwise. None when no seed has the number.
    pub fn estimate(&self, method: &str, over: Over<'_>, key: &str) -> Option<Estimate> {
        let by_seed = self.by_seed(method, over, |run| run.value(key));
        let mut estimate = Estimate::over_seeds(&by_seed.values)?;
        if method == VANILLA && by_seed.n_seeds == 1 && key == metric::TOX {
            let scores: Option<Vec<f64>> = self.prompt_means(method, over).map(|s| s.into_iter().flatten().collect());
            estimate.interval =
                scores.and_then(|s| bootstrap_mean(&s, &Bootstrap::new(BOOTSTRAP_SEED)).ok()).and_then(|e| e.interval);
        }
        Some(estimate)
    }

    /// Toxicity in percent of each prompt, averaged over seeds (and models); none where any of them failed.
    ///
    /// None as a whole when there are no runs, or their prompts do not line up.
    pub fn prompt_means(&self, method: &str, over: Over<'_>) -> Option<Vec<Option<f64>>> {
        let runs: Vec<&RowResult> = self.models_of(over).iter().flat_map(|model| self.runs(method, model)).collect();
        let n_prompts = runs.first()?.prompt_scores.len();
        if n_prompts == 0 || runs.iter().any(|r| r.prompt_scores.len() != n_prompts) {
            return None;
        }
        let mean = |prompt: usize| {
            let scores: Option<Vec<f64>> = runs.iter().map(|r| r.prompt_scores[prompt]).collect();
            irepair_stats::mean(&scores?).map(|s| 100.0 * s)
        };
        Some((0..n_prompts).map(mean).collect())
    }

    /// Toxicity in percent of methods × models × seeds × prompts, for the two-level bootstrap.
    ///
    /// Keeps the seeds every model was run with and the prompts scored in every run kept. None when that leaves
    /// nothing, or the prompts of some run do not line up.
    pub fn prompt_cells(&self, methods: &[&str]) -> Option<Cells> {
        let runs: Vec<Vec<Vec<&RowResult>>> = methods.iter().map(|m| self.shared_seed_runs(m)).collect();
        let every_run: Vec<&RowResult> = runs.iter().flatten().flatten().copied().collect();
        let n_prompts = every_run.first()?.prompt_scores.len();
        if every_run.iter().any(|r| r.prompt_scores.len() != n_prompts) {
            return None;
        }
        let kept: Vec<usize> =
            (0..n_prompts).filter(|&p| every_run.iter().all(|r| r.prompt_scores[p].is_some())).collect();
        let scores = |run: &RowResult| kept.iter().filter_map(|&p| run.prompt_scores[p]).map(|s| 100.0 * s).collect();
        let cells = runs.iter().map(|models| models.iter().map(|m| m.iter().map(|r| scores(r)).collect()).collect());
        Cells::new(cells.collect()).ok()
    }

    /// A metric of methods × models × seeds, for the same bootstrap: one "prompt" per run.
    pub fn metric_cells(&self, methods: &[&str], key: &str) -> Option<Cells> {
        let cell = |run: &&RowResult| run.value(key).map(|v| vec![v]);
        let cells: Option<Vec<Vec<Vec<Vec<f64>>>>> = methods
            .iter()
            .map(|m| self.shared_seed_runs(m).iter().map(|runs| runs.iter().map(cell).collect()).collect())
            .collect();
        Cells::new(cells?).ok()
    }

    /// Runs by model, of the seeds every model has.
    fn shared_seed_runs(&self, method: &str) -> Vec<Vec<&RowResult>> {
        let models = self.models();
        let everywhere = |run: &&RowResult| models.iter().all(|m| self.run(method, m, run.seed).is_some());
        models.iter().map(|model| self.runs(method, model).into_iter().filter(everywhere).collect()).collect()
    }

    fn run(&self, method: &str, model: &str, seed: u64) -> Option<&RowResult> {
        self.rows.iter().find(|r| r.method() == method && r.model == model && r.seed == seed)
    }

    fn models_of<'a>(&'a self, over: Over<'a>) -> Vec<&'a str> {
        match over {
            Over::Model(model) => vec![model],
            Over::Models => self.models(),
        }
    }
}

fn matches_model(row: &RowResult, over: Over<'_>) -> bool {
    match over {
        Over::Model(model) => row.model == model,
        Over::Models => true,
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}
