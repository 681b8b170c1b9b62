//! Grades of all mutants as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::{Operator, UnitKind};
use irepair_stats::{a12, mean, median, wilson};

use super::agreement::agreement;
use super::graded::{CAP, Graded, MARGIN, OTHER_SEEDS, Outcome, STABLE};
use super::mutant::Spread;
use super::oracle::DECISIVE;
use super::scores::{Scores, against_first, corrected, of_locator, shown, with_interval};

/// The tables, as Markdown.
///
/// # Errors
/// Grades that are no ranks.
pub(super) fn markdown(mutants: &[Graded], locators: &[String], (command, n_pairs): (&str, u32)) -> Result<String> {
    let mut text = format!("# Where is the fault? Locators on planted faults\n\nMade by `{command}`.\n\n");
    write!(
        text,
        "A fault is planted in one place of a base model, in two, or in every unit, as weakly as makes it fail {:.0} % of the prompts: \
         its greedy answer differs from the base model's, and each of the two gives its own answer at least {:.1} times the \
         probability that it gives the other's. A mutant whose perplexity on neutral text is over {CAP} times the base model's is \
         left out. A locator sees the first {n_pairs} prompts that the mutant fails, with both answers, and neutral text, and ranks the units \
         of the kind that holds the fault.\n\n",
        100.0 * MARGIN,
        DECISIVE.exp()
    )?;
    text += &outcomes(mutants)?;
    for kind in UnitKind::ALL {
        let killed = |spread: Spread| -> Vec<&Graded> {
            let of_kind = mutants.iter().filter(|m| m.unit == *kind && m.spread == spread);
            of_kind.filter(|m| m.operator.is_some() && m.is_ranked()).collect()
        };
        let (one, two, all) = (killed(Spread::One), killed(Spread::Two), killed(Spread::All));
        if !one.is_empty() {
            text += &by_locator(&format!("## Units of kind {kind}"), &one, locators)?;
            text += &by_operator(&one, locators)?;
        }
        if !two.is_empty() {
            text += &by_locator(&format!("## Two faults at once, in units of kind {kind}"), &two, locators)?;
            text += &by_operator(&two, locators)?;
        }
        if !one.is_empty() {
            let healthy: Vec<&Graded> = mutants.iter().filter(|m| m.unit == *kind && m.operator.is_none()).collect();
            text += &false_alarms(*kind, [&one, &healthy, &all], locators)?;
            text += &agreement(*kind, [&one, &healthy], locators)?;
        }
    }
    Ok(text)
}

/// How mutants of one sort ended.
#[derive(Default)]
struct Ended {
    /// Killed, survived and broken ones.
    by_outcome: [usize; 3],
    /// Killed ones that were planted with other seeds too, and those of them that these do not kill.
    planted_again: usize,
    unstable: usize,
    /// Where killed and broken ones hold their faults.
    places: [Vec<String>; 2],
}

/// How planting ended, by operator and kind of unit.
fn outcomes(mutants: &[Graded]) -> Result<String> {
    let mut by: BTreeMap<(UnitKind, Operator, Spread), Ended> = BTreeMap::new();
    for mutant in mutants {
        let Some(operator) = mutant.operator else { continue };
        let ended = by.entry((mutant.unit, operator, mutant.spread)).or_default();
        ended.by_outcome[mutant.outcome as usize] += 1;
        let place = if mutant.spread == Spread::All { "all".to_owned() } else { mutant.place.clone() };
        match mutant.outcome {
            Outcome::Killed => ended.places[0].push(place),
            Outcome::Broken => ended.places[1].push(place),
            Outcome::Survived => {}
        }
        if mutant.outcome == Outcome::Killed {
            ended.planted_again += usize::from(mutant.again.is_some());
            ended.unstable += usize::from(!mutant.is_stable());
        }
    }
    let mut text = format!(
        "## Mutants\n\nUnstable: killed, but with one of {} other seeds, at the same place and strength, it fails less than {:.0} % of the prompts; \
         left out of what follows. Operators that draw nothing plant the same fault with every seed.\n\n\
         | unit | operator | faults in | killed | of them unstable | survived every strength | broke the model | killed at | broke at |\n|---|---|---|---|---|---|---|---|---|\n",
        OTHER_SEEDS.len(),
        100.0 * STABLE * MARGIN
    );
    for ((unit, operator, spread), ended) in by {
        let Ended { by_outcome: [killed, survived, broken], planted_again, unstable, places } = ended;
        let places = places.map(|places| places.join(" · ")).join(" | ");
        let place = match spread {
            Spread::One => "one place",
            Spread::Two => "two blocks",
            Spread::All => "every unit",
        };
        let unstable = match operator.draws() {
            true if planted_again == 0 && killed > 0 => "not measured".to_owned(),
            true if planted_again < killed => format!("{unstable} of {planted_again}"),
            true => unstable.to_string(),
            false => String::new(),
        };
        writeln!(text, "| {unit} | {operator} | {place} | {killed} | {unstable} | {survived} | {broken} | {places} |")?;
    }
    Ok(text + "\n")
}

