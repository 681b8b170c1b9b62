//! `irepair fix`: from prompts that go wrong and a judge to a repaired model.

mod answers;
mod clock;
mod failures;
mod measured;
mod place;
mod plan;
mod prepared;
mod room;
mod search;
mod show;
mod suite;
mod track;
mod verdicts;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use irepair_config::{FixOptions, FixPlan, Options, to_toml};
use irepair_core::fs::{read_to_string, remove, sha256_file, write_atomic};
use irepair_core::{DirLock, NUMBERS_VERSION, is_unfinished, mark_finished, mark_unfinished};
use irepair_report::{FixResult, Making, SCHEMA, ToChoose, Verdict, write_fix_page, write_result};
use tracing::level_filters::LevelFilter;

use self::clock::Clock;
use self::failures::More;
pub(crate) use self::failures::rate;
use self::measured::{Before, Chosen, measure, save};
use self::place::Place;
use self::plan::{SENSITIVITIES, Speed, Steps, shared};
use self::prepared::{Prepared, Prompts};
use self::search::Search;
use crate::environment::weights_sha256;
use crate::error::CliError;
use crate::model_dir::{ModelDir, use_threads};
use crate::notes::say_text_rule;
use crate::progress::StderrAboveBars;
use crate::run_dir::refuse_used;

/// Test prompts under which a fix says that they are few.
const FEW: usize = 40;

/// Names of what a fix writes.
pub(crate) const MODEL: &str = "model";
pub(crate) const PATCH: &str = "fix.patch";
const PAGE: &str = "report.html";
const RESULT: &str = "result.json";
const SETTINGS: &str = "fix.toml";
pub(crate) const SUITE: &str = "suite";
/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair fix";

/// Runs the command.
pub(crate) fn command(given: &FixOptions, plan: FixPlan) -> anyhow::Result<()> {
    let started = Instant::now();
    use_threads(plan.threads);
    let dir = ModelDir::read(&plan.model)?;
    say_text_rule(&dir.tokenizer);
    let judges = prepared::judges(&plan)?;
    let prompts = Prompts::read(&plan, &dir)?;
    let made_from = made_from(&plan, &dir, &judges.iter().map(|judge| judge.name().to_owned()).collect::<Vec<_>>())?;
    let place = Place { out: plan.out.clone() };
    // A fix of the same inputs is continued, whether it is finished or not; anything else in the directory is not ours.
    if !place.work("made-from.json").exists() {
        refuse_used(&plan.out, MAKER)?;
    }
    // Another choice trains nothing.
    if !place.result(RESULT).exists() {
        room::refuse_too_large(&plan, &dir, &prompts)?;
        prepared::refuse_broken(&plan, &dir, &prompts)?;
    }
    let _held = DirLock::take(&plan.out)?;
    if !place.work("made-from.json").exists() {
        // Killed before it is there, the next run must know the directory as ours.
        mark_unfinished(&plan.out, MAKER)?;
    }
    place.claim(&made_from)?;
    let before = finished(&place, &plan);
    if let Some(before) = before {
        tracing::info!("{}: made before from the same inputs", plan.out.display());
        return end(&before, &place, &plan);
    }
    mark_unfinished(&plan.out, MAKER)?;
    // A number of this menu means nothing in another search.
    let settings = to_toml(&FixOptions { choose: None, ..given.with_defaults() });
    write_atomic(&place.result(SETTINGS), settings.as_bytes())?;
    let result = make(&plan, &place, dir, judges, &prompts, started)?;
    mark_finished(&plan.out)?;
    end(&result, &place, &plan)
}

/// The result of a fix that is whole, where it is about the point that is asked for.
fn finished(place: &Place, plan: &FixPlan) -> Option<FixResult> {
    let result: FixResult = place::read(&place.result(RESULT)).ok()?;
    let same = plan.choose.is_none_or(|n| result.chosen == Some(n - 1));
    // What was moved away is made again, from what is kept in `work`.
    let files = if is_written(&result, plan) { &[PAGE, MODEL, PATCH, SUITE][..] } else { &[PAGE] };
    let whole = files.iter().all(|name| place.result(name).exists());
    (same && whole && !is_unfinished(&place.out)).then_some(result)
}

/// True when the repaired model is written.
fn is_written(result: &FixResult, plan: &FixPlan) -> bool {
    let gained = matches!(result.verdict, Verdict::Repaired | Verdict::Improved);
    result.measured.is_some() && (gained || plan.write_anyway)
}

