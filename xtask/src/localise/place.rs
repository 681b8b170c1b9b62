//! `cargo xtask place`: does it matter where a planted fault is repaired (METHOD §24)?
//!
//! Every killed mutant with one faulty unit is repaired in that unit, in a random one, in the one that a locator holds
//! to be the least suspect, and in the first choice of each locator: as many weights, as long a step, the same rates to
//! choose from by validation prompts, and what is left is measured on prompts of neither kind. `locate` ranked the
//! units before; a mutant's repairs are a file of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_config::{Metric, UnitKind};
use irepair_core::{Checkpoint, Unit};
use irepair_fault::rounded_to_8_bits;
use irepair_report::SCHEMA;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::locate::{Program, planted};
use super::mutant::{Case, Graded, draw};
use super::oracle::{Failed, Tests, lines};
use crate::error::diagnostic;
use crate::prepare::Prepared;

/// Prompts that are tried for pairs to repair with, and those to choose a rate on.
const PROMPTS: [usize; 2] = [800, 200];

/// Pairs that a repair learns from, at most.
const MOST_PAIRS: usize = 128;

/// Updates of a repair, and the lengths of a step that are tried, as shares of the weights.
const STEPS: usize = 100;
const RATES: [&str; 3] = ["1e-4", "3e-4", "1e-3"];

/// Updates on wrong answers after the repair, on every weight, and the length of a step.
const RELEARNED: [usize; 2] = [10, 40];
const RELEARNING_RATE: &str = "3e-4";

/// What the repairs depend on besides the mutant.
pub(super) fn identity() -> String {
    format!("{PROMPTS:?} {MOST_PAIRS} {STEPS} {RATES:?} {RELEARNED:?} {RELEARNING_RATE}")
}

/// The repairs of one mutant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) schema: u32,
    pub(super) identity: String,
    pub(super) mutant: String,
    pub(super) unit: UnitKind,
    pub(super) place: Unit,
    /// Test prompts, and those that the mutant fails.
    pub(super) n_prompts: usize,
    pub(super) n_failed: usize,
    /// KL(base model ‖ mutant) on neutral text, nats a token.
    pub(super) kl: f64,
    pub(super) n_pairs: usize,
    /// The unit that each rule chose.
    pub(super) choices: BTreeMap<String, Unit>,
    /// By unit, and `all` for every weight.
    pub(super) repairs: BTreeMap<String, Repaired>,
}

/// A repair of one unit, or of every weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Repaired {
    /// Validation prompts that still fail, by rate.
    pub(super) n_failed_validation: Vec<(String, usize)>,
    /// The rate with the fewest.
    pub(super) rate: String,
    /// Test prompts that fail, also those that the mutant does not.
    pub(super) n_failed: usize,
    /// KL(base model ‖ repaired) on neutral text.
    pub(super) kl: f64,
    pub(super) perplexity: f64,
    /// Test prompts that fail once the weights are rounded to 8 bits.
    pub(super) n_failed_rounded: usize,
    /// Test prompts that fail after so many updates on wrong answers.
    pub(super) relearned: Vec<(usize, usize)>,
    pub(super) seconds: f64,
}

/// Prompts to repair with and to choose on, with the base model's answers.
pub(super) struct Pool(pub(super) [Tests; 2]);

impl Pool {
    /// Of the profile's training pairs: no test prompt is among them.
    pub(super) fn of(prepared: &Prepared, tests: &Tests) -> Result<Self> {
        let path = &tests.pairs.0;
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut prompts: Vec<String> = Vec::new();
        for line in text.lines() {
            let pair: Value = serde_json::from_str(line).with_context(|| format!("reading {}", path.display()))?;
            let prompt = pair["prompt"].as_str().context("a pair without a prompt")?.to_owned();
            if !prompts.contains(&prompt) && tests.answers.iter().all(|answer| answer.prompt != prompt) {
                prompts.push(prompt);
            }
        }
        let mut rest = prompts.into_iter();
        let mut part = |name: &str, n: usize| {
            let some: Vec<String> = rest.by_ref().take(n).collect();
            let text: String = some.iter().map(|prompt| json!({ "prompt": prompt }).to_string() + "\n").collect();
            tests.with_prompts(prepared, name, text.as_bytes())
        };
        Ok(Self([part("repair", PROMPTS[0])?, part("validation", PROMPTS[1])?]))
    }
}

/// The units that are repaired, by the rule that chooses them.
fn choices(case: &Case<'_>, graded: &Graded, units: &[Unit], metrics: &[Metric]) -> BTreeMap<String, Unit> {
    let oracle = case.place[0];
    let others: Vec<Unit> = units.iter().copied().filter(|unit| *unit != oracle).collect();
    let mut choices = BTreeMap::from([("oracle".to_owned(), oracle)]);
    choices.insert("random".to_owned(), others[draw(&(case.name() + " elsewhere"), others.len())]);
    for metric in metrics.iter().filter(|metric| **metric != Metric::Random) {
        let Some(Some(grade)) = graded.grades.get(&metric.to_string()) else { continue };
        choices.insert(metric.to_string(), grade.first[0]);
        if *metric == Metric::GradL2 {
            choices.insert("reverse".to_owned(), grade.last);
        }
    }
    choices
}

