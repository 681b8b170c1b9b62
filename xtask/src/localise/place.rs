//! `cargo xtask place`: does it matter where a planted fault is repaired (METHOD §24)?
//!
//! Every killed mutant with one faulty unit is repaired in that unit, in a random one, in the one that a locator holds
//! to be the least suspect, and in the first choice of each locator: as many weights (of halves a locator may choose
//! the larger sort), as long a step, the same rates to choose from by validation prompts, and what is left is measured
//! on prompts and neutral text that neither a repair nor a locator saw. `locate` ranked the units before; a mutant's
//! repairs are a file of their own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;

use anyhow::{Context, Result};
use irepair_config::{Metric, UnitKind};
use irepair_core::{Diagnostic, ExitKind, Unit, UnitPart};
use irepair_report::SCHEMA;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::graded::Graded;
use super::locate::{Program, planted};
use super::mutant::{Case, draw};
use super::oracle::{Failed, Tests, lines};
use super::repaired::{
    FIXED, METHODS, RATES, RELEARNED, RELEARNING_RATE, Repaired, STEPS, kl, n_failures, repaired, rounded, taught,
};
use crate::prepare::Prepared;

/// Prompts that are tried for pairs to repair with, those to choose a rate on, and those to measure on: of the
/// profile's training pairs, so that no locator saw them.
const PROMPTS: [usize; 3] = [800, 200, 300];

/// Neutral text to measure on; locators see another one.
const NEUTRAL: &str = "general/test.txt";

/// Units that stand for one at random: every one where there are not more, as many draws without repetition else.
pub(super) const N_RANDOM: usize = 6;

/// Pairs that a repair learns from, at most.
const MOST_PAIRS: usize = 128;

/// Pairs without which nothing is repaired.
const FEWEST_PAIRS: usize = 8;

/// What the repairs of a mutant depend on.
pub(super) fn identity(case: &Case<'_>, graded: &Graded) -> String {
    let (strength, pairs) = (graded.strength, &case.tests.pairs.1);
    let numbers = format!("{PROMPTS:?} {NEUTRAL} {MOST_PAIRS} {FEWEST_PAIRS} {STEPS} {RATES:?} {RELEARNED:?}");
    let text = format!("{strength:?} {pairs} {numbers} {RELEARNING_RATE} {FIXED:?} {METHODS:?} {}", graded.n_failed);
    case.inputs.clone().text(&text).key()
}

/// The repairs of one mutant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) schema: u32,
    pub(super) identity: String,
    pub(super) mutant: String,
    /// [`Graded::identity`] of the mutant; empty in files of earlier versions.
    #[serde(default)]
    pub(super) of: String,
    pub(super) unit: UnitKind,
    pub(super) place: Unit,
    /// Test prompts, and those that the mutant fails.
    pub(super) n_prompts: usize,
    pub(super) n_failed: usize,
    /// KL(base model ‖ mutant) on neutral text, nats a token.
    pub(super) kl: f64,
    /// Perplexity on neutral text: the base model's and the mutant's.
    pub(super) perplexity: [f64; 2],
    /// Test prompts that the base model and the mutant fail once their weights are rounded to 8 bits.
    pub(super) n_failed_rounded: [usize; 2],
    /// Test prompts that the base model fails once it is taught the wrong answers, by updates.
    pub(super) n_failed_taught: Vec<(usize, usize)>,
    pub(super) n_pairs: usize,
    /// The unit that each rule chose, and those that stand for a random one.
    pub(super) choices: BTreeMap<String, Unit>,
    pub(super) random: Vec<Unit>,
    /// By unit, and `all` for every weight; none where no rate left finite weights. Empty where pairs are too few to
    /// repair with.
    pub(super) repairs: BTreeMap<String, Option<Repaired>>,
}

/// Prompts to repair with, to choose on and to measure on, with the base model's answers.
pub(super) struct Pool([Tests; 3]);

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
        let n: usize = PROMPTS.iter().sum();
        if prompts.len() < n {
            let what = format!("{} prompts to repair with, to choose on and to measure on", prompts.len());
            let help = format!("`place` needs {n}");
            return Err(Diagnostic::new(ExitKind::Data, what).at(path.display()).help(help).into());
        }
        let mut rest = prompts.into_iter();
        let mut part = |name: &str, n: usize| {
            let some: Vec<String> = rest.by_ref().take(n).collect();
            let text: String = some.iter().map(|prompt| json!({ "prompt": prompt }).to_string() + "\n").collect();
            tests.with_prompts(prepared, name, text.as_bytes())
        };
        let [repair, validation, test] = PROMPTS;
        let (repair, validation) = (part("repair", repair)?, part("validation", validation)?);
        Ok(Self([repair, validation, part("test", test)?.with_neutral(prepared, NEUTRAL)?]))
    }
}

