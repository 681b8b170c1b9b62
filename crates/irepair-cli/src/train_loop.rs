//! The loop around the engine: logs every step, writes checkpoints, continues a run that was stopped.

use std::path::{Path, PathBuf};

use irepair_core::fs::read_to_string;
use irepair_core::{LineLog, StepRecord, Unit, UnitList, UnitPart};
use irepair_model::CausalLm;
use irepair_train::Engine;

use crate::error::CliError;
use crate::interrupt::{self, Listening};
use crate::model_dir::LoadedModel;
use crate::progress;
use crate::run_dir::STATE;
use crate::spikes::SpikeWatch;
use crate::watch::Watcher;

/// A run of the engine that writes a log and checkpoints.
pub(crate) struct TrainLoop {
    /// Name of the progress bar.
    what: &'static str,
    state: PathBuf,
    log: PathBuf,
    n_steps: u64,
    checkpoint_every: u64,
    /// False in every rank but the first.
    writes: bool,
}

impl TrainLoop {
    /// A run of `n_steps` in the directory `out`, whose steps are logged in its file `log`.
    pub(crate) fn new(what: &'static str, out: &Path, log: &str, n_steps: u64, checkpoint_every: u64) -> Self {
        Self { what, state: out.join(STATE), log: out.join(log), n_steps, checkpoint_every, writes: true }
    }

    /// Without a log, checkpoints and records: another rank has them.
    pub(crate) fn silent(self) -> Self {
        Self { writes: false, ..self }
    }