/// Names and hashes of everything that decides the result but the choice.
fn made_from(plan: &FixPlan, dir: &ModelDir, judges: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut from: BTreeMap<String, String> =
        weights_sha256(&plan.model)?.into_iter().map(|(file, hash)| (format!("weights {file}"), hash)).collect();
    from.extend([
        ("numbers".to_owned(), NUMBERS_VERSION.to_string()),
        ("model's config".to_owned(), format!("{:?}", dir.config)),
        ("tokenizer".to_owned(), dir.tokenizer.sha256()?),
        ("judges".to_owned(), judges.join(", ")),
    ]);
    // Where things lie, and what is done with the result, decide nothing.
    let nowhere = || Some(PathBuf::new());
    let settings = FixOptions {
        model: nowhere(),
        prompts: nowhere(),
        judge: None,
        out: nowhere(),
        second_judge: None,
        pairs: None,
        keep: None,
        utility: None,
        choose: None,
        write_anyway: None,
        memory_budget: None,
        batch_size: None,
        threads: None,
        json: None,
        ..FixOptions::from(plan.clone())
    };
    let settings = toml::Table::try_from(&settings)?.into_iter();
    from.extend(settings.map(|(key, value)| (format!("--{}", key.replace('_', "-")), value.to_string())));
    // After the settings, which name the same files without their bytes.
    let files = [("--prompts", Some(&plan.prompts)), ("--pairs", plan.pairs.as_ref()), ("--keep", plan.keep.as_ref())];
    for (name, path) in files.into_iter().chain([("--utility", plan.utility.as_ref())]) {
        from.extend(path.map(|path| anyhow::Ok((name.to_owned(), sha256_file(path)?))).transpose()?);
    }
    Ok(from)
}

/// Everything from the first answer to the written files.
fn make(
    plan: &FixPlan,
    place: &Place,
    dir: ModelDir,
    judges: Vec<Box<dyn irepair_scorer::Scorer>>,
    prompts: &Prompts,
    started: Instant,
) -> anyhow::Result<FixResult> {
    let prepared = Prepared::open(plan, place, dir, judges, prompts)?;
    let before = prepared.answers(place, prompts)?;
    let reproduced = rate(&before.scores, 1);
    show::stage(1, &show::reproduced(&reproduced));
    let parts = prompts.parts();
    let n_prompts = parts.each_ref().map(Vec::len);
    let target = plan.target.map_or(reproduced.percent.unwrap_or(0.0) / 4.0, |share| 100.0 * share);
    let mut result = FixResult {
        schema: SCHEMA,
        verdict: Verdict::NothingFails,
        model: prepared.name.clone(),
        judges: prepared.judge_names(),
        budget_kl: plan.budget_kl,
        target,
        n_prompts,
        reproduced: reproduced.clone(),
        pairs: None,
        sensitivities: Vec::new(),
        conclusion: None,
        to_choose: None,
        points: Vec::new(),
        selected_steps: Vec::new(),
        menu: Vec::new(),
        chosen: None,
        measured: None,
        n_measured: 0,
    };
    if reproduced.n_failed == 0 {
        return finish(place, result, &show::cost(started, None), None);
    }
    prompts.refuse_empty(plan)?;
    if n_prompts[2] < FEW {
        let n = n_prompts[2];
        tracing::warn!("{n} prompts to measure on are few: give 100 or more in all");
    }
    let neutral = prepared.neutral(plan, place)?;
    // Not kept: a fix that continues may find the machine busier.
    let chosen_before = place.result(RESULT).exists();
    let speed = if chosen_before { Speed::default() } else { prepared.speed(prompts, &neutral)? };
    let steps: Steps = place.stage("plan", || Ok(Steps::of(plan, prepared.n_blocks(), n_prompts, &speed)))?;
    show::stage(2, &show::planned(&steps, n_prompts, &speed));
    let (asking, more) = (prepared.asking(), More { n_samples: steps.more_answers, seed: plan.seed });
    let [valid, test] = [&parts[1], &parts[2]].map(|part| prompts.of(part));
    let base = &prepared.opened.model;
    let before_valid = place.stage("before-valid", || {
        let n = (valid.len() + test.len()) * (1 + steps.more_answers);
        show::now(&format!("{n} answers before repair, about {} ...", show::duration(n as f64 * speed.answer)));
        asking.failures(base, &valid, more, false)
    })?;
    // Before the search, so that a second judge that cannot judge is seen now.
    let before_test = place.stage("before-test", || asking.failures(base, &test, more, true))?;
    let mut clock = Clock::new(&steps, n_prompts, &speed);
    let (pairs, seconds) = place.timed("pairs", || prepared.pairs(plan, place, prompts, &steps))?;
    clock.went(f64::NAN, seconds / (pairs.n_samples as f64 * speed.answer));
    show::stage(3, &show::pairs(&pairs));
    result.pairs = Some(pairs.clone());
    if pairs.n_pairs == 0 {
        return Err(CliError::NoPairs { why: show::why_none(&pairs) }.into());
    }
    let (localised, seconds) = place.timed("sensitivities", || prepared.localise(plan, place, &neutral))?;
    clock.went(seconds / (SENSITIVITIES * speed.update), f64::NAN);
    (result.sensitivities, result.conclusion) = localised;
    show::stage(4, result.conclusion.as_deref().unwrap_or("sensitivities of the blocks are in the report").trim_end());
    let clock = RefCell::new(clock);
    let shared = shared(plan);
    let (percent, interval) = failures::percent(&before_valid.shares());
    result.to_choose = Some(ToChoose { n_answers: 1 + steps.more_answers, percent, interval });
    let search = Search {
        place,
        steps: &steps,
        shared: irepair_config::RepairOptions { pairs: Some(place.work("pairs.jsonl")), ..shared },
        asking: &asking,
        more,
        prompts: &valid,
        before: &before_valid,
        neutral: &neutral[0],
        base,
        budget_kl: plan.budget_kl,
        clock: &clock,
    };
    show::stage(5, &show::searching(&steps, plan, percent, &clock.borrow()));
    let tracks = search.run()?;
    (result.points, result.menu) = search.points(&tracks)?;
    let by_rule = search.choice(&result.points, &result.menu);
    result.chosen = show::chosen(&result, plan, by_rule)?;
    let Some(point) = result.point().cloned() else {
        result.verdict = Verdict::NothingGained;
        show::stage(6, "no point fails less than the model did within the budget and keeps its form");
        return finish(place, result, &show::cost(started, None), None);
    };
    show::stage(6, &show::choice(&point));
    result.selected_steps = tracks
        .iter()
        .filter(|(preset, _)| preset.name == point.preset)
        .flat_map(|(_, track)| track.selected.iter().take(point.step as usize).cloned())
        .collect();
    let chosen = Chosen { point: &point, place, plan };
    let saved = save(&chosen, &prepared)?;
    let was = Before { failures: &before_test, more };
    let measured = measure(&chosen, &prepared, prompts, was, &neutral[1], &saved)?;
    if plan.target.is_none() {
        result.target = measured.judged.before.percent.unwrap_or(0.0) / 4.0;
    }
    result.verdict = Verdict::of(&measured, result.target);
    show::stage(7, &show::measured(&measured));
    result.measured = Some(measured);
    result.n_measured = place.n_measured()?;
    let written = is_written(&result, plan);
    measured::settle(&chosen, &saved, written)?;
    if let Some(measured) = result.measured.as_ref().filter(|_| written) {
        suite::write(&chosen, &prepared, prompts, &before_test.greedy, &neutral[1], measured)?;
    }
    finish(place, result, &show::cost(started, Some(&tracks)), written.then_some(plan))
}

