//! `irepair repair`: repairs the user's own model.

use std::cmp::Ordering;
use std::f64::consts::LN_2;
use std::path::Path;
use std::sync::Arc;

use irepair_config::{Method, RepairOptions, RepairPlan, to_toml};
use irepair_core::fs::{remove, sha256_file, write_atomic};
use irepair_core::{DirLock, StepRecord, is_unfinished, mark_finished};
use irepair_data::split_validation;
use irepair_model::{BlockModel, CausalLm, Rounded, weights_sha256};
use irepair_patch::{Kind, Patch, Provenance, Side, model_id};
use irepair_ranks::{Ranks, TcpRanks};
use irepair_report::{EVENTS, write_events};
use irepair_train::{Engine, Outcome, RepairData};
use serde::Serialize;

use crate::error::CliError;
use crate::model_dir::{LoadedModel, ModelDir, use_threads};
use crate::not_finite::{self, PairsFile, Source};
use crate::output::{four_decimals, print, print_json};
use crate::prepare::{Prepared, limits, sides};
use crate::rank::on_this_machine;
use crate::run_dir::{STATE, claim, refuse_inside, refuse_used, remove_state};
use crate::selection::{UnitsUpdated, blocks, selection};
use crate::train_loop::TrainLoop;
use crate::utility::own_texts;
use crate::watch::Watcher;
use crate::{environment, method};

const METRICS: &str = "metrics.jsonl";
/// The settings in effect, written after the training.
const SETTINGS: &str = "repair.toml";

/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair repair";

/// A finished training.
pub(crate) struct Repaired {
    pub(crate) records: Vec<StepRecord>,
    pub(crate) outcome: Outcome,
    /// The settings in effect: those given, and those that were left open.
    plan: RepairPlan,
    /// Largest resident memory of the process when training ended.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Hash of the weights that the run started from.
    weights_before: String,
    /// Keeps other processes out of the output directory; none in a rank that writes nothing.
    _held: Option<DirLock>,
}

#[derive(Serialize)]
struct Summary<'a> {
    out: &'a Path,
    method: String,
    policy: String,
    lr: f64,
    n_steps: u64,
    best_step: Option<u64>,
    /// Before the first step.
    first_validation_loss: Option<f64>,
    /// Of the weights as they are saved.
    best_validation_loss: Option<f64>,
    /// Of the weights after the last step.
    last_validation_loss: Option<f64>,
    /// SHA-256 of the weights as they are saved.
    weights_sha256: String,
    /// Given where the files store narrower numbers than were trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<Rounding>,
    stopped_early: bool,
    /// Of the saved weights before rounding, on held-out utility texts; given under a KL budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<f64>,
    /// True when the KL budget ended the run.
    over_budget: bool,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    train_seconds: f64,
    /// Times each block was updated, or a part of it.
    selection: Vec<u64>,
    /// Given where units below the block were updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<UnitsUpdated>,
}

