//! Makes a mutant, lets every locator rank its units, and grades the rankings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_config::{Metric, UnitKind};
use irepair_core::spec::Against;
use irepair_core::{Diagnostic, ExitKind};
use irepair_fault::Ranking;
use irepair_report::{SCHEMA, SensitivityResult, read_result};
use serde_json::json;

use super::graded::{CAP, Grade, Graded, MARGIN, OTHER_SEEDS, Outcome, ranks};
use super::mutant::Case;
use super::oracle::{Failed, differing, lines};
use crate::error::diagnostic;
use crate::work::{self, Workers};

/// Pairs of a batch of a locator.
pub(super) const BATCH: usize = 16;

/// `irepair`, as this command calls it for one mutant.
pub(super) struct Program {
    device: String,
    n_threads: u32,
    /// Where the mutant and what is said of it are written.
    pub(super) dir: PathBuf,
}

impl Program {
    pub(super) fn new(device: &str, workers: Workers, dir: PathBuf) -> Self {
        Self { device: device.to_owned(), n_threads: workers.n_threads, dir }
    }

    /// The same with a directory in its own.
    fn within(&self, name: &str) -> Self {
        Self { device: self.device.clone(), n_threads: self.n_threads, dir: self.dir.join(name) }
    }

    /// Makes the directory, empty.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn begin(&self) -> Result<()> {
        self.clear()?;
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))
    }

    /// Removes all that was written.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn clear(&self) -> Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))?;
        }
        Ok(())
    }

    /// What a command prints.
    ///
    /// # Errors
    /// The last words of one that fails.
    pub(super) fn run(&self, args: &[String]) -> Result<String> {
        let mut args = args.to_vec();
        // A fault that is not trained is planted by reading and writing files alone.
        if args[0] != "plant" || args.iter().any(|arg| arg.starts_with("--data=")) {
            args.extend([format!("--threads={}", self.n_threads), format!("--device={}", self.device)]);
        }
        let (printed, log) = (self.dir.join("printed"), self.dir.join("log"));
        match work::irepair(&format!("irepair {}", args.join(" ")), &args, &printed, &log, None)? {
            Some(failure) => Err(failure.into()),
            None => fs::read_to_string(&printed).with_context(|| format!("reading {}", printed.display())),
        }
    }
}

/// Locators of `metrics` that rank units of a mutant's kind, and have not ranked them.
fn missing(graded: &Graded, metrics: &[Metric]) -> Vec<Metric> {
    let is_missing = |metric: &Metric| !graded.grades.contains_key(&metric.to_string());
    metrics.iter().copied().filter(|metric| ranks(*metric, graded.unit) && is_missing(metric)).collect()
}

/// True when nothing is left to do for a mutant.
pub(super) fn is_graded(graded: &Graded, metrics: &[Metric]) -> bool {
    graded.outcome != Outcome::Killed
        || graded.is_planted_again() && (!graded.is_stable() || missing(graded, metrics).is_empty())
}

/// The mutant of a case with the grades of `metrics`; those that were graded before are kept.
///
/// # Errors
/// A command that fails.
pub(super) fn graded(case: &Case<'_>, before: Option<Graded>, metrics: &[Metric], program: &Program) -> Result<Graded> {
    let before = match before {
        Some(before) if is_graded(&before, metrics) => return Ok(before),
        before => before,
    };
    program.begin()?;
    let mut found = match before {
        Some(before) => {
            pairs_of(case, before.strength, program)?;
            before
        }
        None => plant(case, program)?,
    };
    if found.outcome == Outcome::Killed && !found.is_planted_again() {
        found.again = Some(planted_again(case, found.strength, program)?);
    }
    if found.is_ranked() {
        for metric in missing(&found, metrics) {
            found.grades.insert(metric.to_string(), unless_not_finite(grade(case, metric, program))?);
        }
    }
    program.clear()?;
    Ok(found)
}

