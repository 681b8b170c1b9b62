//! `irepair repair`: the main job, on the user's own model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use irepair_config::{Options, RepairOptions, to_toml};
use irepair_core::fs::{remove, write_atomic};
use irepair_core::{DirLock, StepRecord, is_unfinished, mark_finished};
use irepair_data::split_validation;
use irepair_model::{BlockModel, Rounded};
use irepair_train::{Engine, Outcome, RepairData};
use serde::Serialize;

use crate::not_finite::{self, PairsFile, Source};
use crate::plan::{Plan, limits, sides};
use crate::refusal::{Refusal, claim, refuse_foreign};
use crate::steps::{self, Keep};
use crate::utility::own_texts;
use crate::watch::Watcher;
use crate::weights::{Described, Opened, use_threads};
use crate::{environment, method};

const METRICS: &str = "metrics.jsonl";
/// The settings in effect, written once training is done.
const SETTINGS: &str = "repair.toml";

/// What a repair did.
pub(crate) struct Repaired {
    pub(crate) records: Vec<StepRecord>,
    pub(crate) outcome: Outcome,
    /// The settings in effect: those given, and what was chosen where none was.
    pub(crate) options: RepairOptions,
    /// Largest resident memory of the process when training ended.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Keeps other processes out of the output directory.
    _held: DirLock,
}

#[derive(Serialize)]
struct Summary<'a> {
    out: &'a Path,
    method: String,
    policy: String,
    lr: f64,
    n_steps: u64,
    best_step: Option<u64>,
    /// Of the weights as they are saved.
    best_validation_loss: Option<f64>,
    /// Where the files store narrower numbers than were trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Rounding>,
    stopped_early: bool,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    train_seconds: f64,
    /// Times each block was updated.
    selection: Vec<u64>,
}

/// What storing the weights in a narrower type did.
#[derive(Serialize)]
struct Rounding {
    /// Weights that training changed.
    n_changed: u64,
    /// Share of these that are what they were, once rounded.
    share_lost: f64,
    validation_loss_before: Option<f64>,
}

impl Rounding {
    fn of(outcome: &Outcome) -> Option<Self> {
        let Rounded { n_changed, n_lost } = outcome.rounded;
        let share_lost = n_lost as f64 / n_changed as f64;
        (n_changed > 0).then_some(Self { n_changed, share_lost, validation_loss_before: outcome.best_loss })
    }
}