/// The scores of every locator on units of one kind, under a heading.
fn by_locator(heading: &str, mutants: &[&Graded], locators: &[String]) -> Result<String> {
    let mut rows = Vec::new();
    for locator in locators {
        let scores = Scores::of(of_locator(mutants, locator))?;
        if scores.n() > 0 {
            rows.push((locator, scores));
        }
    }
    let ps = rows.iter().map(|(_, scores)| scores.p()).collect::<Result<Vec<_>>>()?;
    let (ps, against) = (corrected(ps)?, against_first(mutants, &rows)?);
    let n_units: Vec<String> = {
        let mut all: Vec<usize> = mutants.iter().map(|mutant| mutant.n_units).collect();
        all.sort_unstable();
        all.dedup();
        all.iter().map(ToString::to_string).collect()
    };
    let mut text = format!(
        "{heading}, {} of them\n\nMeans over mutants. Intervals of 95 % resample mutants, that of the first unit is Wilson's; none where \
         all values are equal. p by Holm, of signed-rank tests of the faulty units' mean ranks: that they rank as in a random \
         ranking, *worse* where they rank later (over the locators); and that they rank as by the locator of the largest average precision (the first), mutant by mutant (over all pairs of locators).\n\n| locator \
         | mutants | first unit is faulty | recall | MRR | average precision | EXAM ↓ | p, random | p, the first | seconds |\n|---|---|---|---|---|---|---|---|---|---|\n",
        n_units.join(" or ")
    );
    for ((locator, scores), p) in rows.iter().zip(ps) {
        write!(text, "| {locator} | {} |", scores.n())?;
        for (i, values) in scores.found.iter().enumerate() {
            write!(text, " {} |", with_interval(values, i == 0)?)?;
        }
        let side = if mean(&scores.ranks[0]) > mean(&scores.ranks[1]) { " worse" } else { "" };
        let less = against.get(locator).map_or_else(|| "the first".to_owned(), |p| format!("{p:.2e}"));
        writeln!(text, " {p:.2e}{side} | {less} | {} |", shown(mean(&scores.seconds), 1))?;
    }
    if let Some((_, scores)) = rows.iter().max_by_key(|(_, scores)| scores.n()) {
        let chance: Vec<String> = scores.chance.iter().map(|values| shown(mean(values), 2)).collect();
        writeln!(text, "| a random ranking, exactly | {} | {} | | | |", scores.n(), chance.join(" | "))?;
    }
    let not_finite = locators.iter().filter_map(|locator| {
        let n = mutants.iter().filter(|m| m.grades.get(locator) == Some(&None)).count();
        (n > 0).then(|| format!("{locator} of {n} mutants"))
    });
    let not_finite: Vec<String> = not_finite.collect();
    if !not_finite.is_empty() {
        writeln!(text, "\nScores that are not finite, so that there is no ranking: {}.", not_finite.join(", "))?;
    }
    Ok(text + "\n")
}

