//! Weights of a run that are kept until their test results are measured (METHOD §20, §22): those of the best points
//! within the KL budgets, and those that the run would have given at equal updates and at equal compute.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use irepair_config::Kept;
use irepair_core::fs::{list, read_to_string, remove, write_atomic};
use irepair_model::{BlockModel, CausalLm, read_tensors, write_tensors};
use irepair_report::{Compared, Purpose, TrajectoryPoint, within_budget};
use irepair_train::Engine;
use tch::{Tensor, no_grad};

/// Inside the output directory: a file of changed weights a step, and the marks.
const DIR: &str = ".irepair-kept";
/// Comparisons that the run has reached.
const MARKS: &str = "marks.json";

/// Keeps weights in the output directory of a run.
pub(crate) struct KeptWeights {
    asked: Kept,
    dir: PathBuf,
    /// Comparisons at equal updates and equal compute that the run has reached.
    marks: Vec<Compared>,
}

impl KeptWeights {
    pub(crate) fn new(asked: Kept, out: &Path) -> Self {
        Self { asked, dir: out.join(DIR), marks: Vec::new() }
    }

    /// Takes up the marks of a run that continues after `n_steps`; later ones will be reached again.
    pub(crate) fn resume(&mut self, n_steps: u64) -> anyhow::Result<()> {
        let path = self.dir.join(MARKS);
        if n_steps > 0 && path.exists() {
            self.marks = serde_json::from_str(&read_to_string(&path)?)?;
            self.marks.retain(|mark| mark.n_steps <= n_steps);
        }
        Ok(())
    }

    /// Keeps the outcome of the run so far where it has just reached a comparison.
    pub(crate) fn mark(&mut self, engine: &Engine<&CausalLm>, flops: f64) -> anyhow::Result<()> {
        let n_steps = engine.next_step();
        let reached = [
            (Purpose::EqualUpdates, self.asked.equal_updates.is_some_and(|at| n_steps >= at)),
            (Purpose::EqualCompute, self.asked.equal_compute_flops.is_some_and(|at| flops >= at)),
        ];
        for (purpose, is_reached) in reached {
            if is_reached && !self.marks.iter().any(|mark| mark.purpose == purpose) {
                let (step, weights) = engine.outcome_now()?;
                self.write(step, &weights)?;
                self.marks.push(Compared { purpose, n_steps, flops, step });
                write_atomic(&self.dir.join(MARKS), &serde_json::to_vec(&self.marks)?)?;
            }
        }
        Ok(())
    }

    /// Keeps the weights of the last point where it is now the best within a budget.
    pub(crate) fn point(&self, engine: &Engine<&CausalLm>, points: &[TrajectoryPoint]) -> anyhow::Result<()> {
        let step = engine.next_step();
        let is_best = self.choices(points).any(|chosen| chosen.step == step);
        if is_best { self.write(step, &engine.changed_weights()) } else { Ok(()) }
    }

    /// The best point within each budget.
    fn choices(&self, points: &[TrajectoryPoint]) -> impl Iterator<Item = Compared> {
        self.asked.budgets.iter().filter_map(|&budget| {
            let (purpose, point) = (Purpose::Budget(budget), within_budget(points, budget)?);
            let flops = point.more.map_or(0.0, |more| more.flops);
            Some(Compared { purpose, n_steps: point.step, flops, step: point.step })
        })
    }

    /// Every comparison, `stopped` first: one that the run did not reach is about where it stopped.
    pub(crate) fn compared(&self, points: &[TrajectoryPoint], stopped: Compared) -> Vec<Compared> {
        let asked = [
            (Purpose::EqualUpdates, self.asked.equal_updates.is_some()),
            (Purpose::EqualCompute, self.asked.equal_compute_flops.is_some()),
        ];
        let marked = asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(purpose, _)| {
            let mark = self.marks.iter().find(|mark| mark.purpose == purpose).copied();
            mark.unwrap_or(Compared { purpose, ..stopped })
        });
        std::iter::once(stopped).chain(marked).chain(self.choices(points)).collect()
    }

    /// Removes weights that nothing compares any more. Call it when a state was written, or the run has ended: a run
    /// that continues from an older state looks for those of its time.
    pub(crate) fn settle(&self, points: &[TrajectoryPoint]) -> anyhow::Result<()> {
        let kept: BTreeSet<PathBuf> =
            self.choices(points).chain(self.marks.iter().copied()).map(|c| self.file(c.step)).collect();
        let files = if self.dir.is_dir() { list(&self.dir)? } else { Vec::new() };
        let is_dropped = |file: &PathBuf| file.extension().is_some_and(|e| e == "safetensors") && !kept.contains(file);
        Ok(files.iter().filter(|file| is_dropped(file)).try_for_each(|file| remove(file))?)
    }

    /// Gives a model the weights that the run had after `step` updates, at least one; all others are those of `base`.
    pub(crate) fn apply(&self, step: u64, base: &CausalLm, model: &CausalLm) -> anyhow::Result<()> {
        let mut changed = read_tensors(&self.file(step))?.0;
        no_grad(|| {
            for (index, to) in model.parameters().iter().enumerate() {
                // The base lacks a soft prefix, which every run that has one changes from its first step on.
                let unchanged = || base.parameters().get(index).map(|from| from.tensor.shallow_clone());
                if let Some(value) = changed.remove(&to.name).or_else(unchanged) {
                    to.tensor.detach().copy_(&value);
                }
            }
        });
        Ok(())
    }

    fn write(&self, step: u64, weights: &[(String, &Tensor)]) -> anyhow::Result<()> {
        let path = self.file(step);
        if step > 0 {
            std::fs::create_dir_all(&self.dir)?;
            write_tensors(&path, weights, HashMap::new())?;
        }
        Ok(())
    }

    fn file(&self, step: u64) -> PathBuf {
        self.dir.join(format!("{step}.safetensors"))
    }
}

/// Removes what a finished run kept.
pub(crate) fn remove_kept(out: &Path) -> std::io::Result<()> {
    let dir = out.join(DIR);
    if dir.is_dir() { std::fs::remove_dir_all(dir) } else { Ok(()) }
}
