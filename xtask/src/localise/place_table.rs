//! Repairs of all places as tables.

use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::UnitKind;
use irepair_stats::{Bootstrap, Error as StatsError, bootstrap_mean, holm, wilcoxon};

use super::place::{Placed, Repaired};

/// The rules of a table, in its order: the truth, the controls, what locators chose.
fn rules(mutants: &[&Placed]) -> Vec<String> {
    let first = ["oracle", "random", "reverse"].map(str::to_owned);
    let mut named: Vec<String> = mutants.iter().flat_map(|placed| placed.choices.keys().cloned()).collect();
    named.sort();
    named.dedup();
    named.retain(|name| !first.contains(name));
    first.into_iter().chain(named).chain(["all".to_owned()]).collect()
}

/// The repair that a rule made of a mutant.
fn repair<'a>(placed: &'a Placed, rule: &str) -> Option<&'a Repaired> {
    if rule == "all" {
        return placed.repairs.get("all");
    }
    placed.repairs.get(&placed.choices.get(rule)?.to_string())
}

/// Prompts that fail for every one that the mutant fails, in percent.
fn left(placed: &Placed, n_failed: usize) -> f64 {
    100.0 * n_failed as f64 / placed.n_failed as f64
}

/// The tables, as Markdown. `n_others` mutants survived or broke, and were not repaired.
///
/// # Errors
/// Statistics of numbers that are not finite.
pub(super) fn markdown(mutants: &[Placed], n_others: usize, command: &str) -> Result<String> {
    let n_repaired = mutants.iter().filter(|placed| !placed.repairs.is_empty()).count();
    let mut text = format!(
        "# Does it matter where a fault is repaired?\n\nMade by `{command}`.\n\n\
        Mutants with one faulty unit: {} were killed and {n_others} not; {n_repaired} of the former fail enough of the prompts to repair with. Each is repaired in one unit of the same kind at a time: the faulty one (oracle), one \
        at random, the one that `grad-l2` ranks last (reverse), the first choice of each locator; and in every weight (all), which changes more weights. Every repair is DPO on up to 128 prompts that the mutant fails, with \
        both answers, 100 updates of equal length as a share of the weights that they change; the length is chosen from four on 200 validation prompts. All numbers are of test prompts \
        and neutral text that no repair saw.\n\n\
        Error left: prompts that fail after the repair, newly failing ones too, for every 100 that the mutant fails. KL: from the healthy model to the repaired one on neutral text, \
        for every 1 of the mutants. Perplexity: over the healthy model's. Rounded: error left with the weights at 8 bits. Relearned: error left after 20 updates of every weight on wrong answers. \
        Edge: how often the longest step was chosen. The first two rows are no repairs.\n\n",
        mutants.len()
    );
    for kind in UnitKind::ALL {
        let of = mutants.iter().filter(|placed| placed.unit == *kind && !placed.repairs.is_empty());
        let of: Vec<&Placed> = of.collect();
        if !of.is_empty() {
            text += &of_kind(*kind, &of)?;
        }
    }
    Ok(text)
}

/// A row of a table.
struct Row {
    rule: String,
    cells: Vec<String>,
    p: f64,
    after: Vec<String>,
}

