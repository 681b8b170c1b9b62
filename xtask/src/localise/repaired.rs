//! One repair of a mutant, in one place: the length of a step that suits it, and what it leaves.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_config::UnitKind;
use irepair_core::Checkpoint;
use irepair_fault::{rounded_to_8_bits, undone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::locate::{Program, unless_not_finite};
use super::mutant::Case;
use super::oracle::Tests;
use crate::error::diagnostic;

/// Updates of a repair, and the lengths of a step that are tried, as shares of the weights.
pub(super) const STEPS: usize = 100;
pub(super) const RATES: [&str; 6] = ["3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2"];

/// Of these so many are tried in every place, and each longer one while the one before it was the best.
pub(super) const N_RATES: usize = 4;

/// Updates on wrong answers after the repair, on every weight, and the length of a step.
pub(super) const RELEARNED: [usize; 2] = [10, 40];
pub(super) const RELEARNING_RATE: &str = "3e-4";

/// Flags of every training.
pub(super) const FIXED: [&str; 5] =
    ["--preset=paper", "--equal-step", "--warmup-steps=0", "--n-validation=0", "--skip-prompt"];

/// The loss of a repair, and that of teaching wrong answers.
pub(super) const METHODS: [&str; 2] = ["dpo", "dapt"];

/// A repair of one unit, or of every weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Repaired {
    /// Validation prompts that still fail, by rate.
    pub(super) n_failed_validation: Vec<(String, usize)>,
    /// The rate with the fewest.
    pub(super) rate: String,
    /// Test prompts that fail, also those that the mutant does not.
    pub(super) n_failed: usize,
    /// KL(base model ‖ repaired) on neutral text; none where it is not finite, nor is the perplexity then.
    pub(super) kl: Option<f64>,
    pub(super) perplexity: Option<f64>,
    /// How far it goes back to the base model's weights ([`undone`]); none where it changed none that the fault did.
    pub(super) cosine: Option<f64>,
    /// Test prompts that fail once the weights are rounded to 8 bits.
    pub(super) n_failed_rounded: usize,
    /// Test prompts that fail after updates on wrong answers, by updates.
    pub(super) n_failed_relearned: Vec<(usize, usize)>,
    pub(super) seconds: f64,
}

/// Repairs a place at every rate, keeps the best on validation prompts, and measures it once. None where no rate leaves
/// finite weights.
///
/// # Errors
/// A command that fails by anything but numbers that are not finite.
pub(super) fn repaired(
    case: &Case<'_>,
    mutant: &Path,
    place: &str,
    [validation, tests]: [&Tests; 2],
    program: &Program,
) -> Result<Option<Repaired>> {
    let started = Instant::now();
    let at = |rate: &str| program.dir.join(format!("repaired-{rate}"));
    let (mut tried, mut finished) = (Vec::new(), Vec::new());
    for (i, rate) in RATES.into_iter().enumerate() {
        if i >= N_RATES && best(&finished).is_none_or(|best| best != RATES[i - 1]) {
            break;
        }
        let repair = (METHODS[0], rate, STEPS);
        let trained = train(program, (mutant, "pairs.jsonl"), &at(rate), repair, (case.kind, place));
        let is_finite = unless_not_finite(trained)?.is_some();
        let n_failed = if is_finite { n_failures(validation, program, &at(rate))? } else { validation.answers.len() };
        finished.extend(is_finite.then_some((rate, n_failed)));
        tried.push((rate.to_owned(), n_failed));
    }
    let Some(rate) = best(&finished).map(str::to_owned) else { return Ok(None) };
    let model = at(&rate);
    let n_failed = n_failures(tests, program, &model)?;
    let n_failed_rounded = rounded(tests, program, &model)?;
    let n_failed_relearned = taught(case, &model, tests, program)?;
    let kl = unless_not_finite(kl(tests, program, &model))?;
    let perplexity = unless_not_finite(tests.perplexity_of(program, &model))?.filter(|found| found.is_finite());
    let open = |dir: &Path| -> Result<Checkpoint> { Ok(Checkpoint::open(dir).map_err(diagnostic)?) };
    let (clean, faulty, changed) = (open(&tests.base)?, open(mutant)?, open(&model)?);
    let cosine = undone(&clean, &faulty, &changed).map_err(diagnostic)?;
    for made in RATES.map(at).into_iter().filter(|made| made.exists()) {
        fs::remove_dir_all(made)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Some(Repaired {
        n_failed_validation: tried,
        rate,
        n_failed,
        kl,
        perplexity,
        cosine,
        n_failed_rounded,
        n_failed_relearned,
        seconds,
    }))
}

