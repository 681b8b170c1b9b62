//! From rows to jobs to results.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use irepair_config::{
    EvalOptions, FigureKey, Job, Judge, Kept, Protocol, RelearnOptions, RepairOptions, Row, TableKey, Watch,
};
use irepair_core::Diagnostic;
use irepair_report::{RowResult, read_result};

use crate::cell::{Cell, Work};
use crate::error::diagnostic;
use crate::kept::Place;
use crate::prepare::{Prepared, Split};
use crate::{fetch, identity, libtorch, paths, process};

/// The word list of profiles that train no scorer.
const LEXICON: &str = "toxicity/lexicon.txt";

/// Prompts with their true continuations.
const TRUE_CONTINUATIONS: &str = "prompts/true.jsonl";

/// Names a cell: method, model, seed, the data it is measured on, and the folder of `runs/<profile>` for its result
/// (may be empty).
pub(crate) struct Name<'a> {
    pub(crate) method: &'a str,
    pub(crate) title: &'a str,
    pub(crate) model: &'a str,
    pub(crate) seed: u64,
    pub(crate) split: Split,
    pub(crate) under: &'a str,
}

impl Prepared {
    /// A cell with all settings and paths. `row` decides whether KL is held on texts of the base model, and whether
    /// texts are sampled and the training is watched, where the profile asks for that; without a row, none of them.
    pub(crate) fn cell(&self, name: &Name<'_>, row: Option<&Row>, repair: RepairOptions) -> Cell {
        let model = name.model;
        let repair = RepairOptions {
            model: Some(self.base(model)),
            pairs: Some(self.pairs(model)),
            utility: repair.utility.or_else(|| Some(self.utility(model, row.is_some_and(|row| row.own_utility)))),
            seed: Some(name.seed),
            device: Some(self.device.clone()),
            threads: Some(self.workers.n_threads),
            ..repair
        };
        let (profile, tested) = (&self.experiment.profile, matches!(name.split, Split::Test));
        let in_table = |key: TableKey| row.is_some_and(|row| row.tables.contains(&key));
        let is_drawn = row.is_some_and(|row| row.figures.contains(&FigureKey::Trajectory));
        let is_watched = in_table(TableKey::Trajectory) || is_drawn;
        let watch =
            profile.trajectory.filter(|t| is_watched && repair.method().trains() && name.seed < u64::from(t.seeds));
        let every = row.and_then(|row| row.every);
        let watch = watch.map(|t| Watch { every: every.unwrap_or(t.every), eval: self.brief_eval(), kept: None });
        let protocol = profile.protocol.as_ref().filter(|_| repair.method().trains());
        let points = protocol.map(|protocol| Watch {
            every: every.unwrap_or(protocol.every),
            ..self.points(protocol, &repair, tested, in_table(TableKey::Compare))
        });
        let watch = points.or(watch);
        let job = Job {
            profile: self.name.clone(),
            method: name.method.to_owned(),
            title: name.title.to_owned(),
            model: model.to_owned(),
            keep_model: profile.keep_models,
            repair,
            // Sampling takes longer than everything else: only the first seed of the rows of RQ1 is sampled.
            eval: EvalOptions {
                samples: profile.samples.filter(|_| tested && in_table(TableKey::Rq1) && name.seed == 0),
                best_of: row.and_then(|row| row.best_of),
                judge: row.and_then(|row| Some(self.scorer(row.judge.as_ref()?).0.into())),
                ..self.eval(name.split)
            },
            watch,
            // As sampling, of the first seed alone.
            relearn: self.relearn().filter(|_| tested && in_table(TableKey::Relearning) && name.seed == 0),
        };
        let dir = self.runs.join(name.under).join(job.row()).join(name.seed.to_string());
        let kept = self.kept_dir(name.under).join(format!("{}.{}.json", job.row(), name.seed));
        Cell { job, dir, kept: Some(kept).filter(|_| self.warning.is_none()) }
    }

    /// The profile's relearning, with the place of its texts.
    fn relearn(&self) -> Option<RelearnOptions> {
        let relearn = self.experiment.profile.relearn.clone()?;
        Some(RelearnOptions { texts: Some(self.data(relearn.texts.as_ref()?.to_str()?)), ..relearn })
    }

