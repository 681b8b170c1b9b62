//! From rows to jobs to results.

use std::path::PathBuf;

use anyhow::Result;
use irepair_config::{EvalOptions, FigureKey, Job, RepairOptions, Row, TableKey, Watch};
use irepair_core::fs::write_atomic;
use irepair_report::{RowResult, read_result};

use crate::prepare::{Prepared, Split, shown};
use crate::stop::{Stop, stop};
use crate::work::Task;
use crate::{cache, identity, paths};

/// The word list of profiles that train no scorer.
const LEXICON: &str = "toxicity/lexicon.txt";

/// Prompts with their true continuations.
const TRUE_CONTINUATIONS: &str = "prompts/true.jsonl";

/// What names a cell: a row's key and title, a model, a seed, the data it is measured on, and a folder of
/// `runs/<profile>` (or none) that its result goes under.
pub(crate) struct Name<'a> {
    pub(crate) method: &'a str,
    pub(crate) title: &'a str,
    pub(crate) model: &'a str,
    pub(crate) seed: u64,
    pub(crate) split: Split,
    /// KL is held on texts the base model wrote, whatever the profile has.
    pub(crate) own_utility: bool,
    /// Its first seed is sampled, where the profile asks for samples.
    pub(crate) sampled: bool,
    /// It is watched during training, where the profile asks for a trajectory.
    pub(crate) watched: bool,
    pub(crate) under: &'a str,
}

/// A row for one model and one seed, and where its result goes.
pub(crate) struct Cell {
    pub(crate) job: Job,
    dir: PathBuf,
}

impl Cell {
    /// True when a result is there, whatever it was made from.
    pub(crate) fn has_result(&self) -> bool {
        self.dir.join("result.json").exists()
    }
}

impl Prepared {
    /// A cell with its settings, paths and all.
    pub(crate) fn cell(&self, name: &Name<'_>, repair: RepairOptions) -> Cell {
        let model = name.model;
        let repair = RepairOptions {
            model: Some(self.base(model)),
            pairs: Some(self.data("pairs/train.jsonl")),
            utility: repair.utility.or_else(|| Some(self.utility(model, name.own_utility))),
            seed: Some(name.seed),
            device: Some(self.device.clone()),
            threads: Some(self.workers.threads()),
            ..repair
        };
        let (profile, tested) = (&self.experiment.profile, matches!(name.split, Split::Test));
        let watch =
            profile.trajectory.filter(|t| name.watched && repair.method().trains() && name.seed < u64::from(t.seeds));
        let watch = watch.map(|t| Watch { every: t.every, eval: self.brief_eval() });
        let job = Job {
            profile: self.name.clone(),
            method: name.method.to_owned(),
            title: name.title.to_owned(),
            model: model.to_owned(),
            keep_model: profile.keep_models,
            repair,
            // Sampling costs more than all else together: one seed of the rows of RQ1 is sampled.
            eval: EvalOptions {
                samples: profile.samples.filter(|_| tested && name.sampled && name.seed == 0),
                ..self.eval(name.split)
            },
            watch,
        };
        let dir = self.runs.join(name.under).join(job.row()).join(name.seed.to_string());
        Cell { job, dir }
    }

    /// What a row is measured on.
    fn eval(&self, split: Split) -> EvalOptions {
        let tested = matches!(split, Split::Test);
        let split = if tested { "test" } else { "valid" };
        let profile = &self.experiment.profile;
        let more = profile.data.iter().map(|data| data.file.as_str()).filter(|file| {
            let set = file.strip_prefix("prompts/").and_then(|name| name.strip_suffix(".test.jsonl"));
            tested && set.is_some_and(|set| !["error", "clean"].contains(&set))
        });
        let more: Vec<PathBuf> = more.map(|file| self.data(file)).collect();
        let scorers: Vec<PathBuf> = profile.scorers.iter().map(|scorer| self.scorer(&scorer.name).0).collect();
        EvalOptions {
            prompts: Some(self.data(&format!("prompts/error.{split}.jsonl"))),
            clean_prompts: self.optional_data("prompts/clean.test.jsonl").filter(|_| tested),
            more_prompts: Some(more).filter(|more| !more.is_empty()),
            wikitext: Some(self.data(&format!("general/{split}.txt"))),
            // Settings are chosen by toxicity and perplexity alone.
            lambada: Some(self.data("general/cloze.test.jsonl")).filter(|_| tested),
            kl_texts: Some(self.data("general/test.txt")).filter(|_| tested),
            // Where scorers are trained, a word list is at most one more.
            lexicon: Some(self.data(LEXICON)).filter(|_| scorers.is_empty()),
            scorer: Some(scorers).filter(|scorers| !scorers.is_empty()),
            f1: Some(self.data(TRUE_CONTINUATIONS)).filter(|_| tested && profile.has_data(TRUE_CONTINUATIONS)),
            ..profile.eval.clone()
        }
    }