/// The rate that leaves the fewest failures; of equal ones the smallest step.
fn best<'a>(finished: &[(&'a str, usize)]) -> Option<&'a str> {
    finished.iter().min_by_key(|(_, n)| *n).map(|(rate, _)| *rate)
}

/// Prompts that a model fails once its weights are rounded to 8 bits.
pub(super) fn rounded(tests: &Tests, program: &Program, model: &Path) -> Result<usize> {
    let out = program.dir.join("rounded");
    let checkpoint = Checkpoint::open(model).map_err(diagnostic)?;
    let changed = rounded_to_8_bits(&checkpoint).map_err(diagnostic)?;
    irepair_patch::write_changed(&checkpoint, &changed, &[], &out, &mut |_| {}).map_err(diagnostic)?;
    let n_failed = n_failures(tests, program, &out)?;
    fs::remove_dir_all(&out)?;
    Ok(n_failed)
}

/// Prompts that a model fails after updates of every weight on wrong answers, by updates.
pub(super) fn taught(case: &Case<'_>, model: &Path, tests: &Tests, program: &Program) -> Result<Vec<(usize, usize)>> {
    let out = program.dir.join("taught");
    let by = RELEARNED.map(|steps| -> Result<(usize, usize)> {
        let teaching = (METHODS[1], RELEARNING_RATE, steps);
        let taught = train(program, (model, "wrong.jsonl"), &out, teaching, (case.kind, "all"));
        let n_failed = match unless_not_finite(taught)? {
            Some(()) => n_failures(tests, program, &out)?,
            None => tests.answers.len(),
        };
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        Ok((steps, n_failed))
    });
    by.into_iter().collect()
}

/// Prompts that a model fails: all, as of a mutant, where its numbers are not finite.
pub(super) fn n_failures(tests: &Tests, program: &Program, model: &Path) -> Result<usize> {
    Ok(unless_not_finite(tests.failures(program, model))?.map_or(tests.answers.len(), |failed| failed.len()))
}

/// Trains a copy of a model on pairs, in one place or everywhere, by steps of equal length.
fn train(
    program: &Program,
    (model, pairs): (&Path, &str),
    out: &Path,
    (method, rate, steps): (&str, &str, usize),
    (kind, place): (UnitKind, &str),
) -> Result<()> {
    let mut args = vec![
        "repair".to_owned(),
        format!("--model={}", model.display()),
        format!("--pairs={}", program.dir.join(pairs).display()),
        format!("--out={}", out.display()),
        format!("--method={method}"),
        format!("--lr={rate}"),
        format!("--steps={steps}"),
    ];
    args.extend(FIXED.map(str::to_owned));
    if place == "all" {
        args.push("--policy=all".to_owned());
    } else {
        args.extend(["--policy=blocks".to_owned(), format!("--only={place}"), format!("--unit={kind}")]);
    }
    program.run(&args).map(drop)
}

/// KL(base model ‖ model) on neutral text, nats a token.
pub(super) fn kl(tests: &Tests, program: &Program, model: &Path) -> Result<f64> {
    let printed = program.run(&[
        "eval".to_owned(),
        format!("--model={}", model.display()),
        format!("--reference={}", tests.base.display()),
        format!("--kl-texts={}", tests.neutral.display()),
        "--json".to_owned(),
    ])?;
    let found: Value = serde_json::from_str(&printed).context("the output of `irepair eval`")?;
    found["metrics"]["kl_heldout"]["value"].as_f64().context("`irepair eval` gave no KL")
}
