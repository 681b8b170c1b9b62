//! The mutants that a command was asked for, and what is kept of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::spec::Entry;
use irepair_core::{Diagnostic, ExitKind, Unit};
use irepair_report::read_result;

use super::graded::Graded;
use super::mutant::{self, Case, MOST_PAIRS, Spread};
use super::oracle::Tests;
use super::place::Placed;
use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::paths;
use crate::prepare::{Prepared, read_experiment};
use crate::sources::Given;

/// How far apart the perplexities of one model on two kinds of machines may be, as a share.
const LAST_DIGITS: f64 = 1e-5;

/// Which base models, and how many mutants of each sort, where nothing else is asked for.
const PROFILE: &str = "planted";
const SEEDS: u32 = 5;

/// The mutants of `localise` and `place`.
#[derive(Debug, clap::Args)]
pub(super) struct Mutants {
    /// A directory of experiments/
    #[arg(long, default_value = PROFILE, value_name = "NAME")]
    pub(super) profile: String,
    /// Mutants of every operator, kind of unit and model, each with another place; and as many measurements of the
    /// model without a fault
    #[arg(long, default_value_t = SEEDS, value_name = "N")]
    seeds: u32,
    /// Test prompts that a mutant may fail, spread over those of the profile. Without it, all
    #[arg(long, value_name = "N")]
    n_prompts: Option<NonZeroUsize>,
    /// Failed prompts that a locator sees, at most
    #[arg(long, default_value_t = MOST_PAIRS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) n_pairs: u32,
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
    pub(super) given: Given,
}

impl Mutants {
    /// The profile with what its base models need; no row runs, and no text is sampled for one.
    pub(super) fn prepared(&self) -> Result<Prepared> {
        let mut prepared = Prepared::plan(&self.profile, &self.given)?;
        prepared.has_own_texts = false;
        prepared.make()?;
        Ok(prepared)
    }

    /// The prompts of the profile's base models, and the answers of these.
    pub(super) fn tests(&self, prepared: &Prepared) -> Result<Vec<Tests>> {
        let models = prepared.experiment.profile.models.iter();
        models.map(|model| Tests::of(prepared, &model.name, self.n_prompts, self.n_pairs as usize)).collect()
    }