/// Scores by operator: average precision next to one another, and all in rows.
fn by_operator(mutants: &[&Graded], locators: &[String]) -> Result<String> {
    let mut operators: Vec<Operator> = mutants.iter().filter_map(|mutant| mutant.operator).collect();
    operators.sort_unstable();
    operators.dedup();
    let names: Vec<&str> = operators.iter().map(|operator| operator.name()).collect();
    let mut text = format!(
        "Average precision by operator:\n\n| locator | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    // By operator, then by locator.
    let mut scores: Vec<Vec<Scores>> = Vec::new();
    for operator in &operators {
        let of: Vec<&Graded> = mutants.iter().filter(|mutant| mutant.operator == Some(*operator)).copied().collect();
        scores.push(locators.iter().map(|locator| Scores::of(of_locator(&of, locator))).collect::<Result<_>>()?);
    }
    let cell = |scores: &Scores| (scores.n() > 0).then(|| shown(mean(&scores.found[3]), 2));
    for (i, locator) in locators.iter().enumerate() {
        let cells: Vec<Option<String>> = scores.iter().map(|of_operator| cell(&of_operator[i])).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "—".to_owned())).collect();
            writeln!(text, "| {locator} | {} |", cells.join(" | "))?;
        }
    }
    text += "\nAll scores by operator:\n\n| operator | locator | mutants | first unit is faulty | recall | MRR | average precision | EXAM ↓ |\n|---|---|---|---|---|---|---|---|\n";
    for (operator, of_operator) in operators.iter().zip(&scores) {
        for (locator, scores) in locators.iter().zip(of_operator).filter(|(_, scores)| scores.n() > 0) {
            let cells: Vec<String> = scores.found.iter().map(|values| shown(mean(values), 2)).collect();
            writeln!(text, "| {operator} | {locator} | {} | {} |", scores.n(), cells.join(" | "))?;
        }
    }
    Ok(text + "\n")
}

/// How far the first unit of a ranking stands out where a fault was planted in one place, and how often it does so
/// where none was, and where it was planted everywhere.
fn false_alarms(kind: UnitKind, [one, healthy, all]: [&[&Graded]; 3], locators: &[String]) -> Result<String> {
    let mut text = format!(
        "## False alarms, units of kind {kind}\n\nThe first unit's score, in standard deviations of all scores above their mean \
         (at most the root of one less than there are units). AUC: how often it is larger on a mutant with a fault in one place than on the \
         model without a fault, measured on samples of its own that differ from its greedy answers (0.5: the score does not say whether there is a fault). The next \
         columns count the measurements without a fault that are at or above what half of those mutants reach, and what nine in ten of them reach; the last \
         the mutants whose fault is in every unit, so that no unit should stand out, at or above the median.\n\n| locator | median on mutants | AUC | without \
         a fault, at or above it | at or above nine in ten | distributed fault, at or above the median |\n|---|---|---|---|---|---|\n"
    );
    for locator in locators {
        let outliers = |of: &[&Graded]| of_locator(of, locator).map(|(_, grade)| grade.outlier).collect::<Vec<_>>();
        let (mut faulty, healthy) = (outliers(one), outliers(healthy));
        let Some(median) = median(&faulty) else { continue };
        faulty.sort_by(f64::total_cmp);
        // As many as nine in ten are at or above it.
        let most = faulty[faulty.len() / 10];
        let auc = if healthy.is_empty() { "—".to_owned() } else { format!("{:.2}", a12(&healthy, &faulty)?) };
        let [without, at_most, everywhere] =
            [(&healthy, median), (&healthy, most), (&outliers(all), median)].map(|(of, bound)| share_above(of, bound));
        writeln!(text, "| {locator} | {median:.1} | {auc} | {} | {} | {} |", without?, at_most?, everywhere?)?;
    }
    Ok(text + "\n")
}

/// How many values are at least `bound`, with Wilson's interval of their share.
fn share_above(values: &[f64], bound: f64) -> Result<String> {
    if values.is_empty() {
        return Ok("—".to_owned());
    }
    let (n_above, n) = (values.iter().filter(|value| **value >= bound).count(), values.len());
    let at = wilson(n_above, n)?;
    let [share, low, high] = [n_above as f64 / n as f64, at.low, at.high].map(|share| 100.0 * share);
    Ok(format!("{n_above} of {n}, {share:.0} % [{low:.0}, {high:.0}]"))
}

