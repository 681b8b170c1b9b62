//! `irepair job`: one row of a table: repair, measure, write `result.json`.

use std::path::Path;

use irepair_config::{Job, from_toml, to_toml};
use irepair_core::fs::write_atomic;
use irepair_core::{DirLock, StepRecord};
use irepair_model::{BlockModel, CausalLm};
use irepair_report::{Cost, RowResult, SCHEMA, Sample, write_result};
use irepair_train::step_flops;

use crate::environment::Environment;
use crate::evaluate::measure;
use crate::method::objective;
use crate::repair::{Repaired, run, selection};
use crate::steps;
use crate::watch::Watcher;
use crate::weights::use_threads;

/// Before-and-after texts kept per row.
const N_SAMPLES: usize = 8;

/// Runs the command.
pub(crate) fn command(job: &Path, out: &Path) -> anyhow::Result<()> {
    let job: Job = from_toml(job)?;
    use_threads(job.repair.threads);
    let Some(base) = &job.repair.model else { unreachable!("validated") };
    let device = job.repair.device();
    let mut watcher = job.watch.as_ref().map(|watch| Watcher::new(watch, out));
    let (opened, repaired) = run(base, &job.repair, out, |out| Ok(DirLock::take(out)?), watcher.as_mut())?;
    let (reference, _) = CausalLm::load(base, opened.model.device(), opened.model.kind())?;
    let measured = measure(&opened, Some(&reference), &job.eval)?;
    let trained = job.repair.method().trains();
    let (trajectory, watched) = watcher.map(Watcher::finish).unwrap_or_default();
    let mut metrics = measured.metrics;
    metrics.extend(watched);
    let result = RowResult {
        schema: SCHEMA,
        profile: job.profile.clone(),
        row: job.row(),
        title: job.title.clone(),
        model: job.model.clone(),
        seed: job.repair.seed(),
        lr: trained.then(|| job.repair.lr()),
        cost: if trained { cost(&repaired, &opened.model, &job) } else { None },
        selection: if trained { selection(&repaired.records, opened.model.n_blocks()) } else { Vec::new() },
        selected_steps: repaired.records.iter().map(|r| r.slice.iter().map(|b| b.0).collect()).collect(),
        weight_change: measured.footprint.as_ref().map(|f| f.weight_change()).unwrap_or_default(),
        trajectory,
        samples: samples(&measured.prompts, &measured.continuations, &job, &reference)?,
        metrics,
        prompt_scores: measured.prompt_scores,
        prompt_scores_by_scorer: measured.prompt_scores_by_scorer,
    };
    if trained && job.keep_model.unwrap_or(true) {
        opened.model.save(&out.join("model"))?;
    }
    let environment = Environment::of(&device, base, job.repair.pairs.as_deref())?;
    write_atomic(&out.join("env.json"), (serde_json::to_string_pretty(&environment)? + "\n").as_bytes())?;
    write_atomic(&out.join("config.toml"), effective(&job).as_bytes())?;
    // The result comes last: a row with a result is a finished row, which needs no checkpoint to go on from.
    write_result(&out.join("result.json"), &result)?;
    Ok(steps::forget(out)?)
}

/// The settings in effect, defaults spelled out.
fn effective(job: &Job) -> String {
    use irepair_config::Options;
    format!("# repair\n{}\n# eval\n{}", to_toml(&job.repair.with_defaults()), to_toml(&job.eval.with_defaults()))
}

/// Measured cost of the training alone.
fn cost(repaired: &Repaired, model: &CausalLm, job: &Job) -> Option<Cost> {
    let records = &repaired.records;
    let train_s: f64 = records.iter().map(|r| r.seconds).sum();
    let tokens: u64 = records.iter().map(|r| r.tokens).sum();
    let mut seconds: Vec<f64> = records.iter().map(|r| r.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    Some(Cost {
        train_s,
        median_step_s: *seconds.get(seconds.len() / 2)?,
        tokens,
        tokens_per_s: tokens as f64 / train_s,
        peak_rss_bytes: repaired.peak_rss_bytes?,
        flops: flops(model, job, records),
        n_steps: repaired.outcome.n_steps,
        best_step: repaired.outcome.best_step.unwrap_or(repaired.outcome.n_steps),
    })
}

/// What the base model and this one say to the first prompts.
fn samples(prompts: &[String], after: &[String], job: &Job, reference: &CausalLm) -> anyhow::Result<Vec<Sample>> {
    let n = prompts.len().min(N_SAMPLES);
    let Some(base) = job.repair.model.as_deref().filter(|_| n > 0) else { return Ok(Vec::new()) };
    let tokenizer = irepair_data::Tokenizer::load(base)?;
    let generation = irepair_eval::Generation {
        prompt_tokens: job.eval.prompt_tokens(),
        n_new: job.eval.max_new_tokens(),
        batch_size: N_SAMPLES,
    };
    let before = irepair_eval::greedy_continuations(reference, &tokenizer, &prompts[..n], &generation)?.texts;
    let sample = |((prompt, before), after): ((&String, String), &String)| Sample {
        prompt: prompt.clone(),
        before,
        after: after.clone(),
    };
    Ok(prompts.iter().zip(before).zip(after).map(sample).collect())
}

/// Counted work of all steps (METHOD §12).
fn flops(model: &CausalLm, job: &Job, records: &[StepRecord]) -> f64 {
    let (policy, every) = (job.repair.policy(), job.repair.policy_every());
    let Some(objective) = objective(&job.repair) else { return 0.0 };
    let of_step = |record: &StepRecord| {
        step_flops(model, &objective, policy.is_sliced(), policy.measures_at(record.step, every), record)
    };
    records.iter().map(of_step).sum()
}
