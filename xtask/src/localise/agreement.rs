//! Whether a locator names another unit where the fault is another one: agreement over seeds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::{Operator, UnitKind};

use super::graded::Graded;
use super::scores::of_locator;

/// On how many pairs of seeds each locator names the same unit first, as Markdown: on mutants with a fault in one
/// place, and on the model without a fault.
pub(super) fn agreement(kind: UnitKind, [one, healthy]: [&[&Graded]; 2], locators: &[String]) -> Result<String> {
    let mut text = format!(
        "## Agreement over seeds, units of kind {kind}\n\nPairs of two seeds of one base model and one operator: on how many a \
         locator names the same unit first. With a fault the seeds draw its place, so that a locator that finds it agrees as \
         often as the places do (last row); without one they draw samples and a locator's own random numbers. Pairs share mutants: no interval.\n\n\
         | locator | with a fault | without a fault |\n|---|---|---|\n"
    );
    for locator in locators {
        let named =
            |of: &[&Graded]| same(of_locator(of, locator).map(|(mutant, grade)| (mutant, grade.first[0].to_string())));
        let [with, without] = [named(one), named(healthy)];
        if with.1 > 0 {
            writeln!(text, "| {locator} | {} | {} |", shown(with), shown(without))?;
        }
    }
    let places = same(one.iter().map(|mutant| (*mutant, mutant.place.clone())));
    writeln!(text, "| the faulty unit itself | {} | |", shown(places))?;
    Ok(text + "\n")
}

/// The number of pairs of seeds with the same unit, and of all pairs.
fn same<'a>(named: impl Iterator<Item = (&'a Graded, String)>) -> (usize, usize) {
    let mut by: BTreeMap<(&str, Option<Operator>), Vec<String>> = BTreeMap::new();
    for (mutant, unit) in named {
        by.entry((&mutant.model, mutant.operator)).or_default().push(unit);
    }
    let (mut n_same, mut n) = (0, 0);
    for units in by.values() {
        for (i, unit) in units.iter().enumerate() {
            n += i;
            n_same += units[..i].iter().filter(|other| *other == unit).count();
        }
    }
    (n_same, n)
}

fn shown((n_same, n): (usize, usize)) -> String {
    if n == 0 { "—".to_owned() } else { format!("{n_same} of {n}") }
}
