//! `cargo xtask localise`: how well each locator finds faults that were planted (METHOD §24).
//!
//! A fault is planted in a base model, the locators rank its units, and the rankings are graded against the truth.
//! `oracle` says which answers are right, `mutant` what is planted where, `locate` plants and ranks, `table` adds up.
//! A mutant's results are a file of their own, kept in `experiments/<profile>/localise/`: the command continues where
//! it was stopped.

mod foreign;
mod locate;
mod mutant;
mod oracle;
mod place;
mod place_table;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::fs::write_atomic;
use irepair_core::spec::Entry;
use irepair_core::{Diagnostic, ExitKind, Unit};
use irepair_report::{read_result, write_result};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::prepare::Prepared;
use crate::sources::Given;
use crate::{paths, process};
use locate::Program;
use mutant::{Case, Graded, Outcome, Spread};
use oracle::Tests;
use place::{Placed, Pool};

/// Which base models, and how many mutants of each sort, where nothing else is asked for.
const PROFILE: &str = "planted";
const SEEDS: u32 = 5;

/// Settings of `localise`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    mutants: Mutants,
    /// Writes every mutant into this directory for other programs to rank: model, pairs and neutral text
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Directory of rankings by another program, `<mutant>.jsonl` for every mutant; may be given several times. Its
    /// name is that of its row in the tables, which are printed and not kept
    #[arg(long, value_name = "DIR")]
    rankings: Vec<PathBuf>,
}

/// The mutants of `localise` and `place`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// A directory of experiments/
    #[arg(long, default_value = PROFILE, value_name = "NAME")]
    profile: String,
    /// Mutants of every operator, kind of unit and model, each with another place; and as many measurements of the
    /// model without a fault
    #[arg(long, default_value_t = SEEDS, value_name = "N")]
    seeds: u32,
    /// Operators that plant
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    operator: Vec<Operator>,
    /// Kinds of units that hold the fault and are ranked
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    unit: Vec<UnitKind>,
    /// Locators that rank
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    metric: Vec<Metric>,
    #[command(flatten)]
    given: Given,
}

impl Mutants {
    /// The prompts of the profile's base models, and the answers of these.
    fn tests(&self, prepared: &Prepared) -> Result<Vec<Tests>> {
        prepared.experiment.profile.models.iter().map(|model| Tests::of(prepared, &model.name)).collect()
    }

    /// The mutants that were asked for.
    fn cases<'a>(&self, prepared: &Prepared, tests: &'a [Tests]) -> Result<Vec<Case<'a>>> {
        let (operators, mut cases) = (all(&self.operator), Vec::new());
        for tests in tests {
            let map = tests.map()?;
            let weights = prepared.with_weights(Inputs::default().text(&tests.identity()?), &tests.model)?;
            for kind in all(&self.unit) {
                let suited = operators.iter().filter(|operator: &&Operator| operator.row().units.contains(&kind));
                for operator in suited.copied().map(Some).chain([None]) {
                    for spread in Spread::of(operator, map.units(UnitKind::Block).count()) {
                        let case = |seed| Case::new(tests, &map, (operator, *spread), kind, seed, weights.clone());
                        cases.extend((0..self.seeds).map(case));
                    }
                }
            }
        }
        Ok(cases)
    }

    /// The choices that narrow the tables: a flag and its value each.
    fn narrowed(&self) -> Vec<(&'static str, String)> {
        fn list<T: ToString>(values: &[T]) -> String {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let given = [("unit", list(&self.unit)), ("operator", list(&self.operator)), ("metric", list(&self.metric))];
        let seeds = (self.seeds != SEEDS).then(|| ("seeds", self.seeds.to_string()));
        given.into_iter().filter(|(_, value)| !value.is_empty()).chain(seeds).collect()
    }

    /// The file of the tables: those of other choices stay.
    fn tables(&self) -> String {
        let name: Vec<String> = self.narrowed().into_iter().map(|(flag, value)| format!("{flag}={value}")).collect();
        if name.is_empty() { "README.md".to_owned() } else { name.join("_") + ".md" }
    }

    /// The command that makes the tables.
    fn command(&self, name: &str) -> String {
        let profile = if self.profile == PROFILE { String::new() } else { format!(" --profile {}", self.profile) };
        let flags = self.narrowed().into_iter().map(|(flag, value)| format!(" --{flag} {value}")).collect::<String>();
        format!("cargo xtask {name}{profile}{flags}")
    }

    /// Where results are kept.
    fn kept(&self) -> PathBuf {
        paths::root().join("experiments").join(&self.profile).join("localise")
    }
}

