//! Grades of all mutants as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::{Metric, Operator, UnitKind};
use irepair_stats::{Bootstrap, Error as StatsError, Localisation, bootstrap_mean, holm, wilcoxon, wilson};

use super::mutant::{CAP, DECISIVE, Grade, Graded, MARGIN, Outcome};

/// Scores of a locator on some mutants, next to those of a random ranking.
struct Scores {
    /// By score of [`Localisation::named`]: one value a mutant.
    found: [Vec<f64>; 5],
    chance: [Vec<f64>; 5],
    seconds: Vec<f64>,
}

impl Scores {
    fn of<'a>(mutants: impl Iterator<Item = (&'a Graded, &'a Grade)>) -> Result<Self> {
        let mut scores = Self { found: Default::default(), chance: Default::default(), seconds: Vec::new() };
        for (mutant, grade) in mutants {
            let found = Localisation::of_ranks(mutant.n_units, &grade.ranks)?.named();
            let chance = Localisation::of_chance(mutant.n_units, grade.ranks.len())?.named();
            for i in 0..5 {
                scores.found[i].push(found[i].1);
                scores.chance[i].push(chance[i].1);
            }
            scores.seconds.push(grade.seconds);
        }
        Ok(scores)
    }

    fn n(&self) -> usize {
        self.seconds.len()
    }

    /// p that average precision is that of a random ranking, by the signed-rank test over mutants.
    fn p(&self) -> Result<f64> {
        match wilcoxon(&self.found[3], &self.chance[3]) {
            Ok(test) => Ok(test.p),
            Err(StatsError::NoDifference) => Ok(1.0),
            Err(error) => Err(error.into()),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The tables, as Markdown.
///
/// # Errors
/// Grades that are no ranks.
pub(super) fn markdown(mutants: &[Graded], metrics: &[Metric]) -> Result<String> {
    let mut text = "# Where is the fault? Locators on planted faults\n\nMade by `cargo xtask localise`.\n\n".to_owned();
    write!(
        text,
        "A fault is planted in one place of a base model, as weakly as makes it fail {:.0} % of the prompts: its greedy answer differs \
         from the base model's, and each of the two gives its own answer at least {:.1} times the probability that it gives the other's. A mutant \
         whose perplexity on neutral text is over {CAP} times the base model's is left out. A locator sees up to 64 prompts \
         that the mutant fails, with both answers, and neutral text, and ranks the units of the kind that holds the fault.\n\n",
        100.0 * MARGIN,
        DECISIVE.exp()
    )?;
    text += &outcomes(mutants)?;
    for kind in UnitKind::ALL {
        let of_kind: Vec<&Graded> = mutants
            .iter()
            .filter(|m| m.unit == *kind && m.operator.is_some() && m.outcome == Outcome::Killed)
            .collect();
        if !of_kind.is_empty() {
            text += &by_locator(*kind, &of_kind, metrics)?;
            text += &by_operator(&of_kind, metrics)?;
            let healthy: Vec<&Graded> = mutants.iter().filter(|m| m.unit == *kind && m.operator.is_none()).collect();
            text += &false_alarms(&of_kind, &healthy, metrics)?;
        }
    }
    Ok(text)
}

/// How planting ended, by operator and kind of unit.
fn outcomes(mutants: &[Graded]) -> Result<String> {
    let mut by: BTreeMap<(UnitKind, Operator), [usize; 3]> = BTreeMap::new();
    for mutant in mutants {
        let Some(operator) = mutant.operator else { continue };
        by.entry((mutant.unit, operator)).or_default()[mutant.outcome as usize] += 1;
    }
    let mut text = "## Mutants\n\n| unit | operator | killed | survived every strength | broke the model |\n|---|---|---|---|---|\n".to_owned();
    for ((unit, operator), [killed, survived, broken]) in by {
        writeln!(text, "| {unit} | {operator} | {killed} | {survived} | {broken} |")?;
    }
    Ok(text + "\n")
}

/// The scores of every locator on units of one kind.
fn by_locator(kind: UnitKind, mutants: &[&Graded], metrics: &[Metric]) -> Result<String> {
    let mut rows = Vec::new();
    for metric in metrics {
        let scores = Scores::of(of_metric(mutants, *metric))?;
        if scores.n() > 0 {
            rows.push((*metric, scores));
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
        "## Units of kind {kind}, {} of them\n\nMeans over {} mutants; intervals of 95 % resample mutants; p by Holm over the \
         locators: that average precision is that of a random ranking.\n\n| locator | first unit is faulty | recall | MRR | average \
         precision | EXAM ↓ | p | seconds |\n|---|---|---|---|---|---|---|---|\n",
        n_units.join(" or "),
        mutants.len()
    );
    for ((metric, scores), p) in rows.iter().zip(ps) {
        write!(text, "| {metric} |")?;
        for values in &scores.found {
            let found = bootstrap_mean(values, &Bootstrap::new(0))?;
            match found.interval {
                Some(at) => write!(text, " {:.2} [{:.2}, {:.2}] |", found.value, at.low, at.high)?,
                None => write!(text, " {:.2} |", found.value)?,
            }
        }
        writeln!(text, " {p:.2e} | {:.1} |", mean(&scores.seconds))?;
    }
    if let Some((_, scores)) = rows.first() {
        let chance: Vec<String> = scores.chance.iter().map(|values| format!("{:.2}", mean(values))).collect();
        writeln!(text, "| a random ranking, exactly | {} | | |", chance.join(" | "))?;
    }
    Ok(text + "\n")
}

/// Average precision by operator.
fn by_operator(mutants: &[&Graded], metrics: &[Metric]) -> Result<String> {
    let mut operators: Vec<Operator> = mutants.iter().filter_map(|mutant| mutant.operator).collect();
    operators.sort_unstable();
    operators.dedup();
    let names: Vec<&str> = operators.iter().map(|operator| operator.name()).collect();
    let mut text = format!(
        "Average precision by operator:\n\n| locator | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for metric in metrics {
        let mut cells = Vec::new();
        for operator in &operators {
            let of: Vec<&Graded> =
                mutants.iter().filter(|mutant| mutant.operator == Some(*operator)).copied().collect();
            let scores = Scores::of(of_metric(&of, *metric))?;
            cells.push((scores.n() > 0).then(|| format!("{:.2}", mean(&scores.found[3]))));
        }
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "—".to_owned())).collect();
            writeln!(text, "| {metric} | {} |", cells.join(" | "))?;
        }
    }
    Ok(text + "\n")
}