/// The effect of storing the weights in a narrower type.
#[derive(Serialize)]
struct Rounding {
    /// Weights that training changed.
    n_changed: u64,
    /// Share of these whose rounded value is the old one.
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
pub(crate) fn command((given, plan): (RepairOptions, RepairPlan), ranks: Option<&Arc<TcpRanks>>) -> anyhow::Result<()> {
    use_threads(plan.threads);
    if ranks.is_some_and(|ranks| !ranks.is_first()) {
        // Only the first rank writes, and only it knows when the output is whole.
        run(&given, plan, None, None, ranks)?;
        return Ok(());
    }
    let (model, out, json) = (plan.model.clone(), plan.out.clone(), plan.json);
    refuse_used(&out, MAKER)?;
    refuse_inside(plan.patch.as_deref(), &out)?;
    // A run that was stopped after its training may have written its patch.
    if !(is_unfinished(&out) && out.join(SETTINGS).exists()) {
        plan.patch.as_deref().map_or(Ok(()), irepair_patch::refuse_existing)?;
    }
    let (opened, run) = run(&given, plan, Some(|out: &Path| claim(out, MAKER)), None, ranks)?;
    remove(&out.join("config.json"))?;
    write_atomic(&out.join(SETTINGS), to_toml(&RepairOptions::from(run.plan.clone())).as_bytes())?;
    opened.model.save(&out)?;
    write_patch(&model, &out, &run, &opened.model)?;
    if run.plan.tensorboard {
        let n_scalars = write_events(&out, &run.records)?;
        tracing::info!("{}: {n_scalars} scalars for TensorBoard", out.join(EVENTS).display());
    }
    remove_state(&out)?;
    mark_finished(&out)?;
    let summary = Summary::of(&run, &out, &opened.model);
    if json {
        print_json(&summary)?
    } else {
        print(&summary.table())?
    }
    if run.plan.method.trains() && summary.weights_sha256 == run.weights_before {
        let why = if summary.over_budget && summary.best_step == Some(0) {
            "the first validation was over the KL budget: give a lower --lr, a smaller --eval-every or a larger --budget-kl"
        } else {
            "no update changed a bit of them: give a larger --lr, more steps or --dtype f32, and look at the pairs"
        };
        return Err(CliError::Unchanged { out, why }.into());
    }
    Ok(())
}

impl<'a> Summary<'a> {
    fn of(run: &Repaired, out: &'a Path, model: &CausalLm) -> Self {
        let (outcome, records) = (&run.outcome, &run.records);
        let validated = records.iter().rev().find_map(|record| record.validation_loss);
        Self {
            out,
            method: run.plan.method.to_string(),
            policy: run.plan.policy.to_string(),
            lr: run.plan.lr,
            n_steps: outcome.n_steps,
            best_step: outcome.best_step,
            first_validation_loss: records.first().and_then(|record| record.validation_loss_before),
            best_validation_loss: outcome.saved_loss,
            last_validation_loss: outcome.last_loss.or(validated),
            weights_sha256: weights_sha256(model.parameters()),
            rounding: Rounding::of(outcome),
            stopped_early: outcome.stopped_early,
            kl: outcome.best_kl,
            over_budget: outcome.is_over_budget,
            first_loss: records.first().map(|r| r.loss),
            last_loss: records.last().map(|r| r.loss),
            train_seconds: records.iter().map(|r| r.seconds).fold(0.0, |sum, s| sum + s),
            selection: selection(records, model.n_blocks()),
            units: UnitsUpdated::of(records, model.unit_map().as_ref()),
        }
    }

    /// Whether the held-out pairs say that it got better; empty where there are none.
    fn verdict(&self) -> String {
        let (Some(first), Some(best)) = (self.first_validation_loss, self.best_validation_loss) else {
            return String::new();
        };
        let last = self.last_validation_loss.map_or(String::new(), |last| format!(", {last:.4} at the end"));
        let verdict = match best.partial_cmp(&first) {
            Some(Ordering::Less) => "better",
            Some(Ordering::Equal) => "no better than before",
            _ => "WORSE than before: give a lower --lr, or more pairs that agree with each other",
        };
        format!("held-out pairs, loss: {first:.4} before, {best:.4} saved{last}: {verdict}\n")
    }