/// Plants a fault that makes the model fail where the next weaker one does not, found by bisection, and writes what a
/// locator sees of it. Where none is to be planted, the base model is the mutant.
fn plant(case: &Case<'_>, program: &Program) -> Result<Graded> {
    let tests = case.tests;
    let mut graded = Graded {
        schema: SCHEMA,
        identity: case.inputs.key(),
        model: tests.model.clone(),
        operator: case.operator,
        spread: case.spread,
        unit: case.kind,
        seed: case.seed,
        place: case.places(),
        strength: None,
        outcome: Outcome::Survived,
        n_failed: 0,
        n_prompts: tests.answers.len(),
        again: None,
        perplexity: (tests.perplexity, None),
        n_units: case.n_units,
        grades: BTreeMap::new(),
    };
    if case.operator.is_none() {
        let (outcome, n_failed) = (Outcome::Killed, pairs_of(case, None, program)?.1);
        return Ok(Graded { outcome, n_failed, ..graded });
    }
    // Strengths below `weakest` fail too few prompts; those from `enough` on fail enough, or give no finite numbers.
    let (strengths, mut found) = (case.strengths(), None);
    let [model, killed] = ["model", "killed"].map(|name| program.dir.join(name));
    let (mut weakest, mut enough) = (0, strengths.len());
    while weakest < enough {
        let at = (weakest + enough) / 2;
        let mutant = unless_not_finite(planted(case, strengths[at], case.seed, program))?;
        let failed = mutant.map(|mutant| unless_not_finite(tests.failures(program, &mutant))).transpose()?.flatten();
        let n_failed = failed.as_ref().map_or(tests.answers.len(), Vec::len);
        if n_failed as f64 >= MARGIN * tests.answers.len() as f64 {
            if failed.is_some() {
                replace(&killed, &model)?;
            }
            (enough, found) = (at, Some(failed));
        } else {
            (weakest, graded.strength, graded.n_failed) = (at + 1, strengths[at], n_failed);
        }
    }
    let Some(failed) = found else { return Ok(graded) };
    graded.strength = strengths[enough];
    let Some(failed) = failed else {
        return Ok(Graded { outcome: Outcome::Broken, n_failed: tests.answers.len(), ..graded });
    };
    replace(&model, &killed)?;
    let perplexity = unless_not_finite(tests.perplexity_of(program, &model))?;
    (graded.outcome, graded.perplexity.1) = ended(perplexity, tests.perplexity);
    graded.n_failed = failed.len();
    write_pairs(&program.dir.join("pairs.jsonl"), &failed, tests.n_pairs)?;
    Ok(graded)
}

/// How planting ended where enough prompts fail, by the mutant's perplexity and the base model's, and the former where
/// it is finite: a finite likelihood can have an infinite one.
fn ended(perplexity: Option<f64>, of_base: f64) -> (Outcome, Option<f64>) {
    let perplexity = perplexity.filter(|perplexity| perplexity.is_finite());
    let writes = perplexity.is_some_and(|perplexity| perplexity <= CAP * of_base);
    (if writes { Outcome::Killed } else { Outcome::Broken }, perplexity)
}

/// Puts a directory where another may be.
fn replace(to: &Path, from: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::rename(from, to).with_context(|| format!("renaming {}", from.display()))
}

/// How many prompts the mutant fails with each of [`OTHER_SEEDS`]: all where its numbers are not finite.
fn planted_again(case: &Case<'_>, strength: Option<f64>, program: &Program) -> Result<Vec<usize>> {
    let apart = program.within("again");
    let n_failed = |more: u32| {
        apart.begin()?;
        let mutant = unless_not_finite(planted(case, strength, case.seed + more, &apart))?;
        let failed = mutant.map(|mutant| unless_not_finite(case.tests.failures(&apart, &mutant))).transpose()?;
        Ok(failed.flatten().map_or(case.tests.answers.len(), |failed| failed.len()))
    };
    let found = OTHER_SEEDS.into_iter().map(n_failed).collect();
    apart.clear()?;
    found
}

/// The mutant with every fault of a case, of this strength, each planted in the model that has those before.
///
/// # Errors
/// A command that fails.
pub(super) fn planted(case: &Case<'_>, strength: Option<f64>, seed: u32, program: &Program) -> Result<PathBuf> {
    let (Some(operator), mut model) = (case.operator, case.tests.base.clone()) else {
        return Ok(case.tests.base.clone());
    };
    let faults = case.faults();
    for (i, units) in faults.iter().enumerate() {
        let is_last = i + 1 == faults.len();
        let out = program.dir.join(if is_last { "model".to_owned() } else { format!("model-{i}") });
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        let mut args = vec![
            "plant".to_owned(),
            format!("--model={}", model.display()),
            format!("--units={units}"),
            format!("--operator={operator}"),
            format!("--seed={seed}"),
            format!("--out={}", out.display()),
        ];
        args.extend(strength.map(|strength| format!("--strength={strength}")));
        args.extend(operator.trains().then(|| format!("--data={}", case.tests.pairs.0.display())));
        program.run(&args)?;
        model = out;
    }
    Ok(model)
}

/// A mutant that was killed with this strength, how many prompts it fails, and in `pairs.jsonl` what a locator sees.
///
/// # Errors
/// A command that fails.
pub(super) fn pairs_of(case: &Case<'_>, strength: Option<f64>, program: &Program) -> Result<(PathBuf, usize)> {
    let (tests, mutant) = (case.tests, planted(case, strength, case.seed, program)?);
    let failed = if case.operator.is_some() {
        tests.failures(program, &mutant)?
    } else {
        differing(&tests.answers, tests.answers(program, &mutant, Some(case.seed))?)
    };
    write_pairs(&program.dir.join("pairs.jsonl"), &failed, tests.n_pairs)?;
    Ok((mutant, failed.len()))
}