    /// The locators that were asked for. One that ranks by a seed says less than the exact mean of all rankings.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let all = all(&self.metric).into_iter();
        all.filter(|metric| *metric != Metric::Random || !self.metric.is_empty()).collect()
    }

    pub(super) fn locators(&self) -> Vec<String> {
        self.metrics().iter().map(ToString::to_string).collect()
    }

    /// The mutants that were asked for.
    pub(super) fn cases<'a>(&self, prepared: &Prepared, tests: &'a [Tests]) -> Result<Vec<Case<'a>>> {
        let mut cases = Vec::new();
        for tests in tests {
            let map = tests.map()?;
            let weights = prepared.with_weights(Inputs::default().text(&tests.identity()?), &tests.model)?;
            // A head is swapped with another of its block.
            let is_planted = |operator| operator != Some(Operator::HeadSwap) || map.n_per_block(UnitKind::Head) > 1;
            let sorts = self.sorts(map.units(UnitKind::Block).count()).into_iter();
            let sorts = sorts.filter(|((operator, _), ..)| is_planted(*operator));
            cases.extend(sorts.map(|(fault, kind, seed)| Case::new(tests, &map, fault, kind, seed, weights.clone())));
        }
        Ok(cases)
    }

    /// Fault, kind and seed of the mutants of each model that were asked for, in the order of the tables.
    pub(super) fn sorts(&self, n_blocks: usize) -> Vec<((Option<Operator>, Spread), UnitKind, u32)> {
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
    /// An unknown profile; a mutant of which none is kept; mutants of one name of several base models.
    pub(super) fn kept_grades(&self) -> Result<Vec<Graded>> {
        let models = read_experiment(&self.profile)?.profile.models;
        let of = |model: &str, ((operator, spread), kind, seed)| {
            let path = self.kept().join(format!("{}.json", mutant::name(model, operator, spread, kind, seed)));
            if !path.exists() {
                let help = "narrow it to what is kept there by --unit, --operator, --spread and --seeds, or make it: the same command without --kept";
                let what = "a mutant that was asked for has no kept result";
                return Err(Diagnostic::new(ExitKind::Data, what).at(path.display()).help(help).into());
            }
            Ok(read_result::<Graded>(&path).map_err(diagnostic)?.of_today())
        };
        let mut found: Vec<Graded> = Vec::new();
        for model in &models {
            let of_model =
                self.sorts(2).into_iter().map(|sort| of(&model.name, sort)).collect::<Result<Vec<Graded>>>()?;
            // Published weights are the same everywhere, and their perplexity but for its last digits.
            let apart = if model.pretrain.is_none() { LAST_DIGITS } else { 0.0 };
            let is_first = |other: &Graded| of_model.first().is_none_or(|first| other.has_base_of(first, apart));
            if let Some(other) = of_model.iter().find(|other| !is_first(other)) {
                let what = format!("kept mutants of {} are of several base models or prompts", model.name);
                let help = "make all of them on one machine: the same command without --kept";
                let name = mutant::name(&model.name, other.operator, other.spread, other.unit, other.seed);
                return Err(Diagnostic::new(ExitKind::Data, what).at(name).help(help).into());
            }
            found.extend(of_model);
        }
        Ok(found)
    }

    /// The repairs that are kept of them, and how many mutants with one faulty unit have none.
    ///
    /// # Errors
    /// As [`Mutants::kept_grades`].
    pub(super) fn kept_places(&self) -> Result<(Vec<Placed>, usize)> {
        let (mut placed, mut n_others) = (Vec::new(), 0);
        for graded in self.kept_grades()? {
            let name = mutant::name(&graded.model, graded.operator, graded.spread, graded.unit, graded.seed);
            let path = self.kept().join("place").join(format!("{name}.json"));
            // A mutant of two heads was not repaired: no one unit holds its fault.
            match graded.place.parse::<Unit>() {
                Ok(_) if path.exists() => {
                    let mut found: Placed = read_result(&path).map_err(diagnostic)?;
                    if found.of != graded.identity {
                        let what = "kept repairs are of another mutant than the one that is kept: of another base model, or made before";
                        let help = "make them again: the same command without --kept";
                        return Err(Diagnostic::new(ExitKind::Data, what).at(path.display()).help(help).into());
                    }
                    // What a locator chose by an older definition is no choice of its own.
                    let is_old = |rule: &String| rule.parse::<Metric>().is_ok() && !graded.grades.contains_key(rule);
                    found.choices.retain(|rule, _| !is_old(rule));
                    placed.push(found);
                }
                Ok(_) => n_others += 1,
                Err(_) => {}
            }
        }
        Ok((placed, n_others))
    }

    /// The choices that narrow the tables: a flag and its value each.
    pub(super) fn narrowed(&self) -> Vec<(&'static str, String)> {
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
    pub(super) fn tables(&self) -> String {
        let name: Vec<String> = self.narrowed().into_iter().map(|(flag, value)| format!("{flag}={value}")).collect();
        if name.is_empty() { "README.md".to_owned() } else { name.join("_") + ".md" }
    }

    /// The command that makes the tables.
    pub(super) fn command(&self, name: &str) -> String {
        let profile = if self.profile == PROFILE { String::new() } else { format!(" --profile {}", self.profile) };
        let flags = self.narrowed().into_iter().map(|(flag, value)| format!(" --{flag} {value}")).collect::<String>();
        format!("cargo xtask {name}{profile}{flags}")
    }

    /// Where results are kept.
    pub(super) fn kept(&self) -> PathBuf {
        paths::root().join("experiments").join(&self.profile).join("localise")
    }
}

/// Those that were asked for, or all there are.
fn all<T: Entry>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() { T::ALL.to_vec() } else { asked.to_vec() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        mutants: Mutants,
    }

    #[test]
    fn a_mutant_that_is_not_kept_is_named_with_the_ways_to_others() {
        let asked = Line::parse_from(["localise", "--profile", "wild", "--unit", "head"]).mutants;
        let error = asked.kept_grades().unwrap_err().to_string();
        assert!(error.contains("-head-0.json") && error.contains("--operator"), "{error}");
    }

    #[test]
    fn published_weights_are_the_same_on_two_kinds_of_machines() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/wild/localise");
        let kept = |name: &str| -> Graded { read_result(&dir.join(format!("smollm2-135m-{name}.json"))).unwrap() };
        let (here, there) = (kept("noise-block-0"), kept("train-in-block-0"));
        assert!(here.has_base_of(&there, LAST_DIGITS) && !here.has_base_of(&there, 0.0));
        let other = Graded { perplexity: (here.perplexity.0 * 1.001, None), ..kept("noise-block-0") };
        assert!(!other.has_base_of(&here, LAST_DIGITS));
        let fewer = Graded { n_prompts: 100, ..kept("noise-block-0") };
        assert!(!fewer.has_base_of(&here, LAST_DIGITS) && here.has_base_of(&here, 0.0));
    }
}
