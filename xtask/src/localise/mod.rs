//! `cargo xtask localise`: how well each locator finds faults that were planted (METHOD §24).
//!
//! A fault is planted in a base model, the locators rank its units, and the rankings are graded against the truth.
//! `oracle` says which answers are right, `mutant` what is planted where, `locate` plants and ranks, `table` adds up.
//! A mutant's results are a file of their own, kept in `experiments/<profile>/localise/`: the command continues where
//! it was stopped.

mod locate;
mod mutant;
mod oracle;
mod table;

use anyhow::{Context, Result};
use irepair_arch::{Architecture, UnitMap};
use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::fs::write_atomic;
use irepair_core::spec::Entry;
use irepair_report::{read_result, write_result};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::prepare::Prepared;
use crate::sources::Given;
use crate::{paths, process};
use locate::Program;
use mutant::{Case, Graded, Spread};
use oracle::Tests;

/// Settings of `localise`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of experiments/
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Mutants of every operator, kind of unit and model, each with another place; and as many measurements of the
    /// model without a fault
    #[arg(long, default_value_t = 5, value_name = "N")]
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

/// Runs it.
///
/// # Errors
/// Set-up, build, or a mutant that cannot be made or ranked; finished ones are kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let dir = paths::root().join("experiments").join(&args.profile).join("localise");
    let metrics = all(&args.metric);
    let models = &prepared.experiment.profile.models;
    let tests = models.iter().map(|model| Tests::of(&prepared, &model.name)).collect::<Result<Vec<_>>>()?;
    let mut cases = Vec::new();
    for tests in &tests {
        let map = UnitMap::new(&Architecture::read(&tests.base.join("config.json")).map_err(diagnostic)?);
        let weights = prepared.with_weights(Inputs::default().text(&tests.identity()?), &tests.model)?;
        let operators: Vec<Operator> = all(&args.operator);
        for kind in all(&args.unit) {
            let suited = operators.iter().filter(|operator| operator.row().units.contains(&kind));
            for operator in suited.copied().map(Some).chain([None]) {
                for spread in Spread::of(operator, map.units(UnitKind::Block).count()) {
                    let case = |seed| Case::new(tests, &map, (operator, *spread), kind, seed, weights.clone());
                    cases.extend((0..args.seeds).map(case));
                }
            }
        }
    }
    let (runs, workers, device) = (prepared.runs.join("localise"), prepared.workers, &prepared.device);
    let graded = workers.each("localise", &cases, Case::name, |case| {
        let kept = dir.join(format!("{}.json", case.name()));
        let before: Option<Graded> = if kept.exists() { Some(read_result(&kept).map_err(diagnostic)?) } else { None };
        let before = before.filter(|before| before.identity == case.inputs.key());
        let program = Program::new(device, workers, runs.join(case.name()));
        let found =
            locate::graded(case, before, &metrics, &program).with_context(|| format!("mutant {}", case.name()))?;
        write_result(&kept, &found).map_err(diagnostic)?;
        Ok(found)
    })?;
    let text = table::markdown(&graded, &metrics)?;
    let path = dir.join("README.md");
    write_atomic(&path, text.as_bytes()).map_err(diagnostic)?;
    process::say(format!("written to {}", path.display()));
    Ok(())
}

/// Those that were asked for, or all there are.
fn all<T: Entry>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() { T::ALL.to_vec() } else { asked.to_vec() }
}
