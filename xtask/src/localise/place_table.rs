//! Repairs of all places as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::UnitKind;
use irepair_core::Unit;
use irepair_stats::{Bootstrap, bootstrap_mean, mean, median};

use super::place::{N_RANDOM, Placed};
use super::repaired::Repaired;
use super::scores::{corrected, shown, shown_within, signed_rank_p};

/// The rules of a table, in its order: the truth, the controls, what locators chose. Of locators that choose the same
/// unit of every mutant the first stands for all.
pub(super) fn rules(mutants: &[&Placed]) -> Vec<String> {
    let controls = ["oracle", "near", "random", "reverse"].map(str::to_owned);
    let chosen =
        |rule: &str| -> Vec<Option<Unit>> { mutants.iter().map(|placed| placed.choices.get(rule).copied()).collect() };
    let named: BTreeSet<&String> = mutants.iter().flat_map(|placed| placed.choices.keys()).collect();
    let mut locators: Vec<String> = Vec::new();
    // `grad-l2` before `density`, which is the same for units of one size.
    for name in named.into_iter().rev().filter(|name| !controls.contains(*name)) {
        if locators.iter().all(|other| chosen(other) != chosen(name)) {
            locators.push(name.clone());
        }
    }
    locators.sort();
    controls.into_iter().chain(locators).chain(["all".to_owned()]).collect()
}

/// Blocks between the faulty one and those near it, at most.
const NEAR: usize = 2;

/// The repairs of a mutant that a rule made: one, but for `random` and `near`.
pub(super) fn repairs<'a>(placed: &'a Placed, rule: &str) -> Vec<&'a Repaired> {
    let of = |place: &str| placed.repairs.get(place)?.as_ref();
    match rule {
        "all" => of("all").into_iter().collect(),
        "near" => {
            let units =
                placed.repairs.iter().filter_map(|(place, found)| Some((place.parse::<Unit>().ok()?, found.as_ref()?)));
            let is_near = |unit: Unit| unit != placed.place && unit.block.0.abs_diff(placed.place.block.0) <= NEAR;
            units.filter(|(unit, _)| is_near(*unit)).map(|(_, found)| found).collect()
        }
        "random" => placed.random.iter().filter_map(|unit| of(&unit.to_string())).collect(),
        _ => placed.choices.get(rule).and_then(|unit| of(&unit.to_string())).into_iter().collect(),
    }
}

/// Prompts that fail for every one that the mutant fails, in percent.
pub(super) fn left(placed: &Placed, n_failed: usize) -> f64 {
    100.0 * n_failed as f64 / placed.n_failed as f64
}

/// A number of each mutant: the mean over the repairs that a rule made of it. Mutants without one are left out.
pub(super) fn of_rule(
    mutants: &[&Placed],
    rule: &str,
    value: impl Fn(&Placed, &Repaired) -> Option<f64>,
) -> Vec<(usize, f64)> {
    let of = |placed: &Placed| {
        mean(&repairs(placed, rule).into_iter().filter_map(|repaired| value(placed, repaired)).collect::<Vec<_>>())
    };
    mutants.iter().enumerate().filter_map(|(i, placed)| Some((i, of(placed)?))).collect()
}