    /// Settings for measuring a row.
    fn eval(&self, split: Split) -> EvalOptions {
        let tested = matches!(split, Split::Test);
        let split = if tested { "test" } else { "valid" };
        let profile = &self.experiment.profile;
        let more = profile.data.iter().map(|data| data.file.as_str()).filter(|file| {
            let set = file.strip_prefix("prompts/").and_then(|name| name.strip_suffix(".test.jsonl"));
            tested && set.is_some_and(|set| !["error", "clean"].contains(&set))
        });
        let more: Vec<PathBuf> = more.filter_map(|file| self.optional_data(file)).collect();
        let scorers: Vec<Judge> = self.scorers().map(|scorer| self.scorer(&scorer.name).0.into()).collect();
        EvalOptions {
            prompts: Some(self.data(&format!("prompts/error.{split}.jsonl"))),
            clean_prompts: self.optional_data("prompts/clean.test.jsonl").filter(|_| tested),
            more_prompts: Some(more).filter(|more| !more.is_empty()),
            wikitext: Some(self.data(&format!("general/{split}.txt"))),
            // Settings are chosen by toxicity and perplexity alone.
            lambada: self.optional_data("general/cloze.test.jsonl").filter(|_| tested),
            kl_texts: Some(self.data("general/test.txt")).filter(|_| tested),
            // Where scorers are trained, a word list is at most one more.
            lexicon: Some(self.data(LEXICON)).filter(|_| scorers.is_empty()),
            scorer: Some(scorers).filter(|scorers| !scorers.is_empty()),
            f1: Some(self.data(TRUE_CONTINUATIONS)).filter(|_| tested && profile.has_data(TRUE_CONTINUATIONS)),
            ..profile.eval.clone()
        }
    }

    /// Settings for watching a row during training: toxicity and perplexity on validation data, by the first scorer
    /// alone.
    fn brief_eval(&self) -> EvalOptions {
        let whole = self.eval(Split::Valid);
        let first = whole.scorer.map(|mut scorers| {
            scorers.truncate(1);
            scorers
        });
        EvalOptions { scorer: first, ..whole }
    }

    /// Settings for the points of a run under METHOD §20, which stands in the table of comparisons or not. One that
    /// chooses settings keeps no weights for a test.
    fn points(&self, protocol: &Protocol, repair: &RepairOptions, tested: bool, compared: bool) -> Watch {
        let kept = Kept {
            equal_updates: Some(protocol.equal_updates).filter(|_| tested && compared),
            equal_compute_flops: Some(protocol.equal_compute_flops).filter(|_| tested && compared),
            // The steps of an ablation are strengths, of which the last ones may be the best.
            front_patience: protocol.front_patience.filter(|_| !repair.method().ablates()),
            budgets: if tested { protocol.budgets.clone() } else { Vec::new() },
            pause_at: None,
            most_kl: None,
            until_no_error: false,
        };
        let eval = EvalOptions { kl_texts: Some(self.data("general/valid.txt")), ..self.brief_eval() };
        Watch { every: protocol.every, eval, kept: Some(kept) }
    }

    /// Cells of the rows of the experiment for every model and seed, in an order that finishes whole seeds first.
    /// `keep` is asked for `<row>-<model>`, with which the row's other rates come, and for `<row>@<rate>-<model>`.
    /// `n_seeds` wins over the rows and the profile; results go to the folder `under`, which may be empty.
    pub(crate) fn cells(&self, under: &str, n_seeds: Option<u32>, keep: impl Fn(&str) -> bool) -> Vec<Cell> {
        let mut cells = Vec::new();
        let profile = &self.experiment.profile;
        let seeds_of = |row: &Row| u64::from(n_seeds.unwrap_or_else(|| row.seeds.unwrap_or(profile.seeds)));
        let most = self.experiment.rows.values().map(seeds_of).max().unwrap_or(0);
        for seed in 0..most {
            let mut at_other_rates = Vec::new();
            for (key, row) in self.experiment.rows.iter().filter(|(_, row)| seed < seeds_of(row)) {
                for model in profile.models_of(row) {
                    let mut repair = profile.repair_of(row);
                    let rates_of = row.rates_of.as_ref().unwrap_or(key);
                    repair.lr = repair.lr.or(self.experiment.learning_rates.get(rates_of, &model.name));
                    // Vanilla trains nothing, so that seeds make no difference.
                    if !repair.method().trains() && seed > 0 {
                        continue;
                    }
                    let is_wanted = keep(&format!("{key}-{}", model.name));
                    let (title, model, split) = (&row.title, &model.name, Split::Test);
                    let own = Name { method: key, title, model, seed, split, under };
                    // What the row asks for beyond KL budgets is measured at its own rate, by every seed.
                    let brief = Row { tables: vec![TableKey::Budgets], ..row.clone() };
                    let is_searched = row.tables.contains(&TableKey::Budgets) && row.rates_of.is_none();
                    let rates = if is_searched && seed == 0 { self.rates_within(key, model) } else { Vec::new() };
                    for lr in rates.into_iter().filter(|lr| repair.lr != Some(*lr)) {
                        let repair = RepairOptions { lr: Some(lr), ..repair.clone() };
                        let method = &*RowResult::key_at_rate(key, lr);
                        if !is_wanted && !keep(&format!("{method}-{model}")) {
                            continue;
                        }
                        at_other_rates.push(self.cell(&Name { method, ..own }, Some(&brief), repair));
                    }
                    if is_wanted {
                        cells.push(self.cell(&own, Some(row), repair));
                    }
                }
            }
            cells.append(&mut at_other_rates);
        }
        cells
    }

