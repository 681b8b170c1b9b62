//! `cargo xtask localise`: how well each locator finds faults that were planted (METHOD §24).
//!
//! A fault is planted in a base model, the locators rank its units, and the rankings are graded against the truth.
//! `oracle` says which answers are right, `mutant` what is planted where, `locate` plants and ranks, `table` adds up.
//! A mutant's results are a file of their own, kept in `experiments/<profile>/localise/`: the command continues where
//! it was stopped.

mod agreement;
mod figure;
mod foreign;
mod locate;
mod mutant;
mod oracle;
mod place;
mod place_table;
mod table;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::fs::write_atomic;
use irepair_core::spec::Entry;
use irepair_report::{read_result, write_result};
use serde::de::DeserializeOwned;

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::prepare::{Prepared, read_experiment};
use crate::sources::Given;
use crate::work::Workers;
use crate::{paths, process};
use locate::Program;
use mutant::{Case, Graded, MOST_PAIRS, Spread};
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
    #[arg(long, value_name = "DIR", conflicts_with = "shard")]
    export: Option<PathBuf>,
    /// Directory of rankings by another program, `<mutant>.jsonl` for every mutant; may be given several times. Its
    /// name is that of its row in the tables, which are printed and not kept
    #[arg(long, value_name = "DIR")]
    rankings: Vec<PathBuf>,
    /// Makes the tables of the kept results, whatever base models they are of, and nothing else
    #[arg(long, conflicts_with_all = ["export", "rankings"])]
    kept: bool,
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
    /// Test prompts that a mutant may fail, spread over those of the profile. Without it, all
    #[arg(long, value_name = "N")]
    n_prompts: Option<NonZeroUsize>,
    /// Failed prompts that a locator sees, at most
    #[arg(long, default_value_t = MOST_PAIRS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    n_pairs: u32,
    /// Operators that plant
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    operator: Vec<Operator>,
    /// How many units hold the fault
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    spread: Vec<Spread>,
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
        let models = prepared.experiment.profile.models.iter();
        models.map(|model| Tests::of(prepared, &model.name, self.n_prompts, self.n_pairs as usize)).collect()
    }

    /// The locators that were asked for. One that ranks by a seed says less than the exact mean of all rankings.
    fn metrics(&self) -> Vec<Metric> {
        let all = all(&self.metric).into_iter();
        all.filter(|metric| *metric != Metric::Random || !self.metric.is_empty()).collect()
    }

    fn locators(&self) -> Vec<String> {
        self.metrics().iter().map(ToString::to_string).collect()
    }

    /// The mutants that were asked for.
    fn cases<'a>(&self, prepared: &Prepared, tests: &'a [Tests]) -> Result<Vec<Case<'a>>> {
        let mut cases = Vec::new();
        for tests in tests {
            let map = tests.map()?;
            let weights = prepared.with_weights(Inputs::default().text(&tests.identity()?), &tests.model)?;
            let sorts = self.sorts(map.units(UnitKind::Block).count()).into_iter();
            cases.extend(sorts.map(|(fault, kind, seed)| Case::new(tests, &map, fault, kind, seed, weights.clone())));
        }
        Ok(cases)
    }

    /// Fault, kind and seed of the mutants of each model that were asked for, in the order of the tables.
    fn sorts(&self, n_blocks: usize) -> Vec<((Option<Operator>, Spread), UnitKind, u32)> {
        let (operators, mut sorts) = (all(&self.operator), Vec::new());
        for kind in all(&self.unit) {
            let suited = operators.iter().filter(|operator: &&Operator| operator.row().units.contains(&kind));
            for operator in suited.copied().map(Some).chain([None]) {
                let asked =
                    |spread: &&Spread| operator.is_none() || self.spread.is_empty() || self.spread.contains(spread);
                for spread in Spread::of(operator, n_blocks).iter().filter(asked) {
                    sorts.extend((0..self.seeds).map(|seed| ((operator, *spread), kind, seed)));
                }
            }
        }
        sorts
    }

    /// The grades that are kept of them, whatever base models they are of: nothing is made.
    ///
    /// # Errors
    /// An unknown profile; a mutant of which none is kept.
    fn kept_grades(&self) -> Result<Vec<Graded>> {
        let models = read_experiment(&self.profile)?.profile.models;
        let of = |model: &str, ((operator, spread), kind, seed)| {
            let path = self.kept().join(format!("{}.json", mutant::name(model, operator, spread, kind, seed)));
            Ok(read_result::<Graded>(&path).map_err(diagnostic)?.of_today())
        };
        models.iter().flat_map(|model| self.sorts(2).into_iter().map(|sort| of(&model.name, sort))).collect()
    }

    /// The choices that narrow the tables: a flag and its value each.
    fn narrowed(&self) -> Vec<(&'static str, String)> {
        fn list<T: ToString>(values: &[T]) -> String {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let spread: Vec<&str> = self.spread.iter().map(|spread| spread.name()).collect();
        let given = [
            ("unit", list(&self.unit)),
            ("operator", list(&self.operator)),
            ("spread", spread.join(",")),
            ("metric", list(&self.metric)),
        ];
        let seeds = (self.seeds != SEEDS).then(|| ("seeds", self.seeds.to_string()));
        let n_prompts = self.n_prompts.map(|n| ("n-prompts", n.to_string()));
        let n_pairs = (self.n_pairs != MOST_PAIRS).then(|| ("n-pairs", self.n_pairs.to_string()));
        let numbers = seeds.into_iter().chain(n_prompts).chain(n_pairs);
        given.into_iter().filter(|(_, value)| !value.is_empty()).chain(numbers).collect()
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
pub(crate) fn run(Args { mutants: args, export, rankings, kept }: &Args) -> Result<()> {
    if *kept {
        return write_ranks(args, &args.kept_grades()?, &args.locators());
    }
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let turn = prepared.turn("localise")?;
    let (dir, metrics, tests) = (args.kept(), args.metrics(), args.tests(&prepared)?);
    drop(turn);
    let cases = args.cases(&prepared, &tests)?;
    let runs = Runs::of(&prepared, "localise");
    let mut graded = all_ranked(&prepared, &cases, &dir, &metrics, &runs)?;
    if let Some(to) = export {
        let cases: Vec<_> = cases.iter().zip(&graded).collect();
        prepared.workers.each(
            "export",
            &cases,
            |(case, _)| case.name(),
            |(case, found)| {
                foreign::export(case, found, &runs.program(case), to).with_context(|| format!("mutant {}", case.name()))
            },
        )?;
    }
    let mut locators = args.locators();
    for rankings in rankings {
        let name = foreign::name(rankings)?;
        for (case, graded) in cases.iter().zip(&mut graded) {
            let grade = foreign::grade(case, graded, rankings)?;
            graded.grades.insert(name.clone(), grade);
        }
        locators.push(name);
    }
    // A table with rows that others cannot make again is not kept.
    if rankings.is_empty() {
        write_ranks(args, &graded, &locators)
    } else {
        print(&table::markdown(&graded, &locators, (&args.command("localise"), args.n_pairs))?)
    }
}

fn write_ranks(args: &Mutants, graded: &[Graded], locators: &[String]) -> Result<()> {
    let text = table::markdown(graded, locators, (&args.command("localise"), args.n_pairs))?;
    write_tables(&args.kept().join(args.tables()), &text, figure::precision(graded, locators)?)
}

/// Runs `place`.
///
/// # Errors
/// Set-up, build, or a mutant that cannot be made or repaired; finished ones are kept.
pub(crate) fn run_places(args: &Mutants) -> Result<()> {
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let turn = prepared.turn("localise")?;
    let (dir, metrics, tests) = (args.kept(), args.metrics(), args.tests(&prepared)?);
    let mut cases = args.cases(&prepared, &tests)?;
    cases.retain(|case| case.place.len() == 1);
    let pools = tests.iter().map(|tests| Ok((tests.model.as_str(), Pool::of(&prepared, tests)?)));
    let pools = pools.collect::<Result<BTreeMap<_, _>>>()?;
    drop(turn);
    let (localise, runs) = (Runs::of(&prepared, "localise"), Runs::of(&prepared, "place"));
    let graded = all_ranked(&prepared, &cases, &dir, &metrics, &localise)?;
    let mutants: Vec<(&Case<'_>, &Graded)> = cases.iter().zip(&graded).filter(|(_, found)| found.is_ranked()).collect();
    let path = |case: &Case<'_>| dir.join("place").join(format!("{}.json", case.name()));
    let before = |(case, graded): &(&Case<'_>, &Graded)| {
        kept(&path(case), &place::identity(case, graded), |placed: &Placed| &placed.identity)
    };
    let is_done = |mutant: &(&Case<'_>, &Graded)| match before(mutant)? {
        Some(found) => place::is_placed(mutant.0, mutant.1, &found, &metrics),
        None => Ok(false),
    };
    let placed = |mutant: &(&Case<'_>, &Graded)| {
        let (case, graded) = mutant;
        let pool = &pools[case.tests.model.as_str()];
        let found = place::placed(case, graded, before(mutant)?, (pool, &metrics), &runs.program(case))
            .with_context(|| format!("mutant {}", case.name()))?;
        write_result(&path(case), &found).map_err(diagnostic)?;
        Ok(found)
    };
    let claims = prepared.claims("place");
    let work = |mutant: &_| placed(mutant).map(|_| None);
    prepared.workers.share("place", claims.as_ref(), &mutants, |(case, _)| case.name(), is_done, work)?;
    let placed = mutants.iter().map(placed).collect::<Result<Vec<_>>>()?;
    let n_others = cases.len() - placed.len();
    let text = place_table::markdown(&placed, n_others, &args.command("place"))?;
    write_tables(&dir.join("place").join(args.tables()), &text, figure::places(&placed)?)
}

/// Where the work of a command lies, a directory for each mutant.
struct Runs<'a> {
    /// Device and processes.
    on: (&'a str, Workers),
    dir: PathBuf,
}

impl<'a> Runs<'a> {
    fn of(prepared: &'a Prepared, name: &str) -> Self {
        Self { on: (&prepared.device, prepared.workers), dir: prepared.runs.join(name) }
    }

    fn program(&self, case: &Case<'_>) -> Program {
        let (device, workers) = self.on;
        Program::new(device, workers, self.dir.join(case.name()))
    }
}

/// The mutants of all cases, ranked by every locator, and kept.
fn all_ranked(
    prepared: &Prepared,
    cases: &[Case<'_>],
    dir: &Path,
    metrics: &[Metric],
    runs: &Runs<'_>,
) -> Result<Vec<Graded>> {
    let is_done = |case: &Case<'_>| Ok(before(case, dir)?.is_some_and(|found| locate::is_graded(&found, metrics)));
    let ranked = |case: &Case<'_>| ranked(case, dir, metrics, runs);
    let (claims, work) = (prepared.claims("localise"), |case: &Case<'_>| ranked(case).map(|_| None));
    prepared.workers.share("localise", claims.as_ref(), cases, Case::name, is_done, work)?;
    cases.iter().map(ranked).collect()
}

/// What is kept of a mutant, as far as it holds.
fn before(case: &Case<'_>, dir: &Path) -> Result<Option<Graded>> {
    let path = dir.join(format!("{}.json", case.name()));
    Ok(kept(&path, &case.inputs.key(), |graded: &Graded| &graded.identity)?.map(Graded::of_today))
}

/// The mutant of a case, ranked by every locator, and kept.
fn ranked(case: &Case<'_>, dir: &Path, metrics: &[Metric], runs: &Runs<'_>) -> Result<Graded> {
    let found = locate::graded(case, before(case, dir)?, metrics, &runs.program(case))
        .with_context(|| format!("mutant {}", case.name()))?;
    write_result(&dir.join(format!("{}.json", case.name())), &found).map_err(diagnostic)?;
    Ok(found)
}

/// A result that is kept in a file, if it is that of the same inputs.
fn kept<T: DeserializeOwned>(path: &Path, identity: &str, of: impl Fn(&T) -> &String) -> Result<Option<T>> {
    let before: Option<T> = if path.exists() { Some(read_result(path).map_err(diagnostic)?) } else { None };
    Ok(before.filter(|before| of(before) == identity))
}

/// Writes tables, and their figure next to them.
fn write_tables(path: &Path, text: &str, figure: Option<String>) -> Result<()> {
    let figure = figure.map(|svg| (path.with_extension("svg"), svg));
    for (path, text) in std::iter::once((path.to_owned(), text.to_owned())).chain(figure) {
        write_atomic(&path, text.as_bytes()).map_err(diagnostic)?;
        process::say(format!("written to {}", path.display()));
    }
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