/// The first failed prompts as pairs: chosen is the base model's answer, rejected the mutant's.
fn write_pairs(path: &Path, failed: &[Failed], n_pairs: usize) -> Result<()> {
    let written = failed.iter().filter(|failed| failed.is_pair());
    lines(
        path,
        written.take(n_pairs),
        |Failed { right, wrong, .. }| json!({ "prompt": right.prompt, "chosen": right.text, "rejected": wrong }),
    )
}

/// The grade of one locator.
fn grade(case: &Case<'_>, metric: Metric, program: &Program) -> Result<Grade> {
    let dir = &program.dir;
    let planted = dir.join("model");
    let (mutant, out) = (if planted.exists() { &planted } else { &case.tests.base }, dir.join(metric.name()));
    let started = Instant::now();
    let mut args = vec![
        "sensitivity".to_owned(),
        format!("--model={}", mutant.display()),
        format!("--data={}", dir.join("pairs.jsonl").display()),
        format!("--metric={metric}"),
        format!("--n-batches={}", case.tests.n_pairs.div_ceil(BATCH)),
        format!("--batch-size={BATCH}"),
        format!("--seed={}", case.seed),
        "--skip-prompt".to_owned(),
        format!("--out={}", out.display()),
    ];
    if metric.row().against == Against::Neutral || metric.reads_fisher() {
        args.push(format!("--neutral={}", case.tests.neutral.display()));
    }
    // Some locators measure whole blocks alone.
    if case.kind != UnitKind::Block {
        args.push(format!("--unit={}", case.kind));
    }
    program.run(&args)?;
    let seconds = started.elapsed().as_secs_f64();
    let map = case.tests.map()?;
    let ranking = if case.kind == UnitKind::Block {
        let found: SensitivityResult = read_result(&out.join("error.json")).map_err(diagnostic)?;
        Ranking::of_scores(case.kind, map.units(case.kind).zip(found.values))
    } else {
        Ranking::read(&out.join("error.ranking.jsonl"), &map).map_err(diagnostic)?
    };
    Ok(Grade { numbers: metric.numbers_version(), ..Grade::of(case, &ranking, Some(seconds)) })
}

/// None for a command that ended by numbers that are not finite: the exit code of that, which these commands have for
/// nothing else. A fault that changes no weight has another one.
pub(super) fn unless_not_finite<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.downcast_ref::<Diagnostic>().is_some_and(|found| found.exit == ExitKind::Outcome) => {
            Ok(None)
        }
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_no_error_and_all_else_is() {
        let ended = |exit: ExitKind| unless_not_finite::<()>(Err(Diagnostic::new(exit, "it failed").into()));
        assert!(ended(ExitKind::Outcome).unwrap().is_none());
        for exit in [ExitKind::Unchanged, ExitKind::Data, ExitKind::Usage, ExitKind::Device, ExitKind::Bug] {
            assert!(ended(exit).is_err(), "{exit:?}");
        }
        assert!(unless_not_finite::<()>(Err(anyhow::anyhow!("a file cannot be made"))).is_err());
        // Of all that planting ends with, weights that are not finite alone break the mutant.
        let exit = |error: irepair_fault::Error| diagnostic(error).exit;
        assert_eq!(exit(irepair_fault::Error::NotFinite { tensor: "w".to_owned(), n: 1 }), ExitKind::Outcome);
        let operator = irepair_config::Operator::BitFlip;
        for other in [
            irepair_fault::Error::NoEffect { operator, units: "3".to_owned() },
            irepair_fault::Error::Undone { fault: 1 },
            irepair_fault::Error::Again { operator, unit: "3".to_owned(), fault: 1 },
        ] {
            assert_eq!(exit(other), ExitKind::Unchanged);
        }
    }

    #[test]
    fn a_mutant_without_a_finite_perplexity_is_broken() {
        assert_eq!(ended(Some(2.0 * CAP), 2.0), (Outcome::Killed, Some(2.0 * CAP)));
        assert_eq!(ended(Some(2.1 * CAP), 2.0), (Outcome::Broken, Some(2.1 * CAP)));
        for perplexity in [None, Some(f64::INFINITY), Some(f64::NAN)] {
            assert_eq!(ended(perplexity, 2.0), (Outcome::Broken, None));
        }
        assert_eq!(ended(Some(f64::INFINITY), f64::INFINITY), (Outcome::Broken, None));
    }
}