    /// The cells without those of rows that need a search of their rate first; says which these are. Without a
    /// protocol a row has its method's rate.
    pub(crate) fn rated(&self, mut cells: Vec<Cell>) -> Vec<Cell> {
        let is_open = |cell: &Cell| {
            self.experiment.profile.protocol.is_some()
                && cell.job.repair.method().has_rate()
                && cell.job.repair.lr.is_none()
        };
        let searched = |cell: &Cell| {
            let row = self.experiment.rows.get(&cell.job.method);
            row.and_then(|row| row.rates_of.clone()).unwrap_or_else(|| cell.job.method.clone())
        };
        let open: BTreeSet<String> = cells.iter().filter(|cell| is_open(cell)).map(searched).collect();
        if !open.is_empty() {
            let rows = open.into_iter().collect::<Vec<_>>().join(",");
            let is_given = self.sources.data_dirs.iter().any(|dir| *dir != fetch::kept());
            let data = if is_given { " --data DATA" } else { "" };
            process::say(format!(
                "rows without a chosen rate are left out: cargo xtask tune --profile {}{data} --only {rows}",
                self.name
            ));
        }
        cells.retain(|cell| !is_open(cell));
        cells
    }

    /// The rates that were chosen within KL budgets, each once, lowest first.
    fn rates_within(&self, row: &str, model: &str) -> Vec<f64> {
        let budgets = self.experiment.profile.protocol.iter().flat_map(|protocol| &protocol.budgets);
        let mut rates: Vec<f64> =
            budgets.filter_map(|&budget| self.experiment.learning_rates.within(row, model, budget)).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        rates
    }

    /// Runs the cells that have no result yet; returns the results there are, and the failures.
    ///
    /// # Errors
    /// When files cannot be written or a finished result cannot be read.
    pub(crate) fn results(&self, what: &str, cells: &[Cell], fresh: bool) -> Result<(Vec<RowResult>, Vec<Diagnostic>)> {
        let numbers = identity::numbers(&paths::irepair())?;
        let device = Some(&self.device).filter(|device| *device != "cpu");
        let device = device.map(|device| libtorch::gpu().unwrap_or_else(|| device.clone()));
        let (mut works, mask) = (Vec::new(), Arc::new(self.mask()?));
        for cell in cells {
            let job = toml::to_string(&cell.job)?;
            let settings = identity::settings(&cell.job)?;
            let inputs = self.hashes.borrow_mut().add(numbers.clone().text(&settings.key()), &cell.job)?;
            let inputs = self.with_weights(inputs, &cell.job.model)?;
            let measured_on = self.hashes.borrow_mut().measured(&cell.job)?;
            let trained_on = self.hashes.borrow_mut().trained(&cell.job)?;
            let kept =
                cell.kept.clone().map(|path| Place { path, settings, measured_on, trained_on, mask: mask.clone() });
            works.push(Work { cell, job, inputs, kept, device: device.clone(), fresh });
        }
        let claims = self.claims(what);
        let failures = self.workers.share(what, claims.as_ref(), &works, Work::name, Work::is_done, Work::run)?;
        let done = cells.iter().map(|cell| cell.dir.join("result.json")).filter(|path| path.exists());
        let results = done.map(|path| Ok(read_result(&path).map_err(diagnostic)?));
        Ok((results.collect::<Result<_>>()?, failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::matches;
    use crate::sources::Given;

    #[test]
    fn a_rate_of_a_budget_comes_with_its_row_or_alone() {
        let prepared = Prepared::plan("wild", &Given::default()).unwrap();
        let names = |glob: &str| {
            let cells = prepared.cells("", Some(1), |name| matches(glob, name));
            cells.iter().map(|cell| cell.job.row()).collect::<Vec<_>>()
        };
        assert_eq!(names("dpo@1e-5-*"), ["dpo@1e-5-smollm2-135m"]);
        let with_row = names("dpo-smollm2-135m");
        assert_eq!(with_row[0], "dpo-smollm2-135m");
        assert!(with_row.len() > 1 && with_row[1..].iter().all(|name| name.starts_with("dpo@")), "{with_row:?}");
    }
}