/// How far the first unit of a ranking stands out where a fault was planted, and how often it does so where none was.
fn false_alarms(mutants: &[&Graded], healthy: &[&Graded], metrics: &[Metric]) -> Result<String> {
    let mut text = "False alarms. The first unit's score, in standard deviations of all scores above their mean: half of the \
                    mutants are above the second column. The third counts the measurements of the model without a fault, on \
                    samples of its own that differ from its greedy answers, that are above it too.\n\n| locator | median on \
                    mutants | without a fault, above it |\n|---|---|---|\n"
        .to_owned();
    for metric in metrics {
        let outliers = |of: &[&Graded]| of_metric(of, *metric).map(|(_, grade)| grade.outlier).collect::<Vec<_>>();
        let (mut found, without) = (outliers(mutants), outliers(healthy));
        if found.is_empty() || without.is_empty() {
            continue;
        }
        found.sort_by(f64::total_cmp);
        let median = found[found.len() / 2];
        let n_above = without.iter().filter(|outlier| **outlier >= median).count();
        let at = wilson(n_above, without.len())?;
        writeln!(
            text,
            "| {metric} | {median:.1} | {n_above} of {}, {:.0} % [{:.0}, {:.0}] |",
            without.len(),
            100.0 * n_above as f64 / without.len() as f64,
            100.0 * at.low,
            100.0 * at.high
        )?;
    }
    Ok(text + "\n")
}

/// The mutants that a locator ranked, with its grades.
fn of_metric<'a>(mutants: &[&'a Graded], metric: Metric) -> impl Iterator<Item = (&'a Graded, &'a Grade)> {
    mutants
        .iter()
        .filter_map(move |mutant| Some((*mutant, mutant.grades.get(&metric)?.as_ref()?)))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graded(seed: u32, outcome: Outcome, ranks: &[(Metric, Option<usize>)]) -> Graded {
        let grade = |rank: usize| Grade {
            ranks: vec![rank],
            first: vec!["3".parse().unwrap()],
            last: "0".parse().unwrap(),
            outlier: 1.0 / rank as f64,
            seconds: 0.5,
        };
        Graded {
            schema: irepair_report::SCHEMA,
            identity: String::new(),
            model: "gpt2".to_owned(),
            operator: Some(Operator::Noise),
            unit: UnitKind::Block,
            seed,
            place: "3".to_owned(),
            strength: Some(0.5),
            outcome,
            n_failed: 40,
            n_prompts: 300,
            perplexity: (2.5, Some(2.75)),
            n_units: 12,
            grades: ranks.iter().map(|(metric, rank)| (*metric, rank.map(grade))).collect(),
        }
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
            Graded { operator: None, ..graded(0, Outcome::Killed, &found(1, 12)) },
        ];
        insta::assert_snapshot!(markdown(&mutants, &[Metric::GradL2, Metric::Atp, Metric::Random]).unwrap());
    }
}