    /// What a row is watched by: toxicity and perplexity on the data that choose settings, by the first scorer alone.
    fn brief_eval(&self) -> EvalOptions {
        let whole = self.eval(Split::Valid);
        let first = whole.scorer.map(|mut scorers| {
            scorers.truncate(1);
            scorers
        });
        EvalOptions { scorer: first, ..whole }
    }

    /// Cells of the rows of the experiment for every model and seed, in an order that finishes whole seeds first. `n_seeds`
    /// wins over what the rows and the profile say; results go under folder `under`, which may be empty.
    pub(crate) fn cells(&self, under: &str, n_seeds: Option<u32>, keep: impl Fn(&str) -> bool) -> Vec<Cell> {
        let mut cells = Vec::new();
        let profile = &self.experiment.profile;
        let seeds_of = |row: &Row| u64::from(n_seeds.unwrap_or_else(|| row.seeds.unwrap_or(profile.seeds)));
        let most = self.experiment.rows.values().map(seeds_of).max().unwrap_or(0);
        for seed in 0..most {
            for (key, row) in self.experiment.rows.iter().filter(|(_, row)| seed < seeds_of(row)) {
                for model in &profile.models {
                    let mut repair = profile.repair_of(row);
                    let rates_of = row.rates_of.as_ref().unwrap_or(key);
                    repair.lr = repair.lr.or(self.experiment.learning_rates.get(rates_of, &model.name));
                    // Vanilla trains nothing: one seed says it all.
                    if !keep(&format!("{key}-{}", model.name)) || (!repair.method().trains() && seed > 0) {
                        continue;
                    }
                    let (title, model, split, own_utility) = (&row.title, &model.name, Split::Test, row.own_utility);
                    let sampled = row.tables.contains(&TableKey::Rq1);
                    let watched =
                        row.tables.contains(&TableKey::Trajectory) || row.figures.contains(&FigureKey::Trajectory);
                    let name = Name { method: key, title, model, seed, split, own_utility, sampled, watched, under };
                    cells.push(self.cell(&name, repair));
                }
            }
        }
        cells
    }

    /// Runs the cells that have no result yet; returns the results there are, and the failures.
    ///
    /// # Errors
    /// When files cannot be written or a finished result cannot be read.
    pub(crate) fn results(&self, what: &str, cells: &[Cell], fresh: bool) -> Result<(Vec<RowResult>, Vec<Stop>)> {
        let (numbers, mut hashes) = (identity::numbers(&paths::irepair())?, identity::Hashes::default());
        let mut tasks = Vec::new();
        for cell in cells {
            let job = toml::to_string(&cell.job)?;
            let inputs = hashes.add(numbers.clone().text(&job), &cell.job)?;
            let inputs = self.with_weights(inputs, &cell.job.model)?;
            let output = cell.dir.join("result.json");
            if !fresh && cache::is_done(&output, &inputs) {
                continue;
            }
            cache::begin(&cell.dir, &inputs, fresh)?;
            let file = cell.dir.join("job.toml");
            write_atomic(&file, job.as_bytes()).map_err(stop)?;
            let args = vec!["job".to_owned(), "--job".to_owned(), shown(&file), "--out".to_owned(), shown(&cell.dir)];
            let name = format!("{} seed {}", cell.job.row(), cell.job.repair.seed());
            tasks.push(Task { name, args, output, inputs, log: cell.dir.join("log.txt") });
        }
        let failures = self.workers.run(what, tasks)?;
        let done = cells.iter().map(|cell| cell.dir.join("result.json")).filter(|path| path.exists());
        let mut results = Vec::new();
        for path in done {
            results.push(read_result(&path).map_err(stop)?);
        }
        Ok((results, failures))
    }
}