fn of_kind(kind: UnitKind, mutants: &[&Placed]) -> Result<String> {
    let mut text = format!(
        "## Units of kind {kind}\n\nMeans over mutants, [95 % bootstrap over mutants]; p by Holm over the rules: that a rule leaves as much \
         as the random place (signed-rank test).\n\n| place | mutants | is the faulty one % | error left | less the random place's | p | KL | perplexity | rounded | relearned | edge % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let over = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let rounded = over(&mut mutants.iter().map(|placed| left(placed, placed.n_failed_rounded)));
    let taught = over(&mut mutants.iter().map(|placed| left(placed, placed.n_failed_taught)));
    let n = mutants.len();
    writeln!(text, "| the mutant | {n} | | 100 | | | 1.00 | | {rounded:.0} | | |")?;
    writeln!(text, "| the healthy model, taught | {n} | | 0 | | | 0.00 | 1.00 | | {taught:.0} | |")?;
    let mut rows = Vec::new();
    for rule in rules(mutants) {
        let of: Vec<(&Placed, &Repaired)> =
            mutants.iter().filter_map(|placed| Some((*placed, repair(placed, &rule)?))).collect();
        if of.is_empty() {
            continue;
        }
        let mean = |value: &dyn Fn(&Placed, &Repaired) -> f64| {
            over(&mut of.iter().map(|(placed, repaired)| value(placed, repaired)))
        };
        let both = of.iter().filter_map(|(placed, repaired)| {
            Some((left(placed, repaired.n_failed), left(placed, repair(placed, "random")?.n_failed)))
        });
        let (own, random): (Vec<f64>, Vec<f64>) = both.unzip();
        let differences: Vec<f64> = own.iter().zip(&random).map(|(own, random)| own - random).collect();
        let p = match wilcoxon(&own, &random) {
            Ok(test) => test.p,
            Err(StatsError::NoDifference) => 1.0,
            Err(error) => return Err(error.into()),
        };
        let share = |found: bool| if found { 100.0 } else { 0.0 };
        let is_right = mean(&|placed, _| share(placed.choices.get(&rule) == Some(&placed.place)));
        let cells = vec![
            if rule == "all" { "—".to_owned() } else { format!("{is_right:.0}") },
            with_interval(&of.iter().map(|(placed, repaired)| left(placed, repaired.n_failed)).collect::<Vec<_>>())?,
            if rule == "random" { "0".to_owned() } else { with_interval(&differences)? },
        ];
        // A ratio of means: one mutant with hardly any KL would be the mean of ratios.
        let kl = mean(&|_, repaired| repaired.kl) / mean(&|placed, _| placed.kl);
        let edge = |_: &Placed, repaired: &Repaired| {
            share(repaired.n_failed_validation.last().is_some_and(|(rate, _)| *rate == repaired.rate))
        };
        let after = vec![
            format!("{kl:.2}"),
            format!("{:.2}", mean(&|placed, repaired| repaired.perplexity / placed.perplexity)),
            format!("{:.0}", mean(&|placed, repaired| left(placed, repaired.n_failed_rounded))),
            format!("{:.0}", mean(&|placed, repaired| left(placed, repaired.n_failed_relearned))),
            format!("{:.0}", mean(&edge)),
        ];
        rows.push((of.len(), Row { rule, cells, p, after }));
    }
    let ps: Vec<f64> = rows.iter().filter(|(_, row)| row.rule != "random").map(|(_, row)| row.p).collect();
    let mut ps = if ps.is_empty() { ps } else { holm(&ps)? }.into_iter();
    for (n, Row { rule, cells, after, .. }) in rows {
        let p = if rule == "random" { None } else { ps.next() };
        let p = p.map_or_else(|| "—".to_owned(), |p| format!("{p:.2}"));
        writeln!(text, "| {rule} | {n} | {} | {p} | {} |", cells.join(" | "), after.join(" | "))?;
    }
    Ok(text + "\n")
}

fn with_interval(values: &[f64]) -> Result<String> {
    if values.is_empty() {
        return Ok("—".to_owned());
    }
    let found = bootstrap_mean(values, &Bootstrap::new(0))?;
    let value = found.value;
    Ok(found.interval.map_or_else(|| format!("{value:.0}"), |at| format!("{value:.0} [{:.0}, {:.0}]", at.low, at.high)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn repaired(n_failed: usize) -> Repaired {
        Repaired {
            n_failed_validation: vec![("1e-4".to_owned(), 3)],
            rate: "1e-4".to_owned(),
            n_failed,
            kl: n_failed as f64 / 100.0,
            perplexity: 3.0,
            n_failed_rounded: n_failed + 1,
            n_failed_relearned: n_failed + 20,
            seconds: 1.0,
        }
    }

    fn placed(seed: usize, oracle: usize, random: usize) -> Placed {
        let unit = |text: &str| text.parse().unwrap();
        let choices = [("oracle", "3"), ("random", "7"), ("grad-l2", "3"), ("reverse", "7")];
        Placed {
            schema: irepair_report::SCHEMA,
            identity: String::new(),
            mutant: format!("gpt2-noise-block-{seed}"),
            unit: UnitKind::Block,
            place: unit("3"),
            n_prompts: 300,
            n_failed: 50,
            kl: 0.5,
            perplexity: 2.5,
            n_failed_rounded: 51,
            n_failed_taught: 15,
            n_pairs: 64,
            choices: choices.map(|(rule, place)| (rule.to_owned(), unit(place))).into(),
            repairs: BTreeMap::from([
                ("3".to_owned(), repaired(oracle)),
                ("7".to_owned(), repaired(random)),
                ("all".to_owned(), repaired(20)),
            ]),
        }
    }

    #[test]
    fn rules_are_compared_with_a_random_place_mutant_by_mutant() {
        let mutants = [placed(0, 5, 30), placed(1, 10, 25), placed(2, 20, 20)];
        insta::assert_snapshot!(markdown(&mutants, 4, "cargo xtask place").unwrap());
    }
}
