//! From rows to jobs to results.

use std::path::PathBuf;

use anyhow::Result;
use irepair_config::{EvalOptions, Job, Method, Options, RepairOptions};
use irepair_core::fs::write_atomic;
use irepair_report::{RowResult, read_result};

use crate::cache::{self, Inputs};
use crate::paths;
use crate::prepare::{Prepared, Split, shown};
use crate::stop::{Stop, stop};
use crate::work::Task;

/// What names a cell: a row's key and title, a model, a seed, the data it is measured on, and a folder of
/// `runs/<profile>` (or none) that its result goes under.
pub(crate) struct Name<'a> {
    pub(crate) method: &'a str,
    pub(crate) title: &'a str,
    pub(crate) model: &'a str,
    pub(crate) seed: u64,
    pub(crate) split: Split,
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
            general: Some(self.utility(model)),
            seed: Some(name.seed),
            device: Some(self.device.clone()),
            threads: Some(self.workers.threads()),
            ..repair
        };
        let split = match name.split {
            Split::Test => "test",
            Split::Valid => "valid",
        };
        let eval = EvalOptions {
            prompts: Some(self.data(&format!("prompts/error.{split}.jsonl"))),
            clean_prompts: self.optional_data("prompts/clean.test.jsonl").filter(|_| matches!(name.split, Split::Test)),
            wikitext: Some(self.data(&format!("general/{split}.txt"))),
            lambada: Some(self.data(&format!("general/cloze.{split}.jsonl"))),
            kl_texts: Some(self.data(&format!("general/{split}.txt"))),
            lexicon: Some(self.data("toxicity/lexicon.txt")),
            ..self.experiment.profile.eval.clone()
        };
        let job = Job {
            profile: self.name.clone(),
            method: name.method.to_owned(),
            title: name.title.to_owned(),
            model: model.to_owned(),
            keep_model: self.experiment.profile.keep_models,
            repair,
            eval,
        };
        let dir = self.runs.join(name.under).join(job.row()).join(name.seed.to_string());
        Cell { job, dir }
    }

    /// Cells of the rows of the experiment for every model and seed, in an order that finishes whole seeds first.
    pub(crate) fn cells(&self, n_seeds: u32, keep: impl Fn(&str) -> bool) -> Vec<Cell> {
        let mut cells = Vec::new();
        for seed in 0..u64::from(n_seeds) {
            for (key, row) in &self.experiment.rows {
                for model in &self.experiment.profile.models {
                    let mut repair = self.experiment.profile.repair_of(row);
                    repair.lr = repair.lr.or(self.experiment.learning_rates.get(key, &model.name));
                    // Vanilla trains nothing: one seed says it all.
                    if !keep(&format!("{key}-{}", model.name)) || (repair.method() == Method::Vanilla && seed > 0) {
                        continue;
                    }
                    let (title, model, split) = (&row.title, &model.name, Split::Test);
                    cells.push(self.cell(&Name { method: key, title, model, seed, split, under: "" }, repair));
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
        // One hash of everything the rows share; the job file adds what is their own.
        let mut shared = Inputs::default().file(&paths::irepair())?;
        for file in ["pairs/train.jsonl", "prompts/error.test.jsonl", "general/test.txt", "general/cloze.test.jsonl"] {
            shared = shared.file(&self.data(file))?;
        }
        let mut tasks = Vec::new();
        for cell in cells {
            let job = toml::to_string(&cell.job)?;
            let inputs = self.with_weights(shared.clone().text(&job), &cell.job.model)?;
            let inputs = inputs.file(&self.utility(&cell.job.model))?;
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

/// The settings of a row with another policy and slice size.
pub(crate) fn resliced(
    repair: RepairOptions,
    policy: irepair_config::Policy,
    size: irepair_core::SliceSize,
) -> RepairOptions {
    RepairOptions { policy: Some(policy), top_k: Some(size), ..RepairOptions::default() }.over(repair)
}
