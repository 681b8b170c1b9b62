//! `irepair repair`: the main job, on the user's own model.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use irepair_config::{Options, RepairOptions, to_toml};
use irepair_core::StepRecord;
use irepair_core::fs::write_atomic;
use irepair_data::Limits;
use irepair_train::{Engine, Outcome, Settings};
use serde::Serialize;

use crate::texts::{Refusal, Sources, repair_data};
use crate::weights::{Opened, open, use_threads};
use crate::{environment, method, progress};

/// Where a killed run's state waits, inside the output directory.
pub(crate) const STATE: &str = ".irepair-state.safetensors";
const METRICS: &str = "metrics.jsonl";

/// What a repair did.
pub(crate) struct Repaired {
    pub(crate) records: Vec<StepRecord>,
    pub(crate) outcome: Outcome,
    /// Largest resident memory of the process when training ended.
    pub(crate) peak_rss_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Summary<'a> {
    out: &'a Path,
    method: String,
    policy: String,
    lr: f64,
    n_steps: u64,
    best_step: Option<u64>,
    best_validation_loss: Option<f64>,
    stopped_early: bool,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    train_seconds: f64,
    /// Times each block was updated.
    selection: Vec<u64>,
}

/// Runs the command.
pub(crate) fn command(options: RepairOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(model), Some(out)) = (options.model.clone(), options.out.clone()) else { unreachable!("validated") };
    refuse_overwriting(&model, &out)?;
    let opened = open(&model, &options.device(), options.dtype())?;
    let repaired = run(&opened, &options, &out)?;
    opened.model.save(&out)?;
    write_atomic(&out.join("repair.toml"), to_toml(&options.with_defaults()).as_bytes())?;
    let _ = std::fs::remove_file(out.join(STATE));
    let summary = Summary {
        out: &out,
        method: options.method().to_string(),
        policy: options.policy().to_string(),
        lr: options.lr(),
        n_steps: repaired.outcome.n_steps,
        best_step: repaired.outcome.best_step,
        best_validation_loss: repaired.outcome.best_loss,
        stopped_early: repaired.outcome.stopped_early,
        first_loss: repaired.records.first().map(|r| r.loss),
        last_loss: repaired.records.last().map(|r| r.loss),
        train_seconds: repaired.records.iter().map(|r| r.seconds).sum(),
        selection: selection(&repaired.records, opened.model.n_blocks()),
    };
    if options.json() {
        return print(&(serde_json::to_string_pretty(&summary)? + "\n"));
    }
    let best = summary.best_step.map_or("the last step".to_owned(), |s| format!("step {s}"));
    print(&format!(
        "repaired with {} ({}): {} steps in {:.1} s, weights of {best}\nblocks updated (block: times): {}\nmodel: {}\n",
        summary.method,
        summary.policy,
        summary.n_steps,
        summary.train_seconds,
        summary.selection.iter().enumerate().map(|(b, n)| format!("{b}: {n}")).collect::<Vec<_>>().join("  "),
        out.display()
    ))
}

/// Writes to stdout; a closed pipe is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Times each block was updated.
pub(crate) fn selection(records: &[StepRecord], n_blocks: usize) -> Vec<u64> {
    let mut counts = vec![0; n_blocks];
    records.iter().flat_map(|r| r.slice.iter()).for_each(|block| counts[block.0] += 1);
    counts
}

/// Inputs are never written over, and neither is a finished model.
fn refuse_overwriting(model: &Path, out: &Path) -> anyhow::Result<()> {
    let same = out.canonicalize().is_ok_and(|out| model.canonicalize().is_ok_and(|model| model == out));
    if same || out.join("config.json").exists() {
        return Err(Refusal::OutExists { path: out.to_owned() }.into());
    }
    Ok(())
}

/// Trains `opened` in place, logging to `out/metrics.jsonl`; resumes a run that was killed there.
pub(crate) fn run(opened: &Opened, options: &RepairOptions, out: &Path) -> anyhow::Result<Repaired> {
    let Some(objective) = method::objective(options) else {
        return Ok(Repaired {
            records: Vec::new(),
            outcome: Outcome { n_steps: 0, best_step: None, best_loss: None, stopped_early: false },
            peak_rss_bytes: environment::peak_rss_bytes(),
        });
    };
    let Some(pairs) = &options.pairs else { unreachable!("validated") };
    let sources = Sources {
        pairs,
        general: options.general.as_deref(),
        limits: Limits { max_prompt: options.max_prompt(), max_continuation: options.max_continuation() },
        n_validation: options.n_validation(),
        needs_utility: objective.needs().utility,
        seed: options.seed(),
    };
    let data = repair_data(opened, &sources)?;
    let settings = method::settings(options, data.pairs.len());
    let mut localiser = method::localiser(options, &data, &settings)?;
    let mut engine = Engine::new(&opened.model, objective, localiser.as_mut(), &data, settings.clone())?;
    let records = train(&mut engine, &settings, options.checkpoint_every(), out)?;
    let outcome = engine.finish()?;
    Ok(Repaired { records, outcome, peak_rss_bytes: environment::peak_rss_bytes() })
}

/// The loop around the engine: log, checkpoint, show progress.
fn train(
    engine: &mut Engine<'_>,
    settings: &Settings,
    checkpoint_every: u64,
    out: &Path,
) -> anyhow::Result<Vec<StepRecord>> {
    let (state, log) = (out.join(STATE), out.join(METRICS));
    std::fs::create_dir_all(out)?;
    let mut records: Vec<StepRecord> = Vec::new();
    if state.exists() {
        engine.resume(&state)?;
        let text = irepair_core::fs::read_to_string(&log)?;
        // Lines written after the checkpoint belong to steps that are about to be taken again.
        records = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        records.retain(|record| record.step < engine.next_step());
        tracing::info!("resuming at step {} from {}", engine.next_step(), state.display());
    }
    let lines: String = records.iter().map(line).collect();
    write_atomic(&log, lines.as_bytes())?;
    let mut log = OpenOptions::new().append(true).open(&log)?;
    let bar = progress::bar("repair", settings.n_steps);
    while engine.unfinished() {
        let record = engine.step()?;
        log.write_all(line(&record).as_bytes())?;
        bar.set_position(record.step + 1);
        bar.set_message(format!("loss {:.3}, block {}", record.loss, record.slice));
        records.push(record);
        if engine.next_step() % checkpoint_every == 0 && engine.unfinished() {
            log.sync_data()?;
            engine.save(&state)?;
        }
    }
    log.sync_all()?;
    bar.finish_and_clear();
    Ok(records)
}

fn line(record: &StepRecord) -> String {
    // Numbers and a list of numbers always serialise.
    serde_json::to_string(record).unwrap_or_default() + "\n"
}