/// The tables, as Markdown. `n_others` mutants survived or broke, and were not repaired.
///
/// # Errors
/// Statistics of numbers that are not finite.
pub(super) fn markdown(mutants: &[Placed], n_others: usize, command: &str) -> Result<String> {
    let n_tried = |repaired: &Repaired| repaired.n_failed_validation.len();
    let tried = mutants.iter().flat_map(|placed| placed.repairs.values().flatten()).map(n_tried);
    let (fewest, most) = tried.fold((usize::MAX, 0), |(fewest, most), n| (fewest.min(n), most.max(n)));
    let lengths = if fewest < most {
        format!("from {fewest}, and up to {most} while the longest was the best,")
    } else {
        format!("from {most}")
    };
    let n_repaired = mutants.iter().filter(|placed| is_repaired(placed)).count();
    let mut text = format!(
        "# Does it matter where a fault is repaired?\n\nMade by `{command}`.\n\n\
        Mutants with one faulty unit: {} were killed and are stable, {n_others} were not killed or depend on the seed; {n_repaired} of the former fail enough new prompts to repair with. Each is repaired in one unit of the same kind at a time: the faulty one (oracle), each of \
        up to {N_RANDOM} units drawn at random, of which the mean is taken (random: all units where there are not more), the one that `grad-l2` ranks last (reverse), the first choice of each locator (of locators that always chose the same unit one is \
        listed); and in every weight (all), which changes more weights. Near: the mean of those of these units that are at most {NEAR} blocks from the faulty one and are not it, a control for depth. Every repair is DPO on up to 128 prompts that the mutant fails, with \
        both answers, 100 updates of equal length as a share of the weights that they change; the length is chosen {lengths} on 200 validation prompts. All numbers are of 300 test prompts \
        and neutral text that neither a repair nor a locator saw. All these prompts are of the profile's training pairs, on which `train-in` trained its mutants.\n\n\
        Error left: prompts that fail after the repair, newly failing ones too, for every 100 that the mutant fails. KL: from the healthy model to the repaired one on neutral text, \
        for every 1 of the mutants, a ratio of means. Perplexity: over the healthy model's. Undoes: the cosine between the repair and the way back to the healthy weights, over the weights that the fault changed; in brackets the mutants in which the repair \
        changed one. Rounded: error left with the weights at 8 bits. Relearned: error left after so many updates of every weight on wrong answers, the median over mutants: few that fail little would be the mean. \
        Edge: how often the shortest and the longest step was chosen. The first three rows are no repairs.\n\n",
        mutants.len()
    );
    for kind in UnitKind::ALL {
        let of = mutants.iter().filter(|placed| placed.unit == *kind && is_repaired(placed));
        let of: Vec<&Placed> = of.collect();
        if !of.is_empty() {
            text += &of_kind(*kind, &of)?;
        }
    }
    Ok(text)
}

/// True for a mutant that fails test prompts and was repaired.
pub(super) fn is_repaired(placed: &Placed) -> bool {
    placed.n_failed > 0 && !placed.repairs.is_empty()
}

