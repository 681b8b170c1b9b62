//! `irepair job`: one row of a table: repair, measure, write `result.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use irepair_config::{
    EvalOptions, EvalPlan, Job, Options, RelearnOptions, RepairOptions, RepairPlan, Watch, from_toml, resolve, to_toml,
};
use irepair_core::DirLock;
use irepair_core::fs::{open, write_atomic};
use irepair_data::Tokenizer;
use irepair_eval::{Evaluator, Generation};
use irepair_model::{BlockModel, CausalLm};
use irepair_report::{Compared, Cost, MeasuredStep, RowResult, SCHEMA, Sample, Stopped, write_result};

use crate::environment::Environment;
use crate::kept::{KeptWeights, remove_kept};
use crate::measure::{Extent, Measured, generation, measure, measure_model};
use crate::method::flops_of_step;
use crate::model_dir::{LoadedModel, use_threads};
use crate::relearn::{curve, enough_texts};
use crate::repair::{Repaired, run};
use crate::run_dir::remove_state;
use crate::scorers::Scorers;
use crate::selection::selection;
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
    // The measured model is the repaired one. While training, the reference is read where KL is measured alone.
    let watched = |eval: &EvalOptions| {
        let reference = eval.kl_texts.is_some().then(|| base.clone());
        EvalOptions { model: Some(base.clone()), reference, ..eval.clone() }
    };
    let eval = resolve(&EvalOptions { reference: Some(base.clone()), ..watched(&job.eval) }, &place)?;
    let watch = |watch: &Watch| {
        let eval = resolve(&watched(&watch.eval), &place)?;
        anyhow::Ok(Watcher::new(watch.every, watch.kept.as_ref(), Box::new(eval), &plan, out))
    };
    let mut watcher = job.watch.as_ref().map(watch).transpose()?;
    use_threads(plan.threads);
    let relearn = job.relearn.as_ref().map(|relearn| resolve(&relearning(relearn, &job.eval, &plan), &place));
    let relearn = relearn.transpose()?;
    // Training takes far longer than reading these.
    if plan.method.trains() && eval.prompts.is_some() {
        Scorers::open(&eval)?;
    }
    files_of(&eval).try_for_each(|path| open(path).map(drop))?;
    relearn.as_ref().map_or(Ok(()), |relearn| enough_texts(relearn, &Tokenizer::load(&base)?))?;
    let (opened, run) = run(&repair, plan.clone(), Some(|out| Ok(DirLock::take(out)?)), watcher.as_mut(), None)?;
    let trained = plan.method.trains();
    let stopped = watcher.as_ref().filter(|_| trained).and_then(|watcher| watcher.stopped(&run.outcome));
    let compared = watcher.as_ref().filter(|_| trained).map(|w| w.compared(&run.outcome)).unwrap_or_default();
    let watched = watcher.map(Watcher::finish).unwrap_or_default();
    let cost = if trained { cost(&run, &opened.model, &plan) } else { None };
    let result = RowResult {
        schema: SCHEMA,
        profile: job.profile.clone(),
        row: job.row(),
        title: job.title.clone(),
        model: job.model.clone(),
        seed: plan.seed,
        lr: plan.method.has_rate().then_some(plan.lr),
        device: device(&plan),
        cost,
        selection: if trained { selection(&run.records, opened.model.n_blocks()) } else { Vec::new() },
        selected_steps: run.records.iter().map(|r| r.slice.iter().map(|b| b.0).collect()).collect(),
        trajectory: watched.trajectory.clone(),
        stopped,
        ..RowResult::default()
    };
    if stopped == Some(Stopped::Paused) {
        return Ok(write_result(&out.join("result.json"), &result)?);
    }
    let (reference, _) = CausalLm::load(&base, opened.model.device(), opened.model.kind())?;
    let measured = measure(&opened, Some(&reference), &eval)?;
    let generation = generation(&eval);
    let samples = samples(&measured, &base, &reference, &generation)?;
    if trained && job.keep_model.unwrap_or(true) {
        opened.model.save(&out.join("model"))?;
    }
    let best_step = run.outcome.best_step.unwrap_or(run.outcome.n_steps);
    // Of the row's own weights: what follows takes the model for others.
    let relearned = relearn.as_ref().map_or(Ok(Vec::new()), |relearn| curve(&opened, relearn, false))?;
    let measured_steps = match &watched.kept {
        Some(kept) => measure_kept(kept, &compared, best_step, (&opened, &reference), &eval)?,
        None => Vec::new(),
    };
    let mut metrics = measured.metrics;
    metrics.extend(watched.metrics);
    let result = RowResult {
        weight_change: measured.footprint.as_ref().map(|f| f.weight_change()).unwrap_or_default(),
        compared,
        measured: measured_steps,
        samples,
        metrics,
        decoding: measured.decoding,
        prompt_scores: measured.prompt_scores,
        prompt_scores_by_scorer: measured.prompt_scores_by_scorer,
        sampled_max_scores: measured.sampled_max_scores,
        relearned,
        ..result
    };
    let environment = Environment::of(&plan.device, &base, Some(&plan.pairs))?;
    write_result(&out.join("env.json"), &environment)?;
    let settings = [to_toml(&job.repair.with_defaults()), to_toml(&job.eval.with_defaults())];
    let relearn = job.relearn.as_ref().map(|relearn| format!("\n# relearn\n{}", to_toml(&relearn.with_defaults())));
    let text = format!("# repair\n{}\n# eval\n{}{}", settings[0], settings[1], relearn.unwrap_or_default());
    write_atomic(&out.join("config.toml"), text.as_bytes())?;
    // The result is written last: a row with a result is finished, and its state is not needed any more.
    write_result(&out.join("result.json"), &result)?;
    remove_kept(out)?;
    Ok(remove_state(out)?)
}