#[cfg(test)]
mod tests {
    use irepair_config::Metric;

    use super::*;
    use crate::localise::graded::Grade;

    fn graded(seed: u32, outcome: Outcome, ranks: &[(Metric, Option<usize>)]) -> Graded {
        let grade = |rank: usize| Grade {
            ranks: vec![rank],
            first: vec!["3".parse().unwrap()],
            last: "0".parse().unwrap(),
            outlier: 1.0 / rank as f64,
            seconds: Some(0.5),
            numbers: 0,
        };
        Graded {
            schema: irepair_report::SCHEMA,
            identity: String::new(),
            model: "gpt2".to_owned(),
            operator: Some(Operator::Noise),
            spread: Spread::One,
            unit: UnitKind::Block,
            seed,
            place: "3".to_owned(),
            strength: Some(0.5),
            outcome,
            n_failed: 40,
            n_prompts: 300,
            again: Some(vec![30, 15]),
            perplexity: (2.5, Some(2.75)),
            n_units: 12,
            grades: ranks.iter().map(|(metric, rank)| (metric.to_string(), rank.map(grade))).collect(),
        }
    }

    /// A mutant with a second faulty unit, that many ranks after the first; with none, no ranks at all.
    fn spread(spread: Spread, seed: u32, ranks: &[(Metric, Option<usize>)], after: Option<usize>) -> Graded {
        let mut mutant = Graded { spread, ..graded(seed, Outcome::Killed, ranks) };
        for grade in mutant.grades.values_mut().flatten() {
            let first = grade.ranks[0];
            let second = |after: usize| vec![first.min(12 - after), first.min(12 - after) + after];
            grade.ranks = after.map_or_else(Vec::new, second);
        }
        mutant
    }

    #[test]
    fn a_table_counts_killed_mutants_and_has_no_number_for_what_was_not_ranked() {
        let found = |first, other| [(Metric::GradL2, Some(first)), (Metric::Random, Some(other)), (Metric::Atp, None)];
        let mutants = [
            graded(0, Outcome::Killed, &found(1, 6)),
            graded(1, Outcome::Killed, &found(1, 12)),
            graded(2, Outcome::Killed, &found(2, 3)),
            graded(3, Outcome::Survived, &[]),
            graded(4, Outcome::Broken, &[]),
            Graded { again: Some(vec![30, 14]), ..graded(5, Outcome::Killed, &[]) },
            Graded { operator: Some(Operator::TrainIn), ..graded(0, Outcome::Killed, &found(3, 5)) },
            Graded { operator: None, ..graded(0, Outcome::Killed, &found(1, 12)) },
            spread(Spread::Two, 0, &found(1, 6), Some(2)),
            spread(Spread::Two, 1, &found(1, 12), Some(4)),
            Graded { outcome: Outcome::Broken, ..spread(Spread::Two, 2, &[], None) },
            spread(Spread::All, 0, &found(1, 6), None),
            spread(Spread::All, 1, &found(4, 1), None),
        ];
        insta::assert_snapshot!(
            markdown(
                &mutants,
                &[Metric::GradL2, Metric::Atp, Metric::Random].map(|m| m.to_string()),
                ("cargo xtask localise", 64)
            )
            .unwrap()
        );
    }

    /// Where the place is unknown to a locator, its row says so: about one table in twenty has a p below 0.05.
    #[test]
    fn a_random_ranking_is_seldom_called_other_than_random() {
        let mut state = 1u64;
        let mut rank = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % n + 1) as usize
        };
        for n_units in [12, 48] {
            let rejected = (0..400).filter(|_| {
                let mutants: Vec<Graded> = (0..30)
                    .map(|seed| Graded {
                        n_units,
                        ..graded(seed, Outcome::Killed, &[(Metric::Random, Some(rank(n_units as u64)))])
                    })
                    .collect();
                let of: Vec<&Graded> = mutants.iter().collect();
                Scores::of(of_locator(&of, "random")).unwrap().p().unwrap() < 0.05
            });
            let n = rejected.count();
            assert!((4..=36).contains(&n), "{n} of 400 with {n_units} units");
        }
    }
}