fn of_kind(kind: UnitKind, mutants: &[&Placed]) -> Result<String> {
    let relearned: Vec<String> = mutants[0].n_failed_taught.iter().map(|(updates, _)| updates.to_string()).collect();
    let mut text = format!(
        "## Units of kind {kind}\n\nMeans over mutants, [95 % bootstrap over mutants]; p that a rule leaves as much \
         as a random place (signed-rank test): of oracle, near and reverse alone, of locators by Holm.\n\n| place | mutants | is the faulty one % | error left | less a random place's | p | KL | perplexity | undoes | rounded | relearned {} | edge % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        relearned.join(", ")
    );
    let over = |value: &dyn Fn(&Placed) -> f64| mean(&mutants.iter().map(|placed| value(placed)).collect::<Vec<_>>());
    let rounded = |i: usize| shown(over(&|placed| left(placed, placed.n_failed_rounded[i])), 0);
    let taught = |i: usize| {
        let values = mutants.iter().filter_map(|placed| Some(left(placed, placed.n_failed_taught.get(i)?.1)));
        shown(median(&values.collect::<Vec<_>>()), 0)
    };
    let perplexity = shown(over(&|placed| placed.perplexity[1] / placed.perplexity[0]), 2);
    let taught: Vec<String> = (0..relearned.len()).map(taught).collect();
    let n = mutants.len();
    writeln!(text, "| the mutant | {n} | | 100 | | | 1.00 | {perplexity} | | {} | | |", rounded(1))?;
    writeln!(text, "| the healthy model | {n} | | 0 | | | 0.00 | 1.00 | 1.00 | {} | | |", rounded(0))?;
    writeln!(text, "| the healthy model, taught | {n} | | | | | | | | | {} | |", taught.join(", "))?;
    let rules = rules(mutants);
    let left_by = |rule: &str| of_rule(mutants, rule, |placed, repaired| Some(left(placed, repaired.n_failed)));
    let random: BTreeMap<usize, f64> = left_by("random").into_iter().collect();
    let p = |rule: &str| -> Result<f64> {
        let both = left_by(rule).into_iter().filter_map(|(i, own)| Some((own, *random.get(&i)?)));
        let (own, random): (Vec<f64>, Vec<f64>) = both.unzip();
        signed_rank_p(&own, &random)
    };
    let alone = ["oracle", "near", "reverse"];
    let locators: Vec<&String> =
        rules.iter().filter(|rule| ![&alone[..], &["random", "all"]].concat().contains(&rule.as_str())).collect();
    let ps = locators.iter().map(|rule| p(rule)).collect::<Result<Vec<_>>>()?;
    let mut ps: BTreeMap<&str, f64> = locators.into_iter().map(String::as_str).zip(corrected(ps)?).collect();
    for rule in alone.into_iter().filter(|rule| !left_by(rule).is_empty()) {
        ps.insert(rule, p(rule)?);
    }
    for rule in &rules {
        let values = |value: &dyn Fn(&Placed, &Repaired) -> Option<f64>| -> Vec<f64> {
            of_rule(mutants, rule, value).into_iter().map(|(_, value)| value).collect()
        };
        let by = |value: &dyn Fn(&Placed, &Repaired) -> f64, digits| {
            shown(mean(&values(&|placed, repaired| Some(value(placed, repaired)))), digits)
        };
        let lefts = left_by(rule);
        if lefts.is_empty() {
            continue;
        }
        let right = |placed: &&Placed| match rule.as_str() {
            "random" => placed.random.contains(&placed.place).then(|| 1.0 / placed.random.len() as f64),
            rule => placed.choices.get(rule).map(|unit| f64::from(u8::from(*unit == placed.place))),
        };
        let right: Vec<f64> = mutants.iter().map(|placed| 100.0 * right(placed).unwrap_or(0.0)).collect();
        let differences: Vec<f64> = lefts.iter().filter_map(|(i, left)| Some(left - random.get(i)?)).collect();
        // A ratio of means: one mutant with hardly any KL would be the mean of ratios.
        let kl = mean(&values(&|_, repaired| repaired.kl))
            .zip(mean(&values(&|placed, repaired| repaired.kl.map(|_| placed.kl))));
        let cosines = values(&|_, repaired| repaired.cosine);
        let relearned = (0..relearned.len()).map(|i| {
            shown(median(&values(&|placed, repaired| Some(left(placed, repaired.n_failed_relearned.get(i)?.1)))), 0)
        });
        let edge = |at: Option<&(String, usize)>, repaired: &Repaired| {
            if at.is_some_and(|(rate, _)| *rate == repaired.rate) { 100.0 } else { 0.0 }
        };
        let cells = [
            if rule == "all" { "—".to_owned() } else { shown(mean(&right), 0) },
            with_interval(&lefts.iter().map(|(_, left)| *left).collect::<Vec<_>>())?,
            if rule == "random" { "0".to_owned() } else { with_interval(&differences)? },
            ps.get(rule.as_str()).map_or_else(|| "—".to_owned(), |p| format!("{p:.1e}")),
            shown(kl.map(|(repaired, mutant)| repaired / mutant), 2),
            shown(mean(&values(&|placed, repaired| Some(repaired.perplexity? / placed.perplexity[0]))), 2),
            mean(&cosines).map_or_else(|| "—".to_owned(), |mean| format!("{mean:.2} ({})", cosines.len())),
            by(&|placed, repaired| left(placed, repaired.n_failed_rounded), 0),
            relearned.collect::<Vec<_>>().join(", "),
            format!(
                "{}, {}",
                by(&|_, repaired| edge(repaired.n_failed_validation.first(), repaired), 0),
                by(&|_, repaired| edge(repaired.n_failed_validation.last(), repaired), 0)
            ),
        ];
        writeln!(text, "| {rule} | {} | {} |", lefts.len(), cells.join(" | "))?;
    }
    text += &beyond_depth(&left_by("oracle"), &left_by("near"))?;
    Ok(text + "\n")
}