/// The files of texts that a row is measured on.
fn files_of(eval: &EvalPlan) -> impl Iterator<Item = &PathBuf> {
    let one = [&eval.prompts, &eval.clean_prompts, &eval.wikitext, &eval.lambada, &eval.f1, &eval.kl_texts];
    one.into_iter().flatten().chain(eval.more_prompts.iter().flatten())
}

/// Settings of a relearning curve that is measured as the row is.
fn relearning(relearn: &RelearnOptions, eval: &EvalOptions, plan: &RepairPlan) -> RelearnOptions {
    RelearnOptions {
        model: Some(plan.model.clone()),
        prompts: eval.prompts.clone(),
        columns: eval.columns.clone(),
        lexicon: eval.lexicon.clone(),
        scorer: eval.scorer.clone(),
        max_new_tokens: eval.max_new_tokens,
        prompt_tokens: eval.prompt_tokens,
        prompt_side: eval.prompt_side,
        seed: Some(plan.seed),
        device: Some(plan.device.clone()),
        dtype: Some(plan.dtype),
        threads: plan.threads,
        ..relearn.clone()
    }
}

/// The device that a run was on, as the caller calls it; none for a CPU.
fn device(plan: &RepairPlan) -> Option<String> {
    let named = std::env::var("IREPAIR_DEVICE").ok();
    (plan.device != "cpu").then(|| named.unwrap_or_else(|| plan.device.clone()))
}

/// Measures the compared weights, each once; those after `known` updates are measured already. Samples, and measures of
/// general ability beyond perplexity and KL, are of the final weights alone.
fn measure_kept(
    kept: &KeptWeights,
    compared: &[Compared],
    known: u64,
    (opened, base): (&LoadedModel, &CausalLm),
    eval: &EvalPlan,
) -> anyhow::Result<Vec<MeasuredStep>> {
    let window = eval.window.or(Some(opened.model.n_positions()));
    let brief =
        EvalPlan { samples: None, lambada: None, blimp: None, hellaswag: None, f1: None, window, ..eval.clone() };
    let steps: BTreeSet<u64> = compared.iter().map(|compared| compared.step).filter(|&step| step != known).collect();
    let measure = |step| {
        // Before the first step the model is the base: a soft prefix is no part of it.
        let model = if step == 0 { base } else { &opened.model };
        if step > 0 {
            kept.apply(step, base, model)?;
            model.round_to_stored(eval.seed)?;
        }
        let Measured { metrics, prompt_scores, prompt_scores_by_scorer, .. } =
            measure_model(model, &opened.tokenizer, Some(base), &brief, Extent::Brief)?;
        Ok(MeasuredStep { step, metrics, prompt_scores, prompt_scores_by_scorer })
    };
    steps.into_iter().map(measure).collect()
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
        flops: records.iter().map(|record| flops_of_step(model, plan, record)).sum(),
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
    let tokenizer = tokenizer.of_kind(measured.kind);
    let evaluator = Evaluator::new(reference, &tokenizer, N_SAMPLES);
    let before = evaluator.greedy_continuations(prompts, generation)?.texts;
    let texts = prompts.iter().zip(before).zip(&measured.continuations);
    Ok(texts.map(|((prompt, before), after)| Sample { prompt: prompt.clone(), before, after: after.clone() }).collect())
}