/// Runs `localise`.
///
/// # Errors
/// Set-up, build, or a mutant that cannot be made or ranked; finished ones are kept.
pub(crate) fn run(Args { mutants: args, export, rankings }: &Args) -> Result<()> {
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let (dir, metrics, tests) = (args.kept(), all(&args.metric), args.tests(&prepared)?);
    let cases = args.cases(&prepared, &tests)?;
    let (runs, workers, device) = (prepared.runs.join("localise"), prepared.workers, &prepared.device);
    let mut graded = workers.each("localise", &cases, Case::name, |case| {
        let program = Program::new(device, workers, runs.join(case.name()));
        let found = locate::graded(case, kept_grades(&dir, case)?, &metrics, &program)
            .with_context(|| format!("mutant {}", case.name()))?;
        write_result(&dir.join(format!("{}.json", case.name())), &found).map_err(diagnostic)?;
        if let Some(to) = export {
            foreign::export(case, &found, &program, to).with_context(|| format!("mutant {}", case.name()))?;
        }
        Ok(found)
    })?;
    let mut locators: Vec<String> = metrics.iter().map(ToString::to_string).collect();
    for rankings in rankings {
        let name = foreign::name(rankings)?;
        for (case, graded) in cases.iter().zip(&mut graded) {
            let grade = foreign::grade(case, graded, rankings)?;
            graded.grades.insert(name.clone(), grade);
        }
        locators.push(name);
    }
    let text = table::markdown(&graded, &locators, &args.command("localise"))?;
    // A table with rows that others cannot make again is not kept.
    if rankings.is_empty() { write_tables(&dir.join(args.tables()), &text) } else { print(&text) }
}

/// Runs `place`.
///
/// # Errors
/// Set-up, build, or a mutant that cannot be made or repaired; finished ones are kept.
pub(crate) fn run_places(args: &Mutants) -> Result<()> {
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let (dir, metrics, tests) = (args.kept(), all(&args.metric), args.tests(&prepared)?);
    let (mut suited, mut n_others) = (Vec::new(), 0);
    for case in args.cases(&prepared, &tests)?.into_iter().filter(|case| case.place.len() == 1) {
        match kept_grades(&dir, &case)? {
            Some(graded) if graded.outcome == Outcome::Killed => suited.push((case, graded)),
            Some(_) => n_others += 1,
            None => {
                let what = format!("mutant {} has not been ranked", case.name());
                let help = format!("run `{}` first", args.command("localise"));
                return Err(Diagnostic::new(ExitKind::Usage, what).help(help).into());
            }
        }
    }
    let pools = tests.iter().map(|tests| Pool::of(&prepared, tests)).collect::<Result<Vec<_>>>()?;
    let maps = tests.iter().map(Tests::map).collect::<Result<Vec<_>>>()?;
    let (runs, workers, device) = (prepared.runs.join("place"), prepared.workers, &prepared.device);
    let placed = workers.each(
        "place",
        &suited,
        |(case, _)| case.name(),
        |(case, graded)| {
            let model = tests.iter().position(|tests| tests.model == case.tests.model).context("a case of no model")?;
            let kept = dir.join("place").join(format!("{}.json", case.name()));
            let before: Option<Placed> =
                if kept.exists() { Some(read_result(&kept).map_err(diagnostic)?) } else { None };
            let before = before.filter(|before| before.identity == place::identity(case, graded));
            let units: Vec<Unit> = maps[model].units(case.kind).collect();
            let program = Program::new(device, workers, runs.join(case.name()));
            let found = place::placed(case, graded, before, (&pools[model], &units, &metrics), &program)
                .with_context(|| format!("mutant {}", case.name()))?;
            write_result(&kept, &found).map_err(diagnostic)?;
            Ok(found)
        },
    )?;
    let text = place_table::markdown(&placed, n_others, &args.command("place"))?;
    write_tables(&dir.join("place").join(args.tables()), &text)
}

/// The grades of a mutant that are kept, if they are of the same inputs.
fn kept_grades(dir: &Path, case: &Case<'_>) -> Result<Option<Graded>> {
    let kept = dir.join(format!("{}.json", case.name()));
    let before: Option<Graded> = if kept.exists() { Some(read_result(&kept).map_err(diagnostic)?) } else { None };
    Ok(before.filter(|before| before.identity == case.inputs.key()))
}

fn write_tables(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, text.as_bytes()).map_err(diagnostic)?;
    process::say(format!("written to {}", path.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the tables are the result")]
fn print(text: &str) -> Result<()> {
    print!("{text}");
    Ok(())
}

/// Those that were asked for, or all there are.
fn all<T: Entry>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() { T::ALL.to_vec() } else { asked.to_vec() }
}
