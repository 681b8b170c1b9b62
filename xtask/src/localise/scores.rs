//! Scores of locators on mutants, and what chance and the best locator would have.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use irepair_stats::{
    Bootstrap, Error as StatsError, Interval, Localisation, bootstrap_mean, holm, mean, wilcoxon, wilson,
};

use super::graded::{Grade, Graded};

/// Scores of a locator on some mutants, next to those of a random ranking.
pub(super) struct Scores {
    /// By score of [`Localisation::named`]: one value a mutant.
    pub(super) found: [Vec<f64>; 5],
    pub(super) chance: [Vec<f64>; 5],
    /// The mean rank of the faulty units, and that of a random ranking.
    pub(super) ranks: [Vec<f64>; 2],
    pub(super) seconds: Vec<f64>,
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

    pub(super) fn n(&self) -> usize {
        self.found[0].len()
    }

    /// p that the faulty units rank as in a random ranking, by the signed-rank test over mutants. Mean ranks are
    /// symmetric about that of a random ranking, as the test wants; average precision is not.
    pub(super) fn p(&self) -> Result<f64> {
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

/// p of several tests by Holm; none of none.
///
/// # Errors
/// Numbers that are no p.
pub(super) fn corrected(ps: Vec<f64>) -> Result<Vec<f64>> {
    if ps.is_empty() { Ok(ps) } else { Ok(holm(&ps)?) }
}

/// A number with so many digits, or a dash for none.
pub(super) fn shown(value: Option<f64>, n_digits: usize) -> String {
    value.map_or_else(|| "—".to_owned(), |value| format!("{value:.n_digits$}"))
}

/// A mean with its interval: Wilson's where every value is 0 or 1 by nature, else the bootstrap's, and none where all
/// values are equal, of which every resample is the same.
pub(super) fn with_interval(values: &[f64], is_share: bool) -> Result<String> {
    let (value, n) = (mean(values).context("a mean of nothing")?, values.len());
    let at = match values.iter().any(|other| *other != values[0]) {
        _ if is_share => Some(wilson((value * n as f64).round() as usize, n)?),
        true => bootstrap_mean(values, &Bootstrap::new(0))?.interval,
        false => None,
    };
    Ok(shown_within(value, at, 2))
}

/// A number with its interval, where it has one, each with so many digits.
pub(super) fn shown_within(value: f64, at: Option<Interval>, n_digits: usize) -> String {
    match at {
        Some(Interval { low, high }) => format!("{value:.n_digits$} [{low:.n_digits$}, {high:.n_digits$}]"),
        None => format!("{value:.n_digits$}"),
    }
}

/// p of every locator but that of the largest average precision: that both rank the faulty units alike, of the mutants
/// that both ranked. By Holm over all pairs of locators, as METHOD §16 has it: which one is first is seen in the same
/// numbers.
pub(super) fn against_first<'a>(
    mutants: &[&Graded],
    rows: &[(&'a String, Scores)],
) -> Result<BTreeMap<&'a String, f64>> {
    let mut first: Option<(&String, Option<f64>)> = None;
    for (locator, scores) in rows {
        let precision = mean(&scores.found[3]);
        if first.is_none_or(|(_, most)| precision > most) {
            first = Some((locator, precision));
        }
    }
    let Some((first, _)) = first else { return Ok(BTreeMap::new()) };
    let rank = |mutant: &Graded, locator: &String| {
        let ranks = mutant.grades.get(locator)?.as_ref()?.ranks.iter().map(|rank| *rank as f64);
        mean(&ranks.collect::<Vec<_>>())
    };
    let names: Vec<&'a String> = rows.iter().map(|(locator, _)| *locator).collect();
    let pairs = names.iter().enumerate().flat_map(|(i, one)| names[..i].iter().map(|other| (*one, *other)));
    let pairs: Vec<(&String, &String)> = pairs.collect();
    let p = |(one, other): &(&String, &String)| {
        let both = mutants.iter().filter_map(|mutant| Some((rank(mutant, one)?, rank(mutant, other)?)));
        let (one, other): (Vec<f64>, Vec<f64>) = both.unzip();
        signed_rank_p(&one, &other)
    };
    let ps = corrected(pairs.iter().map(p).collect::<Result<Vec<_>>>()?)?;
    let with_first = pairs.into_iter().zip(ps).filter(|((one, other), _)| [one, other].contains(&&first));
    Ok(with_first.map(|((one, other), p)| (if one == first { other } else { one }, p)).collect())
}

/// The mutants that a locator ranked, with its grades.
pub(super) fn of_locator<'a>(mutants: &[&'a Graded], locator: &str) -> impl Iterator<Item = (&'a Graded, &'a Grade)> {
    mutants
        .iter()
        .filter_map(|mutant| Some((*mutant, mutant.grades.get(locator)?.as_ref()?)))
        .collect::<Vec<_>>()
        .into_iter()
}
