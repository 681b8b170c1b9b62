//! `irepair job`: one row of a table: repair, measure, write `result.json`.

use std::path::Path;

use irepair_config::{EvalOptions, Job, Options, RepairOptions, RepairPlan, Watch, from_toml, resolve, to_toml};
use irepair_core::fs::write_atomic;
use irepair_core::{DirLock, StepRecord};
use irepair_data::Tokenizer;
use irepair_eval::{Evaluator, Generation};
use irepair_model::{BlockModel, CausalLm};
use irepair_report::{Cost, RowResult, SCHEMA, Sample, write_result};
use irepair_train::step_flops;

use crate::environment::Environment;
use crate::measure::{Measured, measure};
use crate::method::objective;
use crate::model_dir::use_threads;
use crate::repair::{Repaired, run, selection};
use crate::run_dir::remove_state;
use crate::watch::Watcher;

/// Before-and-after texts kept per row.
const N_SAMPLES: usize = 8;

/// Runs the command.
pub(crate) fn command(file: &Path, out: &Path) -> anyhow::Result<()> {
    let job: Job = from_toml(file)?;
    let place = file.display().to_string();
    let repair = RepairOptions { out: Some(out.to_owned()), ..job.repair.clone() };
    let plan = resolve(&repair, &place)?;
    let base = plan.model.clone();
    // The measured model is the repaired one; while training there is no reference.
    let watched = |eval: &EvalOptions| EvalOptions { model: Some(base.clone()), reference: None, ..eval.clone() };
    let eval = resolve(&EvalOptions { reference: Some(base.clone()), ..watched(&job.eval) }, &place)?;
    let watch = |watch: &Watch| anyhow::Ok(Watcher::new(watch.every, resolve(&watched(&watch.eval), &place)?, out));
    let mut watcher = job.watch.as_ref().map(watch).transpose()?;
    use_threads(plan.threads);
    let (opened, run) = run(&repair, plan.clone(), |out| Ok(DirLock::take(out)?), watcher.as_mut())?;
    let (reference, _) = CausalLm::load(&base, opened.model.device(), opened.model.kind())?;
    let measured = measure(&opened, Some(&reference), &eval)?;
    let trained = plan.method.trains();
    let (trajectory, watched) = watcher.map(Watcher::finish).unwrap_or_default();
    let generation = Generation { prompt_tokens: eval.prompt_tokens, n_new: eval.max_new_tokens };
    let samples = samples(&measured, &base, &reference, &generation)?;
    let mut metrics = measured.metrics;
    metrics.extend(watched);
    let result = RowResult {
        schema: SCHEMA,
        profile: job.profile.clone(),
        row: job.row(),
        title: job.title.clone(),
        model: job.model.clone(),
        seed: plan.seed,
        lr: trained.then_some(plan.lr),
        cost: if trained { cost(&run, &opened.model, &plan) } else { None },
        selection: if trained { selection(&run.records, opened.model.n_blocks()) } else { Vec::new() },
        selected_steps: run.records.iter().map(|r| r.slice.iter().map(|b| b.0).collect()).collect(),
        weight_change: measured.footprint.as_ref().map(|f| f.weight_change()).unwrap_or_default(),
        trajectory,
        samples,
        metrics,
        prompt_scores: measured.prompt_scores,
        prompt_scores_by_scorer: measured.prompt_scores_by_scorer,
    };
    if trained && job.keep_model.unwrap_or(true) {
        opened.model.save(&out.join("model"))?;
    }
    let environment = Environment::of(&plan.device, &base, Some(&plan.pairs))?;
    write_result(&out.join("env.json"), &environment)?;
    let settings = [to_toml(&job.repair.with_defaults()), to_toml(&job.eval.with_defaults())];
    write_atomic(&out.join("config.toml"), format!("# repair\n{}\n# eval\n{}", settings[0], settings[1]).as_bytes())?;
    // The result is written last: a row with a result is finished, and its state is not needed any more.
    write_result(&out.join("result.json"), &result)?;
    Ok(remove_state(out)?)
}

/// Measured cost of the training alone.
fn cost(run: &Repaired, model: &CausalLm, plan: &RepairPlan) -> Option<Cost> {
    let records = &run.records;
    let train_s: f64 = records.iter().map(|r| r.seconds).sum();
    let tokens: u64 = records.iter().map(|r| r.tokens).sum();
    let mut seconds: Vec<f64> = records.iter().map(|r| r.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    Some(Cost {
        train_s,
        median_step_s: *seconds.get(seconds.len() / 2)?,
        tokens,
        tokens_per_s: tokens as f64 / train_s,
        peak_rss_bytes: run.peak_rss_bytes?,
        flops: flops(model, plan, records),
        n_steps: run.outcome.n_steps,
        best_step: run.outcome.best_step.unwrap_or(run.outcome.n_steps),
    })
}

/// Texts of the base model and of this one after the first prompts.
fn samples(
    measured: &Measured,
    base: &Path,
    reference: &CausalLm,
    generation: &Generation,
) -> anyhow::Result<Vec<Sample>> {
    let prompts = &measured.prompts[..measured.prompts.len().min(N_SAMPLES)];
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let tokenizer = Tokenizer::load(base)?;
    let evaluator = Evaluator::new(reference, &tokenizer, N_SAMPLES);
    let before = evaluator.greedy_continuations(prompts, generation)?.texts;
    let texts = prompts.iter().zip(before).zip(&measured.continuations);
    Ok(texts.map(|((prompt, before), after)| Sample { prompt: prompt.clone(), before, after: after.clone() }).collect())
}

/// Counted work of all steps (METHOD §12).
fn flops(model: &CausalLm, plan: &RepairPlan, records: &[StepRecord]) -> f64 {
    let (policy, every) = (plan.policy, plan.policy_every);
    let Some(objective) = objective(plan) else { return 0.0 };
    let of_step = |record: &StepRecord| {
        step_flops(model, &objective, policy.is_sliced(), policy.measures_at(record.step, every), record)
    };
    records.iter().map(of_step).sum()
}
