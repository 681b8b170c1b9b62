//! Grades of all mutants as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use irepair_config::{Operator, UnitKind};
use irepair_stats::{
    Bootstrap, Error as StatsError, Localisation, bootstrap_mean, holm, mean, median, wilcoxon, wilson,
};

use super::agreement::agreement;
use super::mutant::{CAP, Grade, Graded, MARGIN, OTHER_SEEDS, Outcome, STABLE, Spread};
use super::oracle::DECISIVE;

/// Scores of a locator on some mutants, next to those of a random ranking.
pub(super) struct Scores {
    /// By score of [`Localisation::named`]: one value a mutant.
    pub(super) found: [Vec<f64>; 5],
    pub(super) chance: [Vec<f64>; 5],
    /// The mean rank of the faulty units, and that of a random ranking.
    ranks: [Vec<f64>; 2],
    seconds: Vec<f64>,
}

impl Scores {
    pub(super) fn of<'a>(mutants: impl Iterator<Item = (&'a Graded, &'a Grade)>) -> Result<Self> {
        let mut scores = Self {
            found: Default::default(),
            chance: Default::default(),
            ranks: Default::default(),
            seconds: Vec::new(),
        };
        for (mutant, grade) in mutants {
            let found = Localisation::of_ranks(mutant.n_units, &grade.ranks)?.named();
            let chance = Localisation::of_chance(mutant.n_units, grade.ranks.len())?.named();
            for i in 0..5 {
                scores.found[i].push(found[i].1);
                scores.chance[i].push(chance[i].1);
            }
            let ranks: Vec<f64> = grade.ranks.iter().map(|rank| *rank as f64).collect();
            scores.ranks[0].push(mean(&ranks).context("a fault without a rank")?);
            scores.ranks[1].push((mutant.n_units as f64 + 1.0) / 2.0);
            scores.seconds.extend(grade.seconds);
        }
        Ok(scores)
    }

    fn n(&self) -> usize {
        self.found[0].len()
    }

    /// p that the faulty units rank as in a random ranking, by the signed-rank test over mutants. Mean ranks are
    /// symmetric about that of a random ranking, as the test wants; average precision is not.
    fn p(&self) -> Result<f64> {
        signed_rank_p(&self.ranks[0], &self.ranks[1])
    }
}

/// p of the signed-rank test; 1 where no pair differs.
///
/// # Errors
/// Numbers that are not finite.
pub(super) fn signed_rank_p(a: &[f64], b: &[f64]) -> Result<f64> {
    match wilcoxon(a, b) {
        Ok(test) => Ok(test.p),
        Err(StatsError::NoDifference) => Ok(1.0),
        Err(error) => Err(error.into()),
    }
}

/// A number with so many digits, or a dash for none.
pub(super) fn shown(value: Option<f64>, n_digits: usize) -> String {
    value.map_or_else(|| "—".to_owned(), |value| format!("{value:.n_digits$}"))
}

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
}

