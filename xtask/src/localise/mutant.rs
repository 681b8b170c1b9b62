//! Mutants: which fault is planted where, and how strong it may be.

use std::collections::BTreeSet;

use irepair_arch::UnitMap;
use irepair_config::{Operator, TRAIN_IN_RATE, UnitKind};
use irepair_core::fs::sha256_hex;
use irepair_core::{Unit, UnitList, UnitPart};
use serde::{Deserialize, Serialize};

use super::oracle::Tests;
use crate::cache::Inputs;

/// Wrong answers that a locator sees, at most, where nothing else is asked for.
pub(super) const MOST_PAIRS: u32 = 64;

/// How many units hold a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Spread {
    /// As few as the operator acts on.
    #[default]
    One,
    /// Two, in different blocks, each with a fault of its own of the same strength.
    Two,
    /// Every unit of the kind: no ranking of them is better than another.
    All,
}

impl Spread {
    /// Those that are planted by an operator; one alone where nothing is planted.
    pub(super) fn of(operator: Option<Operator>, n_blocks: usize) -> &'static [Self] {
        match operator {
            Some(Operator::Noise) if n_blocks > 1 => &[Self::One, Self::Two, Self::All],
            Some(Operator::SignFlip) if n_blocks > 1 => &[Self::One, Self::Two],
            _ => &[Self::One],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::All => "all",
        }
    }

    /// What it adds to the name of an operator.
    fn suffix(self) -> String {
        if self == Self::One { String::new() } else { format!("-{}", self.name()) }
    }

    pub(super) fn is_one(&self) -> bool {
        *self == Self::One
    }
}

/// A fault to plant, or none.
pub(super) struct Case<'a> {
    pub(super) tests: &'a Tests,
    /// None for the base model itself: nothing is planted, and its failures are samples of its own that differ from its
    /// greedy answers.
    pub(super) operator: Option<Operator>,
    pub(super) spread: Spread,
    pub(super) kind: UnitKind,
    pub(super) seed: u32,
    /// The units that hold the fault.
    pub(super) place: Vec<Unit>,
    pub(super) n_units: usize,
    /// Half of the weights of the smallest faulty unit: as many bits as may be flipped.
    most_bits: u64,
    pub(super) inputs: Inputs,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        tests: &'a Tests,
        map: &UnitMap,
        (operator, spread): (Option<Operator>, Spread),
        kind: UnitKind,
        seed: u32,
        inputs: Inputs,
    ) -> Self {
        let is_suited = |unit: &Unit| operator.is_none_or(|operator| operator.acts_on(*unit));
        let units: Vec<Unit> = map.units(kind).filter(is_suited).collect();
        let name_of = |seed| name(&tests.model, operator, spread, kind, seed);
        let (name, first) = (name_of(seed), units[apart(name_of, seed, units.len())]);
        let place = match (operator, spread, first.part) {
            (None, ..) => Vec::new(),
            (Some(_), Spread::All, _) => units.clone(),
            (Some(_), Spread::Two, _) => {
                let others: Vec<Unit> = units.iter().filter(|unit| unit.block != first.block).copied().collect();
                let other = others[draw(&(name.clone() + " other"), others.len())];
                vec![first, other]
            }
            // Two heads of one block.
            (Some(Operator::HeadSwap), Spread::One, UnitPart::Head(head)) => {
                let n = map.n_per_block(kind);
                let other = (head + 1 + draw(&(name.clone() + " other"), n - 1)) % n;
                vec![first, Unit { part: UnitPart::Head(other), ..first }]
            }
            (Some(_), Spread::One, _) => vec![first],
        };
        let n_weights = |unit: &Unit| map.slice([*unit]).map_or(0, |rows| map.n_weights(&rows));
        let most_bits = place.iter().map(n_weights).min().unwrap_or_default().div_ceil(2);
        let inputs = inputs.text(&name);
        let trained = || format!("{} {TRAIN_IN_RATE}", tests.pairs.1);
        let inputs = if operator.is_some_and(Operator::trains) { inputs.text(&trained()) } else { inputs };
        let case =
            Self { tests, operator, spread, kind, seed, place, n_units: map.units(kind).count(), most_bits, inputs };
        let inputs = case.inputs.clone().text(&format!("{} {:?}", case.places(), case.strengths()));
        Self { inputs, ..case }
    }

    pub(super) fn name(&self) -> String {
        name(&self.tests.model, self.operator, self.spread, self.kind, self.seed)
    }

    /// The units that get a fault, as settings write them, for each fault that is planted.
    pub(super) fn faults(&self) -> Vec<String> {
        match self.spread {
            Spread::Two => self.place.iter().map(ToString::to_string).collect(),
            Spread::One | Spread::All => vec![list(&self.place)],
        }
    }

    /// All of the faulty units, as settings write them.
    pub(super) fn places(&self) -> String {
        list(&self.place)
    }

    /// True when rankings have faulty units to be graded by.
    pub(super) fn has_ranks(&self) -> bool {
        self.operator.is_some() && self.spread != Spread::All
    }

    /// The strengths that are tried, weakest first; none for an operator without one.
    pub(super) fn strengths(&self) -> Vec<Option<f64>> {
        let of: &[f64] = match self.operator {
            Some(Operator::Noise) if self.spread == Spread::All => {
                &[0.03, 0.06, 0.09, 0.125, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0]
            }
            Some(Operator::Noise) => &[0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0],
            Some(Operator::ScaleKeys | Operator::ScaleValues) => &[0.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            Some(Operator::BitFlip) => &[1.0, 4.0, 16.0, 64.0, 256.0],
            Some(Operator::TrainIn) => &[8.0, 32.0, 128.0, 512.0],
            Some(Operator::SignFlip | Operator::HeadSwap) | None => return vec![None],
        };
        let is_taken = |strength: &f64| self.operator != Some(Operator::BitFlip) || *strength <= self.most_bits as f64;
        of.iter().copied().filter(is_taken).map(Some).collect()
    }
}