    /// Takes all steps that are left; returns the records of all steps, from the log: memory does not grow with the
    /// steps.
    pub(crate) fn run(
        &self,
        engine: &mut Engine<&CausalLm>,
        mut watcher: Option<(&mut Watcher<'_>, &LoadedModel)>,
    ) -> anyhow::Result<Vec<StepRecord>> {
        let records = self.resume(engine)?;
        let mut log = match self.writes {
            true => Some(LineLog::start(&self.log, &records.iter().map(line).collect::<String>())?),
            false => None,
        };
        let bar = progress::bar(self.what, self.n_steps);
        if let Some((watcher, opened)) = &mut watcher {
            watcher.resume(&records, engine.model())?;
            watcher.look(engine, false, opened)?;
        }
        let mut spikes = SpikeWatch::after(&records);
        drop(records);
        interrupt::prepare();
        let mut listening = None;
        while engine.unfinished() {
            if watcher.as_ref().is_some_and(|(watcher, _)| watcher.is_spent()) {
                log = self.settle(log)?;
                break;
            }
            if watcher.as_mut().is_some_and(|(watcher, _)| watcher.pauses(engine.next_step())) {
                log = self.settle(log)?;
                self.save(engine, &watcher)?;
                break;
            }
            // Rows of tables are watched on validation data of their own.
            let is_first = engine.next_step() == 0 && watcher.is_none();
            let validation_loss_before = if is_first { engine.validation_loss()? } else { None };
            let n_before = engine.next_step();
            let mut record = match engine.step_or_stay() {
                Ok(record) => StepRecord { validation_loss_before, ..record },
                Err(error) if watcher.as_mut().is_some_and(|(watcher, _)| watcher.ends_with(&error)) => {
                    tracing::warn!("{error}: the run ends with the best weights it had before");
                    log = self.settle(log)?;
                    break;
                }
                Err(error) if engine.next_step() == n_before => return Err(self.kept_after(engine, log, error)),
                Err(error) => return Err(error.into()),
            };
            // The first step may measure for hours; before it there is nothing new to keep.
            let listening = listening.get_or_insert_with(Listening::start);
            spikes.look(&mut record);
            log.iter_mut().try_for_each(|log| log.add(&line(&record)))?;
            bar.set_position(record.step + 1);
            let units = record.units.as_ref().filter(|units| units.len() <= 4);
            let blocks =
                || record.slice.iter().map(|block| Unit { block, part: UnitPart::Whole }).collect::<UnitList>();
            let slice = units.map_or_else(|| format!("block {}", blocks()), |units| format!("unit {units}"));
            bar.set_message(format!("loss {:.3}, {slice}", record.loss));
            if let Some((watcher, opened)) = &mut watcher {
                watcher.count(&record, engine.model());
                watcher.look(engine, !engine.unfinished(), opened)?;
            }
            if let Some(error) = engine.take_lost() {
                return Err(self.kept_after(engine, log, error));
            }
            // All ranks stop after the same step.
            let interrupted = match engine.any_rank(listening.asked()) {
                Ok(asked) => asked && engine.unfinished(),
                Err(error) => return Err(self.kept_after(engine, log, error)),
            };
            let due = engine.next_step().is_multiple_of(self.checkpoint_every) && engine.unfinished();
            if interrupted || due || !engine.unfinished() {
                log = self.settle(log)?;
            }
            if interrupted || due {
                if let Err(error) = engine.agree_on_weights() {
                    return Err(self.kept_after(engine, log, error));
                }
                self.save(engine, &watcher)?;
            }
            if interrupted {
                // The others wait until the state is written.
                engine.any_rank(true)?;
                let (state, n_done, n_steps) = (self.state.clone(), engine.next_step(), self.n_steps);
                return Err(CliError::Interrupted { state, n_done, n_steps }.into());
            }
        }
        spikes.finish();
        // Of a run that ends here. One that is killed before its result is written comes to the same points.
        drop_weights(&watcher)?;
        let Some(log) = log else { return Ok(Vec::new()) };
        log.lines()?.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }

    /// Writes the state of the run.
    fn save(
        &self,
        engine: &Engine<&CausalLm>,
        watcher: &Option<(&mut Watcher<'_>, &LoadedModel)>,
    ) -> anyhow::Result<()> {
        if self.writes {
            engine.save(&self.state)?;
        }
        drop_weights(watcher)
    }

    /// The error that ended the run. Where it is that another rank is gone, the first one keeps what it has: the state
    /// after the last whole step.
    fn kept_after(
        &self,
        engine: &mut Engine<&CausalLm>,
        log: Option<LineLog>,
        error: irepair_train::Error,
    ) -> anyhow::Error {
        let is_lost = error.of_ranks().is_some_and(irepair_ranks::Error::is_of_another);
        if is_lost && self.writes && engine.next_step() > 0 && engine.unfinished() {
            engine.end_alone();
            match self.settle(log).and_then(|_| Ok(engine.save(&self.state)?)) {
                Ok(()) => tracing::info!("the state after step {} is kept", engine.next_step()),
                Err(failed) => {
                    tracing::warn!("the state after step {} could not be kept: {failed:#}", engine.next_step())
                }
            }
        }
        error.into()
    }

    /// Continues the run that was stopped here, if any; returns the records of its steps.
    fn resume(&self, engine: &mut Engine<&CausalLm>) -> anyhow::Result<Vec<StepRecord>> {
        if !self.state.exists() {
            return Ok(Vec::new());
        }
        engine.resume(&self.state)?;
        let text = read_to_string(&self.log)?;
        let mut records: Vec<StepRecord> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        // Lines after the checkpoint belong to steps that will be taken again.
        records.retain(|record| record.step < engine.next_step());
        if !records.iter().map(|record| record.step).eq(0..engine.next_step()) {
            let (path, n_steps) = (self.log.clone(), engine.next_step());
            return Err(CliError::BadLog { path, n_steps, n_logged: records.len() }.into());
        }
        tracing::info!("resuming at step {} from {}", engine.next_step(), self.state.display());
        Ok(records)
    }

    /// Flushes the log; one that was removed or changed meanwhile is written again.
    fn settle(&self, log: Option<LineLog>) -> anyhow::Result<Option<LineLog>> {
        let Some(log) = log else { return Ok(None) };
        log.flush()?;
        if log.is_whole() {
            return Ok(Some(log));
        }
        tracing::warn!("{} was changed by another program: it is written again", self.log.display());
        Ok(Some(log.restore()?))
    }
}

/// Removes kept weights that no comparison wants any more.
fn drop_weights(watcher: &Option<(&mut Watcher<'_>, &LoadedModel)>) -> anyhow::Result<()> {
    watcher.as_ref().map_or(Ok(()), |(watcher, _)| watcher.settle())
}

fn line(record: &StepRecord) -> String {
    // Numbers and a list of numbers always serialise.
    serde_json::to_string(record).unwrap_or_default() + "\n"
}