/// Runs the command.
pub(crate) fn command(options: RepairOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(model), Some(out)) = (options.model.clone(), options.out.clone()) else { unreachable!("validated") };
    refuse_overwriting(&model, &out)?;
    refuse_inside(options.patch.as_deref(), &out)?;
    // A run that was cut short after its training may have written its patch.
    if !(is_unfinished(&out) && out.join(SETTINGS).exists()) {
        options.patch.as_deref().map_or(Ok(()), irepair_patch::refuse_existing)?;
    }
    let (opened, repaired) = run(&model, &options, &out, claim, None)?;
    remove(&out.join("config.json"))?;
    write_atomic(&out.join(SETTINGS), to_toml(&repaired.options.with_defaults()).as_bytes())?;
    opened.model.save(&out)?;
    crate::patch::of_repair(&model, &out, &repaired)?;
    steps::forget(&out)?;
    mark_finished(&out)?;
    let summary = Summary {
        out: &out,
        method: options.method().to_string(),
        policy: options.policy().to_string(),
        lr: options.lr(),
        n_steps: repaired.outcome.n_steps,
        best_step: repaired.outcome.best_step,
        best_validation_loss: repaired.outcome.saved_loss,
        rounding: Rounding::of(&repaired.outcome),
        stopped_early: repaired.outcome.stopped_early,
        first_loss: repaired.records.first().map(|r| r.loss),
        last_loss: repaired.records.last().map(|r| r.loss),
        train_seconds: repaired.records.iter().map(|r| r.seconds).sum(),
        selection: selection(&repaired.records, opened.model.n_blocks()),
    };
    if options.json() {
        return print(&(serde_json::to_string_pretty(&summary)? + "\n"));
    }
    let loss = |loss: Option<f64>| loss.map_or("missing".to_owned(), |loss| format!("{loss:.4}"));
    let rounding = summary.rounding.as_ref().map_or(String::new(), |r| {
        let (percent, n) = (100.0 * r.share_lost, r.n_changed);
        format!(
            "stored in a narrower type than trained: {percent:.1} % of {n} changed weights are as before, validation loss {} → {}\n",
            loss(r.validation_loss_before),
            loss(summary.best_validation_loss)
        )
    });
    let best = summary.best_step.map_or("the last step".to_owned(), |s| format!("step {s}"));
    print(&format!(
        "repaired with {} ({}): {} steps in {:.1} s, weights of {best}\nblocks updated (block: times): {}\n{rounding}model: {}\n",
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
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(irepair_core::Error::Io { action: "write", path: "standard output".into(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Times each block was updated.
pub(crate) fn selection(records: &[StepRecord], n_blocks: usize) -> Vec<u64> {
    let mut counts = vec![0; n_blocks];
    records.iter().flat_map(|r| r.slice.iter()).for_each(|block| counts[block.0] += 1);
    counts
}

/// Inputs are never written over, and neither is anything that this run did not make.
fn refuse_overwriting(model: &Path, out: &Path) -> Result<(), Refusal> {
    let same = out.canonicalize().is_ok_and(|out| model.canonicalize().is_ok_and(|model| model == out));
    if same { Err(Refusal::OutExists { path: out.to_owned() }) } else { refuse_foreign(out) }
}

/// A patch lies beside the model that it leads to, not in its directory, whose files it lists.
fn refuse_inside(patch: Option<&Path>, out: &Path) -> anyhow::Result<()> {
    let Some(path) = patch else { return Ok(()) };
    let there = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    let parent = path.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let inside = |found: Option<PathBuf>| found.zip(there(out)).is_some_and(|(found, out)| found.starts_with(out));
    if inside(there(path)) || inside(parent.and_then(there)) {
        return Err(Refusal::PatchInside { path: path.to_owned() }.into());
    }
    Ok(())
}

/// Opens the model, trains it in place, logging to `out/metrics.jsonl`; resumes a run that was killed there. `hold` takes the
/// directory when the first file is about to be written.
pub(crate) fn run(
    model: &Path,
    options: &RepairOptions,
    out: &Path,
    hold: fn(&Path) -> anyhow::Result<DirLock>,
    mut watcher: Option<&mut Watcher<'_>>,
) -> anyhow::Result<(Opened, Repaired)> {
    let described = Described::read(model)?;
    let mut plan = Plan::make(&described, options)?;
    let opened = described.open(&plan.options.device(), plan.options.dtype())?;
    let (mut records, mut outcome, mut held) = (Vec::new(), Outcome::default(), None);
    if let Some(objective) = method::objective(&plan.options) {
        let data = Arc::new(repair_data(model, &opened, &mut plan, objective.needs().utility)?);
        let options = &plan.options;
        let settings = method::settings(options, data.pairs.len());
        let localiser = method::localiser(options, &data, &settings)?;
        let keep = Keep::new("repair", out, METRICS, settings.n_steps, options.checkpoint_every());
        let mut engine = Engine::new(&opened.model, objective, localiser, &data, settings)?
            .identified_by("the tokenizer", &opened.tokenizer.sha256()?);
        // From here on something is written.
        held = Some(hold(out)?);
        remove(&out.join(not_finite::DUMP))?;
        let trained = keep.run(&mut engine, watcher.as_deref_mut().map(|w| (w, &opened)));
        let file = |path| PairsFile { path, limits: limits(options), sides: sides(options) };
        let file = options.pairs.as_deref().map(file);
        let source = Source { data: &data, tokenizer: &opened.tokenizer, file };
        (records, outcome) = trained
            .and_then(|records| Ok((records, engine.finish()?.1)))
            .map_err(|error| not_finite::explain(error, &source, out))?;
    }
    // Nothing is trained, so a state that another run left here is not resumed.
    if held.is_none() && out.join(steps::STATE).exists() {
        return Err(Refusal::OutExists { path: out.to_owned() }.into());
    }
    let _held = held.map_or_else(|| hold(out), Ok)?;
    let peak_rss_bytes = watcher.map_or_else(environment::peak_rss_bytes, |w| w.peak_rss_bytes());
    Ok((opened, Repaired { records, outcome, options: plan.options, peak_rss_bytes, _held }))
}

/// The pairs of the plan, out of it, and utility texts where the objective reads them.
fn repair_data(model: &Path, opened: &Opened, plan: &mut Plan, needs_utility: bool) -> anyhow::Result<RepairData> {
    let n_utility = plan.n_utility();
    let [pairs, validation] = [&mut plan.pairs, &mut plan.validation].map(std::mem::take);
    let (mut utility, mut validation_utility) = (Vec::new(), Vec::new());
    if needs_utility {
        let texts = match plan.general.take() {
            Some(texts) => texts,
            None => own_texts(model, opened, n_utility, &plan.options)?,
        };
        // A tenth, and no more than there are validation pairs, is held out to judge the KL term on.
        let n_held_out = if validation.is_empty() { 0 } else { (texts.len() / 10).clamp(1, validation.len()) };
        let n = texts.len();
        (utility, validation_utility) = split_validation(texts, n_held_out).map_err(|_| {
            let path = plan.options.general.clone().unwrap_or_else(|| model.to_owned());
            Refusal::TooFew { what: "utility texts", path, n_held_out, n }
        })?;
    }
    Ok(RepairData { pairs, validation, utility, validation_utility, pad_id: opened.eos_id })
}