    fn table(&self) -> String {
        let rounding = self.rounding.as_ref().map_or(String::new(), |r| {
            format!(
                "the model's files store a narrower type than was trained: {:.1} % of {} changed weights keep their old value, \
                 validation loss {} → {}\n",
                100.0 * r.share_lost,
                r.n_changed,
                four_decimals(r.validation_loss_before),
                four_decimals(self.best_validation_loss)
            )
        });
        let disturbance = match (self.kl, self.over_budget) {
            (Some(_), true) if self.best_step == Some(0) => String::new(),
            (Some(kl), true) => {
                format!(
                    "KL to the model before: {kl:.4} nats a token; the run ended where more steps passed the budget\n"
                )
            }
            (Some(kl), false) => format!("KL to the model before: {kl:.4} nats a token, within the budget\n"),
            (None, _) => String::new(),
        };
        format!(
            "repaired with {} ({}): {} steps in {:.1} s, weights of {}\nblocks updated (block: times): {}\n{}{}{rounding}{disturbance}\
             model: {}\n",
            self.method,
            self.policy,
            self.n_steps,
            self.train_seconds,
            self.best_step.map_or("the last step".to_owned(), |s| format!("step {s}")),
            self.selection.iter().enumerate().map(|(b, n)| format!("{b}: {n}")).collect::<Vec<_>>().join("  "),
            self.units.as_ref().map_or(String::new(), UnitsUpdated::table),
            self.verdict(),
            self.out.display()
        )
    }
}

/// Writes the patch of a repair, where its settings ask for one.
fn write_patch(model: &Path, out: &Path, run: &Repaired, repaired: &CausalLm) -> anyhow::Result<()> {
    let plan = &run.plan;
    let Some(path) = &plan.patch else { return Ok(()) };
    if path.exists() {
        // It did not exist at the start: this run made it before it was stopped, or another program made one.
        let patch = Patch::open(path)?;
        let leads = |side, dir| Ok::<_, irepair_patch::Error>(patch.manifest().model_id(side) == model_id(dir)?);
        let leads_here = leads(Side::Base, model)? && leads(Side::Result, out)?;
        return if leads_here { Ok(()) } else { Ok(irepair_patch::refuse_existing(path)?) };
    }
    let units = UnitsUpdated::of(&run.records, repaired.unit_map().as_ref());
    let provenance = Provenance {
        method: Some(plan.method.to_string()),
        policy: Some(plan.policy.to_string()),
        config_sha256: Some(sha256_file(&out.join(SETTINGS))?),
        seed: Some(plan.seed),
        blocks: Some(blocks(&run.records).iter().map(|block| block.0).collect()),
        units: units.map(|units| units.list().to_string()),
        ..Default::default()
    };
    let patch = irepair_patch::create(model, out, Kind::Xor, provenance, path)?;
    tracing::info!("patch: {}, {} tensors changed", path.display(), patch.manifest().changed().count());
    Ok(())
}

/// Opens the model and trains it, logging to `metrics.jsonl` of the output directory; continues a run that was stopped
/// there. `hold` locks the directory just before the first file is written; without it none is, as in every rank above
/// the first.
pub(crate) fn run(
    given: &RepairOptions,
    plan: RepairPlan,
    hold: Option<fn(&Path) -> anyhow::Result<DirLock>>,
    mut watcher: Option<&mut Watcher<'_>>,
    ranks: Option<&Arc<TcpRanks>>,
) -> anyhow::Result<(LoadedModel, Repaired)> {
    let dir = ModelDir::read(&plan.model)?;
    let mut prepared = Prepared::new(&dir, given, plan, ranks.map_or(1, |ranks| ranks.n_local()))?;
    let mut opened = dir.open_within(&prepared.plan.device, prepared.plan.dtype, prepared.most_resident)?;
    let weights_before = weights_sha256(opened.model.parameters());
    let (mut records, mut outcome, mut held) = (Vec::new(), Outcome::default(), None);
    if let Some(objective) = method::objective(&prepared.plan) {
        let data = Arc::new(repair_data(&opened, &mut prepared, objective.needs().utility)?);
        let (plan, out) = (&prepared.plan, &prepared.plan.out);
        // Now: texts of the model itself are those of the model as it was.
        if let Some(n) = plan.soft_prefix {
            opened.model = opened.model.with_soft_prefix(n, plan.seed)?;
        }
        let settings = method::settings(plan, data.pairs.len());
        let localiser = method::localiser(plan, &data, &settings, opened.model.config())?;
        let train_loop = TrainLoop::new("repair", out, METRICS, settings.n_steps, plan.checkpoint_every);
        let train_loop = if hold.is_some() { train_loop } else { train_loop.silent() };
        let mut engine = Engine::new(&opened.model, objective, localiser, &data, settings)?
            .identified_by("the tokenizer", &opened.tokenizer.sha256()?)
            .identified_by("--dtype", plan.dtype.to_string().as_str())
            .identified_by("--append-eos", if plan.append_eos { "true" } else { "false" });
        if let Some(ranks) = ranks {
            engine = engine.among(Arc::<TcpRanks>::clone(ranks), on_this_machine(out, plan.checkpoint_every)?)?;
        }
        // Files are written after this line.
        if let Some(hold) = hold {
            held = Some(hold(out)?);
            remove(&out.join(not_finite::DUMP))?;
        }
        let trained = train_loop.run(&mut engine, watcher.as_deref_mut().map(|w| (w, &opened)));
        let columns = plan.columns.clone().unwrap_or_default();
        let file = PairsFile { path: &plan.pairs, columns: &columns, limits: limits(plan), sides: sides(plan) };
        let source = Source { data: &data, tokenizer: &opened.tokenizer, file: Some(file) };
        (records, outcome) = trained
            .and_then(|records| {
                let outcome = match watcher.as_deref() {
                    Some(watcher) if watcher.paused() => Outcome { n_steps: engine.next_step(), ..Outcome::default() },
                    Some(watcher) if watcher.diverged() => engine.abandon()?.1,
                    _ => engine.finish()?.1,
                };
                Ok((records, outcome))
            })
            .map_err(|error| if hold.is_some() { not_finite::explain(error, &source, out) } else { error })?;
    }
    let plan = prepared.plan;
    // Nothing is trained, so the state of another run is not continued.
    if method::objective(&plan).is_none() && plan.out.join(STATE).exists() {
        return Err(CliError::OutExists { path: plan.out }.into());
    }
    let _held = match (held, hold) {
        (None, Some(hold)) => Some(hold(&plan.out)?),
        (held, _) => held,
    };
    let peak_rss_bytes = watcher.map_or_else(environment::peak_rss_bytes, |w| w.peak_rss_bytes());
    warn_of_ln_2(&plan, &records);
    Ok((opened, Repaired { records, outcome, plan, peak_rss_bytes, weights_before, _held }))
}

/// Says that DPO's loss has never left its start, ln 2, once the warm-up was over.
fn warn_of_ln_2(plan: &RepairPlan, records: &[StepRecord]) {
    let after: Vec<&StepRecord> = records.iter().filter(|record| record.step > plan.warmup_steps).collect();
    let is_start = |record: &&StepRecord| (record.loss - LN_2).abs() < 1e-7;
    if plan.method == Method::Dpo && after.len() > 1 && after.iter().all(is_start) {
        tracing::warn!(
            "the loss stayed at ln 2, its value before training: the two sides of the pairs are the same, or the updates are \
             too small for the number type (--lr, --dtype)"
        );
    }
}

/// The prepared pairs, taken out, and utility texts where the objective or a Fisher matrix reads them; some are held
/// out for the objective.
fn repair_data(opened: &LoadedModel, prepared: &mut Prepared, needs_utility: bool) -> anyhow::Result<RepairData> {
    let n_utility = prepared.n_utility();
    let [pairs, validation] = [&mut prepared.pairs, &mut prepared.validation].map(std::mem::take);
    let (mut utility, mut validation_utility) = (Vec::new(), Vec::new());
    if prepared.plan.reads_utility() {
        let plan = &prepared.plan;
        let texts = match prepared.utility.take() {
            Some(texts) => texts,
            None => own_texts(opened, n_utility, plan)?,
        };
        let (n, is_trained_on) = (texts.len(), needs_utility || plan.reads_fisher());
        if is_trained_on {
            // A tenth, and no more than there are validation pairs, is held out to judge the KL term or budget on.
            let judged = needs_utility || plan.budget_kl.is_some();
            let n_held_out = if validation.is_empty() || !judged { 0 } else { (n / 10).clamp(1, validation.len()) };
            (utility, validation_utility) = split_validation(texts, n_held_out).map_err(|_| {
                let path = plan.utility.as_ref().unwrap_or(&plan.model).clone();
                CliError::TooFew { what: "utility texts", path, n_held_out, n, n_empty: 0 }
            })?;
        } else {
            validation_utility = texts;
            validation_utility.truncate(validation.len());
        }
    }
    Ok(RepairData { pairs, validation, utility, validation_utility, pad_id: opened.tokenizer.eos_id() })
}