/// The units that are repaired, by the rule that chooses them.
fn choices(case: &Case<'_>, graded: &Graded, metrics: &[Metric]) -> BTreeMap<String, Unit> {
    let oracle = case.place[0];
    let mut choices = BTreeMap::from([("oracle".to_owned(), oracle)]);
    for metric in metrics {
        let Some(Some(grade)) = graded.grades.get(&metric.to_string()) else { continue };
        choices.insert(metric.to_string(), grade.first[0]);
        if *metric == Metric::GradL2 {
            choices.insert("reverse".to_owned(), grade.last);
        }
    }
    choices
}

/// The units that stand for one at random, as a locator that knows nothing would choose: of halves those of the faulty
/// one's sort, which have as many weights.
fn random(case: &Case<'_>, mut units: Vec<Unit>) -> Vec<Unit> {
    let sort = |unit: &Unit| unit.part == UnitPart::Attention;
    units.retain(|unit| case.kind != UnitKind::Half || sort(unit) == sort(&case.place[0]));
    let n = units.len().min(N_RANDOM);
    if n < units.len() {
        for i in 0..n {
            let other = i + draw(&format!("{} at random {i}", case.name()), units.len() - i);
            units.swap(i, other);
        }
        units.truncate(n);
    }
    units
}

/// The places that are repaired.
fn wanted<'a>(choices: &'a BTreeMap<String, Unit>, random: &'a [Unit]) -> impl Iterator<Item = String> + 'a {
    choices.values().chain(random).map(Unit::to_string).chain(["all".to_owned()])
}

fn is_complete(found: &Placed, mut wanted: impl Iterator<Item = String>) -> bool {
    found.n_pairs < FEWEST_PAIRS || wanted.all(|place| found.repairs.contains_key(&place))
}

/// True when nothing is left to do for a mutant.
///
/// # Errors
/// When the model's settings cannot be read.
pub(super) fn is_placed(case: &Case<'_>, graded: &Graded, found: &Placed, metrics: &[Metric]) -> Result<bool> {
    let random = random(case, case.tests.map()?.units(case.kind).collect());
    Ok(is_complete(found, wanted(&choices(case, graded, metrics), &random)))
}

/// The repairs of a mutant; those that were made before are kept.
///
/// # Errors
/// A command that fails.
pub(super) fn placed(
    case: &Case<'_>,
    graded: &Graded,
    before: Option<Placed>,
    (pool, metrics): (&Pool, &[Metric]),
    program: &Program,
) -> Result<Placed> {
    let choices = choices(case, graded, metrics);
    let random = random(case, case.tests.map()?.units(case.kind).collect());
    let wanted = || wanted(&choices, &random);
    let before = match before {
        Some(before) if is_complete(&before, wanted()) => return Ok(Placed { choices, random, ..before }),
        before => before,
    };
    program.begin()?;
    let mutant = planted(case, graded.strength, case.seed, program)?;
    let [repair, validation, test] = &pool.0;
    let mut failed = repair.failures(program, &mutant)?;
    failed.retain(Failed::is_pair);
    failed.truncate(MOST_PAIRS);
    lines(&program.dir.join("pairs.jsonl"), &failed, |Failed { right, wrong, .. }| {
        pair(&right.prompt, &right.text, wrong)
    })?;
    // Those that bring the error back.
    lines(&program.dir.join("wrong.jsonl"), &failed, |Failed { right, wrong, .. }| {
        pair(&right.prompt, wrong, &right.text)
    })?;
    let mut found = before.map_or_else(
        || -> Result<Placed> {
            Ok(Placed {
                schema: SCHEMA,
                identity: identity(case, graded),
                mutant: case.name(),
                of: graded.identity.clone(),
                unit: case.kind,
                place: case.place[0],
                n_prompts: test.answers.len(),
                n_failed: n_failures(test, program, &mutant)?,
                kl: kl(test, program, &mutant)?,
                perplexity: [test.perplexity, test.perplexity_of(program, &mutant)?],
                n_failed_rounded: [rounded(test, program, &test.base)?, rounded(test, program, &mutant)?],
                n_failed_taught: if failed.is_empty() { Vec::new() } else { taught(case, &test.base, test, program)? },
                n_pairs: failed.len(),
                choices: BTreeMap::new(),
                random: Vec::new(),
                repairs: BTreeMap::new(),
            })
        },
        Ok,
    )?;
    (found.choices, found.random) = (choices.clone(), random.clone());
    for place in wanted().filter(|_| failed.len() >= FEWEST_PAIRS) {
        if let Entry::Vacant(entry) = found.repairs.entry(place) {
            let repaired = repaired(case, &mutant, entry.key(), [validation, test], program)?;
            entry.insert(repaired);
        }
    }
    program.clear()?;
    Ok(found)
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}
