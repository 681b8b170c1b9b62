//! `cargo xtask localise`: how well each locator finds faults that were planted (METHOD §24).
//!
//! A fault is planted in a base model, the locators rank its units, and the rankings are graded against the truth.
//! `oracle` says which answers are right, `mutant` what is planted where, `locate` plants and ranks, `graded` is what
//! becomes of it, `table` adds up.
//! A mutant's results are a file of their own, kept in `experiments/<profile>/localise/`: the command continues where
//! it was stopped.

mod agreement;
mod asked;
mod figure;
mod foreign;
mod graded;
mod locate;
mod mutant;
mod oracle;
mod place;
mod place_table;
mod repaired;
mod scores;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_config::Metric;
use irepair_core::fs::write_atomic;
use irepair_report::{read_result, write_result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::diagnostic;
use crate::prepare::Prepared;
use crate::process;
use crate::sources::Given;
use crate::work::Workers;
use asked::Mutants;
use graded::Graded;
use locate::Program;
use mutant::Case;
use place::{Placed, Pool};

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

/// Settings of `place`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    mutants: Mutants,
    /// Makes the tables of the kept results, whatever base models they are of, and nothing else
    #[arg(long)]
    kept: bool,
}

impl Args {
    pub(crate) fn given(&self) -> &Given {
        &self.mutants.given
    }
}

impl PlaceArgs {
    pub(crate) fn given(&self) -> &Given {
        &self.mutants.given
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
    let prepared = args.prepared()?;
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
pub(crate) fn run_places(PlaceArgs { mutants: args, kept: is_kept }: &PlaceArgs) -> Result<()> {
    if *is_kept {
        let (placed, n_others) = args.kept_places()?;
        return write_places(args, &placed, n_others);
    }
    let prepared = args.prepared()?;
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
    let path = |case: &Case<'_>| path_of(case, &dir.join("place"));
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
        let before = before(mutant)?;
        let found = place::placed(case, graded, before.clone(), (pool, &metrics), &runs.program(case))
            .with_context(|| format!("mutant {}", case.name()))?;
        keep(&path(case), before.as_ref(), found)
    };
    let claims = prepared.claims("place");
    let work = |mutant: &_| placed(mutant).map(|_| None);
    prepared.workers.share("place", claims.as_ref(), &mutants, |(case, _)| case.name(), is_done, work)?;
    let placed = mutants.iter().map(placed).collect::<Result<Vec<_>>>()?;
    write_places(args, &placed, cases.len() - placed.len())
}

fn write_places(args: &Mutants, placed: &[Placed], n_others: usize) -> Result<()> {
    let text = place_table::markdown(placed, n_others, &args.command("place"))?;
    write_tables(&args.kept().join("place").join(args.tables()), &text, figure::places(placed)?)
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
    Ok(kept(&path_of(case, dir), &case.inputs.key(), |graded: &Graded| &graded.identity)?.map(Graded::of_today))
}

/// The mutant of a case, ranked by every locator, and kept.
fn ranked(case: &Case<'_>, dir: &Path, metrics: &[Metric], runs: &Runs<'_>) -> Result<Graded> {
    let before = before(case, dir)?;
    let found = locate::graded(case, before.clone(), metrics, &runs.program(case))
        .with_context(|| format!("mutant {}", case.name()))?;
    keep(&path_of(case, dir), before.as_ref(), found)
}

fn path_of(case: &Case<'_>, dir: &Path) -> PathBuf {
    dir.join(format!("{}.json", case.name()))
}

/// Writes a result that is not the one that was kept before.
fn keep<T: PartialEq + Serialize>(path: &Path, before: Option<&T>, found: T) -> Result<T> {
    if before != Some(&found) {
        write_result(path, &found).map_err(diagnostic)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_is_kept_already_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept.json");
        let read = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(keep(&path, None, vec![1]).unwrap(), [1]);
        std::fs::write(&path, "[ 1 ]").unwrap();
        keep(&path, Some(&vec![1]), vec![1]).unwrap();
        assert_eq!(read(), "[ 1 ]", "the file is untouched");
        keep(&path, Some(&vec![1]), vec![1, 2]).unwrap();
        assert_ne!(read(), "[ 1 ]");
    }
}
