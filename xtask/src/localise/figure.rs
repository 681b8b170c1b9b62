//! The two tables as figures: how well each locator finds faults, and what a repair in its first choice leaves.

use anyhow::Result;
use irepair_config::UnitKind;
use irepair_report::{Dots, dots};
use irepair_stats::{Bootstrap, Estimate, bootstrap_mean, mean};

use super::graded::Graded;
use super::mutant::Spread;
use super::place::Placed;
use super::place_table::{is_repaired, left, of_rule, rules};
use super::scores::{Scores, of_locator};

/// Average precision of every locator on mutants with a fault in one place, as an SVG: the best on the first kind of
/// units above. None without such mutants.
///
/// # Errors
/// Grades that are no ranks; a figure that cannot be drawn.
pub(super) fn precision(mutants: &[Graded], locators: &[String]) -> Result<Option<String>> {
    let (mut series, mut columns) = (Vec::new(), Vec::new());
    for kind in UnitKind::ALL {
        let of: Vec<&Graded> = mutants.iter().filter(|m| m.unit == *kind && is_single(m)).collect();
        let scores = locators.iter().map(|locator| Scores::of(of_locator(&of, locator)));
        let scores = scores.collect::<Result<Vec<_>>>()?;
        // Locators differ in the mutants that they rank.
        let largest = scores.iter().map(|scores| &scores.chance[3]).max_by_key(|values| values.len());
        if let Some(chance) = largest.and_then(|values| mean(values)) {
            series.push((format!("{kind}, {} mutants", of.len()), Some(chance)));
            columns.push(scores.iter().map(|scores| estimate(&scores.found[3])).collect::<Result<Vec<_>>>()?);
        }
    }
    let rows = locators.iter().enumerate();
    let mut rows: Vec<(String, Vec<Option<Estimate>>)> =
        rows.map(|(i, locator)| (locator.clone(), columns.iter().map(|column| column[i]).collect())).collect();
    rows.sort_by(|a, b| first(&b.1).total_cmp(&first(&a.1)));
    let caption = "Mean average precision of each locator on mutants with a fault in one place, with its 95 % bootstrap \
                   interval over mutants; a thin line is the exact mean of a random ranking.";
    drawn(caption, "average precision: 1 if the faulty unit is always first", Some(1.0), series, rows)
}

/// Error left by a repair in the place that each rule chooses, as an SVG. None where nothing was repaired.
///
/// # Errors
/// Numbers that are not finite; a figure that cannot be drawn.
pub(super) fn places(mutants: &[Placed]) -> Result<Option<String>> {
    let repaired: Vec<&Placed> = mutants.iter().filter(|placed| is_repaired(placed)).collect();
    let (mut series, mut columns) = (Vec::new(), Vec::new());
    let rules = rules(&repaired);
    for kind in UnitKind::ALL {
        let of: Vec<&Placed> = repaired.iter().filter(|placed| placed.unit == *kind).copied().collect();
        if of.is_empty() {
            continue;
        }
        let left_by = |rule: &String| -> Vec<f64> {
            let lefts = of_rule(&of, rule, |placed, repaired| Some(left(placed, repaired.n_failed)));
            lefts.into_iter().map(|(_, left)| left).collect()
        };
        series.push((format!("{kind}, {} mutants", of.len()), mean(&left_by(&"random".to_owned()))));
        columns.push(rules.iter().map(|rule| estimate(&left_by(rule))).collect::<Result<Vec<_>>>()?);
    }
    let rows = rules.iter().enumerate();
    let rows = rows.map(|(i, rule)| (rule.clone(), columns.iter().map(|column| column[i]).collect())).collect();
    let caption = "Error left after a repair of one unit, for every 100 prompts that the mutant fails, by the rule that \
                   chose the unit, with its 95 % bootstrap interval over mutants; a thin line is the mean of random \
                   units. `all` repairs every weight.";
    drawn(caption, "error left, % of the mutant's", None, series, rows)
}

/// True for a fault in one place that made the model fail.
fn is_single(mutant: &Graded) -> bool {
    mutant.operator.is_some() && mutant.spread == Spread::One && mutant.is_ranked()
}

fn estimate(values: &[f64]) -> Result<Option<Estimate>> {
    Ok(if values.is_empty() { None } else { Some(bootstrap_mean(values, &Bootstrap::new(0))?) })
}

fn first(estimates: &[Option<Estimate>]) -> f64 {
    estimates.iter().flatten().next().map_or(f64::NEG_INFINITY, |estimate| estimate.value)
}

/// A figure from 0 to `end`, or to the largest value.
fn drawn(
    caption: &str,
    x: &str,
    end: Option<f64>,
    series: Vec<(String, Option<f64>)>,
    mut rows: Vec<(String, Vec<Option<Estimate>>)>,
) -> Result<Option<String>> {
    rows.retain(|(_, estimates)| estimates.iter().any(Option::is_some));
    if rows.is_empty() {
        return Ok(None);
    }
    let high = |estimate: &Estimate| estimate.interval.map_or(estimate.value, |at| at.high);
    let largest = rows.iter().flat_map(|(_, estimates)| estimates.iter().flatten().map(high)).fold(1.0, f64::max);
    let range = 0.0..end.unwrap_or(1.05 * largest);
    Ok(Some(dots(&Dots { caption: caption.to_owned(), x: x.to_owned(), range, series, rows })?))
}