/// How planting ended, by operator and kind of unit.
fn outcomes(mutants: &[Graded]) -> Result<String> {
    let mut by: BTreeMap<(UnitKind, Operator, Spread), Ended> = BTreeMap::new();
    for mutant in mutants {
        let Some(operator) = mutant.operator else { continue };
        let ended = by.entry((mutant.unit, operator, mutant.spread)).or_default();
        ended.by_outcome[mutant.outcome as usize] += 1;
        if mutant.outcome == Outcome::Killed {
            ended.planted_again += usize::from(mutant.again.is_some());
            ended.unstable += usize::from(!mutant.is_stable());
        }
    }
    let mut text = format!(
        "## Mutants\n\nUnstable: killed, but with one of {} other seeds, at the same place and strength, it fails less than {:.0} % of the prompts; \
         left out of what follows. Operators that draw nothing plant the same fault with every seed.\n\n\
         | unit | operator | faults in | killed | of them unstable | survived every strength | broke the model |\n|---|---|---|---|---|---|---|\n",
        OTHER_SEEDS.len(),
        100.0 * STABLE * MARGIN
    );
    for ((unit, operator, spread), Ended { by_outcome: [killed, survived, broken], planted_again, unstable }) in by {
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
        writeln!(text, "| {unit} | {operator} | {place} | {killed} | {unstable} | {survived} | {broken} |")?;
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
    let ps = if ps.is_empty() { ps } else { holm(&ps)? };
    let n_units: Vec<String> = {
        let mut all: Vec<usize> = mutants.iter().map(|mutant| mutant.n_units).collect();
        all.sort_unstable();
        all.dedup();
        all.iter().map(ToString::to_string).collect()
    };
    let mut text = format!(
        "{heading}, {} of them\n\nMeans over mutants; intervals of 95 % resample mutants; p by Holm over the locators: that the \
         faulty units rank as in a random ranking (signed-rank test of their mean ranks), *worse* where they rank later.\n\n| locator \
         | mutants | first unit is faulty | recall | MRR | average precision | EXAM ↓ | p | seconds |\n|---|---|---|---|---|---|---|---|---|\n",
        n_units.join(" or ")
    );
    for ((locator, scores), p) in rows.iter().zip(ps) {
        write!(text, "| {locator} | {} |", scores.n())?;
        for values in &scores.found {
            let found = bootstrap_mean(values, &Bootstrap::new(0))?;
            match found.interval {
                Some(at) => write!(text, " {:.2} [{:.2}, {:.2}] |", found.value, at.low, at.high)?,
                None => write!(text, " {:.2} |", found.value)?,
            }
        }
        let side = if mean(&scores.ranks[0]) > mean(&scores.ranks[1]) { " worse" } else { "" };
        writeln!(text, " {p:.2e}{side} | {} |", shown(mean(&scores.seconds), 1))?;
    }
    if let Some((_, scores)) = rows.first() {
        let chance: Vec<String> = scores.chance.iter().map(|values| shown(mean(values), 2)).collect();
        writeln!(text, "| a random ranking, exactly | {} | {} | | |", scores.n(), chance.join(" | "))?;
    }
    Ok(text + "\n")
}

/// Average precision by operator.
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
    for locator in locators {
        let mut cells = Vec::new();
        for operator in &operators {
            let of: Vec<&Graded> =
                mutants.iter().filter(|mutant| mutant.operator == Some(*operator)).copied().collect();
            let scores = Scores::of(of_locator(&of, locator))?;
            cells.push((scores.n() > 0).then(|| shown(mean(&scores.found[3]), 2)));
        }
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "—".to_owned())).collect();
            writeln!(text, "| {locator} | {} |", cells.join(" | "))?;
        }
    }
    Ok(text + "\n")
}

/// How far the first unit of a ranking stands out where a fault was planted in one place, and how often it does so
/// where none was, and where it was planted everywhere.
fn false_alarms(kind: UnitKind, [one, healthy, all]: [&[&Graded]; 3], locators: &[String]) -> Result<String> {
    let mut text = format!(
        "## False alarms, units of kind {kind}\n\nThe first unit's score, in standard deviations of all scores above their mean: \
         half of the mutants with a fault in one place are at or above the second column. The third counts the measurements of the \
         model without a fault, on samples of its own that differ from its greedy answers, that are at or above it too; the fourth \
         the mutants whose fault is in every unit, so that no unit should stand out.\n\n| locator | median on mutants | without \
         a fault, at or above it | distributed fault, at or above it |\n|---|---|---|---|\n"
    );
    for locator in locators {
        let outliers = |of: &[&Graded]| of_locator(of, locator).map(|(_, grade)| grade.outlier).collect::<Vec<_>>();
        let Some(median) = median(&outliers(one)) else { continue };
        let [without, everywhere] = [share_above(&outliers(healthy), median)?, share_above(&outliers(all), median)?];
        writeln!(text, "| {locator} | {median:.1} | {without} | {everywhere} |")?;
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

/// The mutants that a locator ranked, with its grades.
pub(super) fn of_locator<'a>(mutants: &[&'a Graded], locator: &str) -> impl Iterator<Item = (&'a Graded, &'a Grade)> {
    mutants
        .iter()
        .filter_map(|mutant| Some((*mutant, mutant.grades.get(locator)?.as_ref()?)))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use irepair_config::Metric;

    use super::*;

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