/// How much less a repair of the faulty unit leaves than repairs near it, by mutant.
fn beyond_depth(oracle: &[(usize, f64)], near: &[(usize, f64)]) -> Result<String> {
    let near: BTreeMap<usize, f64> = near.iter().copied().collect();
    let (own, near): (Vec<f64>, Vec<f64>) = oracle.iter().filter_map(|(i, own)| Some((*own, *near.get(i)?))).unzip();
    if own.is_empty() {
        return Ok(String::new());
    }
    let less: Vec<f64> = own.iter().zip(&near).map(|(own, near)| near - own).collect();
    Ok(format!(
        "\nIn the faulty unit {} less is left than near it ({} mutants, p {:.1e} alone).\n",
        with_interval(&less)?,
        own.len(),
        signed_rank_p(&own, &near)?
    ))
}

fn with_interval(values: &[f64]) -> Result<String> {
    if values.is_empty() {
        return Ok("—".to_owned());
    }
    let found = bootstrap_mean(values, &Bootstrap::new(0))?;
    Ok(shown_within(found.value, found.interval, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(n_failed: usize) -> Repaired {
        Repaired {
            n_failed_validation: ["3e-4", "1e-3"].map(|rate| (rate.to_owned(), 3)).into(),
            rate: if n_failed < 20 { "3e-4" } else { "1e-3" }.to_owned(),
            n_failed,
            kl: Some(n_failed as f64 / 100.0),
            perplexity: Some(3.0),
            cosine: (n_failed != 30).then_some(0.25),
            n_failed_rounded: n_failed + 1,
            n_failed_relearned: vec![(10, n_failed + 10), (40, n_failed + 20)],
            seconds: 1.0,
        }
    }

    fn placed(seed: usize, oracle: usize, random: usize) -> Placed {
        let unit = |text: &str| text.parse().unwrap();
        let choices = [("oracle", "3"), ("grad-l2", "3"), ("density", "3"), ("reverse", "7")];
        Placed {
            schema: irepair_report::SCHEMA,
            identity: String::new(),
            mutant: format!("gpt2-noise-block-{seed}"),
            of: String::new(),
            unit: UnitKind::Block,
            place: unit("3"),
            n_prompts: 300,
            n_failed: 50,
            kl: 0.5,
            perplexity: [2.5, 3.5],
            n_failed_rounded: [2, 51],
            n_failed_taught: vec![(10, 5), (40, 15)],
            n_pairs: 64,
            choices: choices.map(|(rule, place)| (rule.to_owned(), unit(place))).into(),
            random: vec![unit("3"), unit("7")],
            repairs: BTreeMap::from([
                ("3".to_owned(), Some(repaired(oracle))),
                ("7".to_owned(), Some(repaired(random))),
                ("all".to_owned(), Some(repaired(20))),
            ]),
        }
    }

    #[test]
    fn rules_are_compared_with_a_random_place_mutant_by_mutant() {
        let mutants = [placed(0, 5, 30), placed(1, 10, 25), placed(2, 20, 20)];
        insta::assert_snapshot!(markdown(&mutants, 4, "cargo xtask place").unwrap());
    }

    #[test]
    fn a_place_where_no_step_stayed_finite_has_no_number() {
        let mut mutants = [placed(0, 5, 30), placed(1, 10, 25), placed(2, 20, 20)];
        mutants[0].repairs.insert("3".to_owned(), None);
        if let Some(Some(repaired)) = mutants[1].repairs.get_mut("3") {
            (repaired.kl, repaired.perplexity) = (None, None);
        }
        let table = markdown(&mutants, 0, "cargo xtask place").unwrap();
        let cells = |rule: &str| {
            let row = table.lines().find(|line| line.starts_with(&format!("| {rule} |"))).unwrap();
            row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(cells("oracle")[2], "2", "mutants");
        assert_eq!((&*cells("oracle")[7], &*cells("oracle")[8]), ("0.40", "1.20"), "of the one mutant that has them");
        assert_eq!(cells("all")[2], "3");
    }
}
