//! The loop around the engine: every step logged, a checkpoint every so often, a killed run taken up where it was.

use std::path::{Path, PathBuf};

use irepair_core::fs::{read_to_string, remove};
use irepair_core::{LineLog, StepRecord};
use irepair_model::CausalLm;
use irepair_train::Engine;

use crate::interrupt::{self, Listening};
use crate::progress;
use crate::refusal::Refusal;
use crate::spikes::SpikeWatch;
use crate::watch::Watcher;
use crate::weights::Opened;

/// Where a killed run's state waits, inside the output directory.
pub(crate) const STATE: &str = ".irepair-state.safetensors";

/// What a run keeps on its way.
pub(crate) struct Keep {
    /// What the bar says.
    what: &'static str,
    state: PathBuf,
    log: PathBuf,
    n_steps: u64,
    checkpoint_every: u64,
}

impl Keep {
    /// A run of `n_steps` in the directory `out`, whose steps are logged in its file `log`.
    pub(crate) fn new(what: &'static str, out: &Path, log: &str, n_steps: u64, checkpoint_every: u64) -> Self {
        Self { what, state: out.join(STATE), log: out.join(log), n_steps, checkpoint_every }
    }

    /// Takes all steps that are left; returns the records of all there are, from the log: no step adds to what is in memory.
    pub(crate) fn run(
        &self,
        engine: &mut Engine<&CausalLm>,
        mut watcher: Option<(&mut Watcher<'_>, &Opened)>,
    ) -> anyhow::Result<Vec<StepRecord>> {
        let records = self.resume(engine)?;
        let mut log = LineLog::start(&self.log, &records.iter().map(line).collect::<String>())?;
        let bar = progress::bar(self.what, self.n_steps);
        if let Some((watcher, opened)) = &mut watcher {
            watcher.resume(engine.next_step())?;
            watcher.look(engine.next_step(), false, opened)?;
        }
        let mut spikes = SpikeWatch::after(&records);
        drop(records);
        interrupt::prepare();
        let mut listening = None;
        while engine.unfinished() {
            let mut record = engine.step()?;
            // Before the first step of this process, which may measure for hours, there is nothing new to keep.
            let listening = listening.get_or_insert_with(Listening::start);
            spikes.look(&mut record);
            log.add(&line(&record))?;
            bar.set_position(record.step + 1);
            bar.set_message(format!("loss {:.3}, block {}", record.loss, record.slice));
            if let Some((watcher, opened)) = &mut watcher {
                watcher.look(engine.next_step(), !engine.unfinished(), opened)?;
            }
            let interrupted = listening.asked() && engine.unfinished();
            let due = engine.next_step().is_multiple_of(self.checkpoint_every) && engine.unfinished();
            if interrupted || due || !engine.unfinished() {
                log = self.settle(log)?;
            }
            if interrupted || due {
                engine.save(&self.state)?;
            }
            if interrupted {
                bar.finish_and_clear();
                let (state, n_done, n_steps) = (self.state.clone(), engine.next_step(), self.n_steps);
                return Err(Refusal::Interrupted { state, n_done, n_steps }.into());
            }
        }
        spikes.finish();
        bar.finish_and_clear();
        log.lines()?.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }

    /// Takes up the run that was killed here, if any; returns the records of its steps.
    fn resume(&self, engine: &mut Engine<&CausalLm>) -> anyhow::Result<Vec<StepRecord>> {
        if !self.state.exists() {
            return Ok(Vec::new());
        }
        engine.resume(&self.state)?;
        let text = read_to_string(&self.log)?;
        let mut records: Vec<StepRecord> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        // Lines written after the checkpoint belong to steps that are about to be taken again.
        records.retain(|record| record.step < engine.next_step());
        if !records.iter().map(|record| record.step).eq(0..engine.next_step()) {
            let (path, n_steps) = (self.log.clone(), engine.next_step());
            return Err(Refusal::BadLog { path, n_steps, n_logged: records.len() }.into());
        }
        tracing::info!("resuming at step {} from {}", engine.next_step(), self.state.display());
        Ok(records)
    }

    /// Flushes the log; one that somebody removed or changed is written anew.
    fn settle(&self, log: LineLog) -> anyhow::Result<LineLog> {
        log.flush()?;
        if log.is_whole() {
            return Ok(log);
        }
        tracing::warn!("{} was changed by somebody else: it is written anew", self.log.display());
        Ok(log.restore()?)
    }
}

/// Removes the checkpoint of a run whose outputs are whole.
pub(crate) fn forget(out: &Path) -> irepair_core::Result<()> {
    remove(&out.join(STATE))
}

fn line(record: &StepRecord) -> String {
    // Numbers and a list of numbers always serialise.
    serde_json::to_string(record).unwrap_or_default() + "\n"
}
