//! Lists of units as users write them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::UnitKind;
use crate::{BlockId, Error, MAX_BLOCKS, Result, Unit, UnitPart};

/// Most units of one list: a bound that keeps hostile ranges from becoming allocations.
pub const MAX_UNITS: usize = 1 << 20;

/// Largest number of a head or a neuron, as of any size of a model.
const MAX_INDEX: usize = 1 << 24;

/// Units as given by a flag or a key: blocks and parts of blocks, each number also a range, with commas between them,
/// such as `3,0-2.mlp,3.head.0-4`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitList(BTreeSet<Unit>);

impl UnitList {
    /// The units, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Unit> + '_ {
        self.0.iter().copied()
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when it names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when it names `unit`.
    pub fn contains(&self, unit: Unit) -> bool {
        self.0.contains(&unit)
    }

    /// True when it names `unit`, or a unit that holds it.
    pub fn covers(&self, unit: Unit) -> bool {
        unit.and_wider().into_iter().flatten().any(|unit| self.contains(unit))
    }

    /// The kind that all of its units have; none where there are several, or no unit.
    pub fn kind(&self) -> Option<UnitKind> {
        let kind = self.0.first()?.kind();
        self.iter().all(|unit| unit.kind() == kind).then_some(kind)
    }
}

impl FromIterator<Unit> for UnitList {
    fn from_iter<I: IntoIterator<Item = Unit>>(units: I) -> Self {
        Self(units.into_iter().collect())
    }
}

/// `3` or `3-5`, of numbers under `end`.
fn range(text: &str, end: usize) -> Option<RangeInclusive<usize>> {
    let number = |text: &str| {
        let digits = text.trim();
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|n| *n < end)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// The units that one entry of a list names, how many there are first.
fn entry(text: &str) -> Option<(usize, Box<dyn Iterator<Item = Unit>>)> {
    let parts: Vec<&str> = text.trim().split('.').collect();
    let blocks = range(parts.first()?, MAX_BLOCKS)?;
    let n_blocks = blocks.clone().count();
    let each = move |part: UnitPart| blocks.clone().map(move |block| Unit { block: BlockId(block), part });
    let parts = match parts[1..] {
        [] => vec![UnitPart::Whole],
        ["attention"] => vec![UnitPart::Attention],
        ["mlp"] => vec![UnitPart::Mlp],
        [name, numbers] => {
            let made = match name {
                "head" => UnitPart::Head,
                "neuron" => UnitPart::Neuron,
                _ => return None,
            };
            let numbers = range(numbers, MAX_INDEX)?;
            let n = numbers.clone().count().saturating_mul(n_blocks);
            return Some((n, Box::new(numbers.flat_map(move |i| each(made(i))))));
        }
        _ => return None,
    };
    Some((n_blocks, Box::new(parts.into_iter().flat_map(each))))
}

impl FromStr for UnitList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut units = BTreeSet::new();
        let mut n_left = MAX_UNITS;
        for part in text.split(',') {
            let (n, named) = entry(part).ok_or_else(|| Error::BadUnitList { got: text.to_owned() })?;
            let too_many = || Error::TooManyUnits { got: text.to_owned(), limit: MAX_UNITS };
            n_left = n_left.checked_sub(n).ok_or_else(too_many)?;
            units.extend(named);
        }
        Ok(Self(units))
    }
}

/// Three units and more of one block and kind in a row are written as a range, and so are three whole blocks.
impl fmt::Display for UnitList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units: Vec<Unit> = self.iter().collect();
        units.sort_by_key(|unit| (unit.part != UnitPart::Whole, *unit));
        let runs = units.chunk_by(|a, b| next(*a) == Some(*b));
        for (i, run) in
            runs.flat_map(|run| if run.len() < 3 { run.chunks(1) } else { run.chunks(run.len()) }).enumerate()
        {
            let comma = if i == 0 { "" } else { "," };
            match (run, run.last().map(|last| last.part)) {
                ([first, .., last], Some(UnitPart::Whole)) => write!(f, "{comma}{first}-{}", last.block)?,
                ([first, _, ..], Some(UnitPart::Head(last) | UnitPart::Neuron(last))) => {
                    write!(f, "{comma}{first}-{last}")?;
                }
                (run, _) => run.iter().try_for_each(|unit| write!(f, "{comma}{unit}"))?,
            }
        }
        Ok(())
    }
}

/// The unit that follows in a range.
fn next(unit: Unit) -> Option<Unit> {
    match unit.part {
        UnitPart::Whole => Some(Unit { block: BlockId(unit.block.0 + 1), ..unit }),
        UnitPart::Head(i) => Some(Unit { part: UnitPart::Head(i + 1), ..unit }),
        UnitPart::Neuron(i) => Some(Unit { part: UnitPart::Neuron(i + 1), ..unit }),
        UnitPart::Attention | UnitPart::Mlp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> UnitList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_and_ranges_are_read_and_written() {
        for (text, written) in [
            ("3", "3"),
            ("2,0,1", "0-2"),
            ("1, 0", "0,1"),
            ("3.mlp,3.attention,3.attention", "3.attention,3.mlp"),
            ("0-1.mlp", "0.mlp,1.mlp"),
            ("3.head.2-4, 3.head.1,3.head.9", "3.head.1-4,3.head.9"),
            ("0-1.neuron.7-9", "0.neuron.7-9,1.neuron.7-9"),
            ("3.head.0,3", "3,3.head.0"),
        ] {
            assert_eq!(list(text).to_string(), written);
            assert_eq!(list(written), list(text));
        }
        assert_eq!(serde_json::to_string(&list("0.head.1")).unwrap(), "\"0.head.1\"");
        assert_eq!((list("0-1.mlp").kind(), list("0,1.mlp").kind()), (Some(UnitKind::Half), None));
        assert!(list("0-4.head.2").contains("3.head.2".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ",",
            "1,",
            "-1",
            "3-",
            "5-3",
            "a",
            "1.5",
            "1.head",
            "1.head.",
            "1.head.+2",
            "1.heads.2",
            "1.mlp.0",
            ".mlp",
            "1.head.3-2",
            "1..2",
            "10000",
            "1.neuron.16777216",
            "1.head.0.0",
            "1.Head.0",
        ] {
            assert!(matches!(text.parse::<UnitList>(), Err(Error::BadUnitList { .. })), "{text}");
        }
    }

    #[test]
    fn ranges_do_not_become_allocations() {
        for text in ["0-9999.neuron.0-16777215".to_owned(), ["0.neuron.0-999999"; 3].join(",")] {
            assert!(matches!(text.parse::<UnitList>(), Err(Error::TooManyUnits { .. })), "{text}");
        }
    }
}