/// The repairs of a mutant; those that were made before are kept.
///
/// # Errors
/// A command that fails.
pub(super) fn placed(
    case: &Case<'_>,
    graded: &Graded,
    before: Option<Placed>,
    (pool, units, metrics): (&Pool, &[Unit], &[Metric]),
    program: &Program,
) -> Result<Placed> {
    let choices = choices(case, graded, units, metrics);
    let wanted = || choices.values().map(Unit::to_string).chain(["all".to_owned()]);
    if let Some(before) = &before
        && wanted().all(|place| before.repairs.contains_key(&place))
    {
        return Ok(Placed { choices, ..before.clone() });
    }
    program.clear()?;
    let mutant = planted(case, graded.strength, program)?;
    let [repair, validation] = &pool.0;
    let mut failed = repair.failures(program, &mutant)?;
    failed.truncate(MOST_PAIRS);
    lines(&program.dir.join("pairs.jsonl"), &failed, |Failed { right, wrong }| {
        pair(&right.prompt, &right.text, wrong)
    })?;
    // Those that bring the error back.
    lines(&program.dir.join("wrong.jsonl"), &failed, |Failed { right, wrong }| {
        pair(&right.prompt, wrong, &right.text)
    })?;
    let mut found = before.map_or_else(
        || -> Result<Placed> {
            Ok(Placed {
                schema: SCHEMA,
                identity: case.inputs.clone().text(&identity()).key(),
                mutant: case.name(),
                unit: case.kind,
                place: case.place[0],
                n_prompts: graded.n_prompts,
                n_failed: graded.n_failed,
                kl: kl(case.tests, program, &mutant)?,
                n_pairs: failed.len(),
                choices: BTreeMap::new(),
                repairs: BTreeMap::new(),
            })
        },
        Ok,
    )?;
    found.choices = choices.clone();
    let missing: Vec<String> = wanted().filter(|place| !found.repairs.contains_key(place)).collect();
    for place in missing {
        let repaired = repaired(case, &mutant, &place, validation, program)?;
        found.repairs.insert(place, repaired);
    }
    program.clear()?;
    Ok(found)
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

/// Repairs a place at every rate, keeps the best on validation prompts, and measures it once.
fn repaired(case: &Case<'_>, mutant: &Path, place: &str, validation: &Tests, program: &Program) -> Result<Repaired> {
    let started = Instant::now();
    let (at, tests) = (|rate: &str| program.dir.join(format!("repaired-{rate}")), case.tests);
    let mut tried = Vec::new();
    for rate in RATES {
        train(program, (mutant, "pairs.jsonl"), &at(rate), ("dpo", rate, STEPS), (case.kind, place))?;
        tried.push((rate.to_owned(), n_failures(validation, program, &at(rate))?));
    }
    // Of equal ones the smallest step.
    let rate = tried.iter().min_by_key(|(_, n)| *n).map_or(RATES[0], |(rate, _)| rate).to_owned();
    let model = at(&rate);
    let n_failed = n_failures(tests, program, &model)?;
    let rounded = program.dir.join("rounded");
    let checkpoint = Checkpoint::open(&model).map_err(diagnostic)?;
    let changed = rounded_to_8_bits(&checkpoint).map_err(diagnostic)?;
    irepair_patch::write_changed(&checkpoint, &changed, &[], &rounded, &mut |_| {}).map_err(diagnostic)?;
    let n_failed_rounded = n_failures(tests, program, &rounded)?;
    fs::remove_dir_all(&rounded)?;
    let mut relearned = Vec::new();
    for steps in RELEARNED {
        let out = program.dir.join("relearned");
        train(program, (&model, "wrong.jsonl"), &out, ("dapt", RELEARNING_RATE, steps), (case.kind, "all"))?;
        relearned.push((steps, n_failures(tests, program, &out)?));
        fs::remove_dir_all(&out)?;
    }
    let (kl, perplexity) = (kl(tests, program, &model)?, tests.perplexity_of(program, &model)?);
    for rate in RATES {
        fs::remove_dir_all(at(rate))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Repaired { n_failed_validation: tried, rate, n_failed, kl, perplexity, n_failed_rounded, relearned, seconds })
}

/// Prompts that a model fails.
fn n_failures(tests: &Tests, program: &Program, model: &Path) -> Result<usize> {
    Ok(tests.failures(program, model)?.len())
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
    let fixed =
        ["--preset=paper", "--equal-step", "--warmup-steps=0", "--n-validation=0", "--skip-prompt"].map(str::to_owned);
    args.extend(fixed);
    if place == "all" {
        args.push("--policy=all".to_owned());
    } else {
        args.extend(["--policy=blocks".to_owned(), format!("--only={place}"), format!("--unit={kind}")]);
    }
    program.run(&args).map(drop)
}

/// KL(base model ‖ model) on neutral text, nats a token.
fn kl(tests: &Tests, program: &Program, model: &Path) -> Result<f64> {
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
