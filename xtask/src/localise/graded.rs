//! What became of a mutant, and how well each locator found its fault.

use std::collections::BTreeMap;

use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::Unit;
use serde::{Deserialize, Serialize};

use super::mutant::Spread;

/// A mutant is killed when it fails at least this share of the prompts.
pub(super) const MARGIN: f64 = 0.1;

/// A mutant whose perplexity on neutral text is over this many times the base model's is no fault to look for: it broke
/// the model.
pub(super) const CAP: f64 = 2.0;

/// A mutant is stable when it fails at least this share of [`MARGIN`] with every other seed that plants it again.
pub(super) const STABLE: f64 = 0.5;

/// Seeds that plant a killed mutant again, at the same place with the same strength: so much is added to its own.
pub(super) const OTHER_SEEDS: [u32; 2] = [1000, 2000];

/// How planting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// The mutant fails enough prompts, and still writes.
    Killed,
    /// No strength made it fail enough of them.
    Survived,
    /// The weakest strength that did broke the model.
    Broken,
}

/// A mutant and how well each locator found its fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Graded {
    pub(super) schema: u32,
    pub(super) identity: String,
    pub(super) model: String,
    /// None where nothing was planted.
    pub(super) operator: Option<Operator>,
    #[serde(default, skip_serializing_if = "Spread::is_one")]
    pub(super) spread: Spread,
    pub(super) unit: UnitKind,
    pub(super) seed: u32,
    /// The faulty units, as settings write them.
    pub(super) place: String,
    pub(super) strength: Option<f64>,
    pub(super) outcome: Outcome,
    /// Prompts that it fails, of how many.
    pub(super) n_failed: usize,
    pub(super) n_prompts: usize,
    /// Prompts that it fails when it is planted with each of [`OTHER_SEEDS`]; none where no seed decides the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<Vec<usize>>,
    /// On neutral text: the base model's, and the mutant's where it was measured and is finite.
    pub(super) perplexity: (f64, Option<f64>),
    pub(super) n_units: usize,
    /// By locator; nothing where its scores of this mutant are not finite.
    pub(super) grades: BTreeMap<String, Option<Grade>>,
}

impl Graded {
    /// True when it is of the base model and the prompts of another one, by the number of prompts and the perplexity of
    /// the base model, which may be `apart` as a share.
    pub(super) fn has_base_of(&self, other: &Self, apart: f64) -> bool {
        let (here, there) = (self.perplexity.0, other.perplexity.0);
        self.n_prompts == other.n_prompts && (here == there || (here / there - 1.0).abs() <= apart)
    }

    /// True when it is killed, and does not depend on the seed that planted it.
    pub(super) fn is_ranked(&self) -> bool {
        self.outcome == Outcome::Killed && self.is_stable()
    }

    /// The same without the grades of metrics whose numbers have changed since, or that rank no units of this kind:
    /// files of earlier versions say so by none.
    pub(super) fn of_today(mut self) -> Self {
        let kind = self.unit;
        self.grades.retain(|name, grade| match (name.parse::<Metric>(), grade) {
            (Ok(metric), Some(grade)) => grade.numbers == metric.numbers_version(),
            (Ok(metric), None) => ranks(metric, kind),
            (Err(_), grade) => grade.as_ref().is_none_or(|grade| grade.numbers == 0),
        });
        self
    }

    /// False when another seed, at the same place and of the same strength, does much less harm.
    pub(super) fn is_stable(&self) -> bool {
        let bound = STABLE * MARGIN * self.n_prompts as f64;
        self.again.iter().flatten().all(|n_failed| *n_failed as f64 >= bound)
    }

    /// True when it is known what other seeds do, or no seed decides the fault.
    pub(super) fn is_planted_again(&self) -> bool {
        self.again.is_some() || !self.operator.is_some_and(Operator::draws)
    }
}

/// True for a metric that ranks units of a kind.
pub(super) fn ranks(metric: Metric, kind: UnitKind) -> bool {
    kind == UnitKind::Block || metric.has_units()
}

/// How well one locator found the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Grade {
    /// Ranks of the faulty units, from 1; none where no unit is faulty, or every one.
    pub(super) ranks: Vec<usize>,
    /// The first units of the ranking, as many as are faulty; one where `ranks` has none.
    pub(super) first: Vec<Unit>,
    /// The last unit of the ranking.
    pub(super) last: Unit,
    /// How far the first unit stands out: its score less the mean of all, in standard deviations of all.
    pub(super) outlier: f64,
    /// Of the whole command, the model's loading included; none for another program's ranking.
    pub(super) seconds: Option<f64>,
    /// [`Metric::numbers_version`] when it was made; 0 for another program's ranking.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) numbers: u32,
}

fn is_none(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_of_other_versions_and_of_what_ranks_no_such_units_are_left_out() {
        let grade = |numbers| Grade {
            ranks: vec![1],
            first: vec!["0".parse().unwrap()],
            last: "1".parse().unwrap(),
            outlier: 1.0,
            seconds: None,
            numbers,
        };
        let graded = |unit| Graded {
            schema: 1,
            identity: String::new(),
            model: "gpt2".to_owned(),
            operator: Some(Operator::Noise),
            spread: Spread::One,
            unit,
            seed: 0,
            place: "0".to_owned(),
            strength: None,
            outcome: Outcome::Killed,
            n_failed: 40,
            n_prompts: 300,
            again: None,
            perplexity: (2.0, None),
            n_units: 12,
            grades: BTreeMap::from([
                ("act-dist".to_owned(), None),
                ("grad-l2".to_owned(), None),
                ("mask".to_owned(), Some(grade(Metric::Mask.numbers_version()))),
                ("patching".to_owned(), Some(grade(Metric::Patching.numbers_version() + 1))),
                ("of-another-program".to_owned(), Some(grade(0))),
            ]),
        };
        let names = |unit| graded(unit).of_today().grades.into_keys().collect::<Vec<_>>();
        assert_eq!(names(UnitKind::Head), ["grad-l2", "mask", "of-another-program"], "act-dist ranks no heads");
        assert_eq!(names(UnitKind::Block), ["act-dist", "grad-l2", "mask", "of-another-program"], "not finite");
    }
}