/// The name of a case, which decides its place.
pub(super) fn name(model: &str, operator: Option<Operator>, spread: Spread, kind: UnitKind, seed: u32) -> String {
    format!("{model}-{}{}-{kind}-{seed}", operator.map_or("healthy", Operator::name), spread.suffix())
}

/// A number below `n` that the name of a seed decides, with another for every smaller seed while there are `n` of them:
/// two seeds that plant in one place are one mutant, or nearly.
fn apart(name: impl Fn(u32) -> String, seed: u32, n: usize) -> usize {
    let (mut taken, mut at) = (BTreeSet::new(), 0);
    for seed in 0..=seed {
        if taken.len() == n {
            taken.clear();
        }
        at = draw(&name(seed), n);
        while !taken.insert(at) {
            at = (at + 1) % n;
        }
    }
    at
}

/// Units as settings write them.
fn list(units: &[Unit]) -> String {
    units.iter().copied().collect::<UnitList>().to_string()
}

/// A number below `n` that a text decides.
pub(super) fn draw(text: &str, n: usize) -> usize {
    let hash = sha256_hex(text.as_bytes());
    let number = u64::from_str_radix(&hash[..15], 16).unwrap_or_default();
    (number % n.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use irepair_arch::Architecture;

    use super::*;

    const fn no_tests() -> Tests {
        Tests {
            model: String::new(),
            base: PathBuf::new(),
            prompts: PathBuf::new(),
            neutral: PathBuf::new(),
            pairs: (PathBuf::new(), String::new()),
            n_pairs: 64,
            answers: Vec::new(),
            nlls: Vec::new(),
            perplexity: 1.0,
        }
    }

    static TESTS: Tests = no_tests();

    fn case(operator: impl Into<Option<Operator>>, kind: UnitKind, seed: u32) -> Case<'static> {
        spread(operator, Spread::One, kind, seed)
    }

    fn spread(operator: impl Into<Option<Operator>>, spread: Spread, kind: UnitKind, seed: u32) -> Case<'static> {
        let map = UnitMap::new(&Architecture::gpt2(2, 8, 4, 16, 5));
        Case::new(&TESTS, &map, (operator.into(), spread), kind, seed, Inputs::default())
    }

    #[test]
    fn seeds_plant_in_many_places_and_always_in_the_same_ones() {
        let places = |operator, kind| (0..40).map(|seed| case(operator, kind, seed).place).collect::<Vec<_>>();
        let heads = places(Operator::Noise, UnitKind::Head);
        assert_eq!(heads, places(Operator::Noise, UnitKind::Head));
        assert!(heads.iter().all(|place| place.len() == 1));
        let mut different = heads.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 8, "each of two blocks of four heads");
        let mut first = heads[..8].to_vec();
        first.sort();
        assert_eq!(first, different, "no place again before all were drawn");
        assert_ne!(heads, places(Operator::SignFlip, UnitKind::Head));
        assert!(case(None, UnitKind::Head, 0).place.is_empty(), "a healthy model");
    }

    #[test]
    fn a_swap_is_of_two_heads_of_one_block() {
        for seed in 0..40 {
            let place = case(Operator::HeadSwap, UnitKind::Head, seed).place;
            let [one, two] = place[..] else { panic!("{place:?}") };
            assert!(one.block == two.block && one != two, "{place:?}");
        }
    }

    #[test]
    fn a_fault_is_planted_where_its_operator_acts() {
        for operator in Operator::ALL {
            for kind in operator.row().units {
                for seed in 0..20 {
                    let case = case(*operator, *kind, seed);
                    assert!(case.place.iter().all(|unit| operator.acts_on(*unit)), "{operator}: {:?}", case.place);
                }
            }
        }
        assert_eq!(case(Operator::ScaleKeys, UnitKind::Half, 0).n_units, 4, "halves it does not act on are ranked too");
    }

    #[test]
    fn no_more_bits_are_flipped_than_half_of_a_unit_has_weights() {
        // A neuron of width 8 has 8 + 1 weights in and 8 out.
        let strengths = |kind| case(Operator::BitFlip, kind, 0).strengths();
        assert_eq!(strengths(UnitKind::Neuron), [1.0, 4.0].map(Some));
        assert_eq!(strengths(UnitKind::Block), [1.0, 4.0, 16.0, 64.0, 256.0].map(Some));
    }

    #[test]
    fn every_strength_is_one_that_its_operator_takes() {
        for operator in Operator::ALL {
            for spread_of in Spread::of(Some(*operator), 2) {
                let case = spread(*operator, *spread_of, operator.row().units[0], 0);
                for (strength, units) in
                    case.strengths().iter().flat_map(|s| case.faults().into_iter().map(|u| (*s, u)))
                {
                    let fault = irepair_fault::Fault::new(units.parse().unwrap(), *operator, strength, 0);
                    let data = operator.trains().then(|| "0".repeat(64));
                    irepair_fault::Fault { data, ..fault }.check().unwrap();
                }
            }
        }
    }

    #[test]
    fn two_faults_are_in_different_blocks_and_each_is_planted_alone() {
        let places = || (0..40).map(|seed| spread(Operator::Noise, Spread::Two, UnitKind::Head, seed));
        for case in places() {
            let [one, two] = case.place[..] else { panic!("{:?}", case.place) };
            assert_ne!(one.block, two.block);
            assert_eq!(case.faults(), [one.to_string(), two.to_string()]);
            assert!(case.has_ranks());
        }
        let found: Vec<Vec<Unit>> = places().map(|case| case.place).collect();
        assert_eq!(found, places().map(|case| case.place).collect::<Vec<_>>(), "the same seed, the same place");
        assert!(found.iter().any(|place| place != &found[0]));
    }

    #[test]
    fn a_distributed_fault_is_in_every_unit_and_has_no_rank() {
        for (kind, n, text) in [
            (UnitKind::Block, 2, "0,1"),
            (UnitKind::Half, 4, "0.attention,0.mlp,1.attention,1.mlp"),
            (UnitKind::Head, 8, "0.head.0-3,1.head.0-3"),
            (UnitKind::Neuron, 64, "0.neuron.0-31,1.neuron.0-31"),
        ] {
            let case = spread(Operator::Noise, Spread::All, kind, 3);
            assert_eq!((case.place.len(), case.n_units, case.faults()), (n, n, vec![text.to_owned()]));
            assert!(!case.has_ranks());
            let weakest = |spread_of| spread(Operator::Noise, spread_of, kind, 3).strengths()[0];
            assert!(weakest(Spread::All) < weakest(Spread::One));
        }
    }

    #[test]
    fn single_faults_keep_their_names() {
        let name = |spread_of| spread(Operator::Noise, spread_of, UnitKind::Head, 3).name();
        assert_eq!(
            [Spread::One, Spread::Two, Spread::All].map(name),
            ["-noise-head-3", "-noise-two-head-3", "-noise-all-head-3"]
        );
        assert_eq!(case(None, UnitKind::Block, 0).name(), "-healthy-block-0");
        for (operator, n_blocks, n) in [
            (Some(Operator::Noise), 2, 3),
            (Some(Operator::Noise), 1, 1),
            (Some(Operator::SignFlip), 2, 2),
            (Some(Operator::TrainIn), 2, 1),
            (None, 2, 1),
        ] {
            assert_eq!(Spread::of(operator, n_blocks).len(), n, "{operator:?} {n_blocks}");
        }
    }

    #[test]
    fn a_mutant_depends_on_the_pairs_that_it_was_trained_on_alone() {
        let tests = |hash: &str| Tests { pairs: (PathBuf::new(), hash.to_owned()), ..no_tests() };
        let map = UnitMap::new(&Architecture::gpt2(2, 8, 4, 16, 5));
        let key = |hash: &str, operator| {
            let tests = tests(hash);
            Case::new(&tests, &map, (Some(operator), Spread::One), UnitKind::Half, 0, Inputs::default()).inputs.key()
        };
        assert_ne!(key("a", Operator::TrainIn), key("b", Operator::TrainIn));
        assert_eq!(key("a", Operator::Noise), key("b", Operator::Noise));
    }
}