/// Writes the page and the result; the result last.
fn finish(place: &Place, result: FixResult, cost: &[String], written: Option<&FixPlan>) -> anyhow::Result<FixResult> {
    let revert = written.map(|_| {
        format!(
            "irepair patch revert --patch {} --model {} --out {}",
            place.result(PATCH).display(),
            place.result(MODEL).display(),
            place.result("reverted").display()
        )
    });
    remove(&place.result(RESULT))?;
    let settings = read_to_string(&place.result(SETTINGS))?;
    let date = Utc::now().format("%Y-%m-%d").to_string();
    let making = Making { settings: settings.trim_end(), date: &date, cost, revert: revert.as_deref() };
    write_fix_page(&place.result(PAGE), &result, making)?;
    write_result(&place.result(RESULT), &result)?;
    Ok(result)
}

/// Says the result, and ends with the exit code of its verdict.
fn end(result: &FixResult, place: &Place, plan: &FixPlan) -> anyhow::Result<()> {
    show::result(result, place, plan)?;
    match result.verdict {
        Verdict::Repaired | Verdict::Improved => Ok(()),
        Verdict::NothingGained => {
            let done = if is_written(result, plan) {
                "the model is written all the same"
            } else {
                "the model stays as it was"
            };
            Err(CliError::NothingGained { out: place.result(PAGE), done }.into())
        }
        Verdict::NothingFails => Err(CliError::NothingFails { n: result.reproduced.n }.into()),
    }
}

/// Runs `work` with errors alone on stderr: those who call it report its progress.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let errors = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::ERROR)
        .with_writer(StderrAboveBars)
        .with_target(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(errors, work)
}
