//! Lists of units as users write them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::short;
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

    /// True when it names `unit`, a unit that holds it, or a part of it.
    pub fn overlaps(&self, unit: Unit) -> bool {
        let any = |first, last| {
            let of = |part| Unit { part, ..unit };
            self.0.range(of(first)..=of(last)).next().is_some()
        };
        self.covers(unit)
            || match unit.part {
                // Parts of a block follow it in order.
                UnitPart::Whole => any(UnitPart::Whole, UnitPart::Neuron(usize::MAX)),
                UnitPart::Attention => any(UnitPart::Head(0), UnitPart::Head(usize::MAX)),
                UnitPart::Mlp => any(UnitPart::Neuron(0), UnitPart::Neuron(usize::MAX)),
                UnitPart::Head(_) | UnitPart::Neuron(_) => false,
            }
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

/// `3` or `3-5`, of numbers under `end`; else why it is none.
fn range(text: &str, end: usize) -> Result<RangeInclusive<usize>, String> {
    let number = |digits: &str| {
        let digits = digits.trim();
        if digits.is_empty() {
            return Err("a number is missing".to_owned());
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{}` is no number", short(digits)));
        }
        digits.parse().ok().filter(|n| *n < end).ok_or_else(|| format!("{} is over {}", short(digits), end - 1))
    };
    let of_range = |what: &str| format!("range `{}` {what}", short(text));
    match text.split_once('-') {
        None => number(text).map(|n| n..=n),
        Some((first, _)) if first.trim().is_empty() => Err(of_range("has no beginning")),
        Some((_, last)) if last.trim().is_empty() => Err(of_range("has no end")),
        Some((first, last)) => match (number(first)?, number(last)?) {
            (first, last) if first <= last => Ok(first..=last),
            _ => Err(of_range("ends before it begins")),
        },
    }
}

/// The units that one entry of a list names, how many there are first; else why it names none.
fn entry(text: &str) -> Result<(usize, Box<dyn Iterator<Item = Unit>>), String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("an entry is empty".to_owned());
    }
    let mut parts = text.split('.');
    let blocks = range(parts.next().unwrap_or_default(), MAX_BLOCKS)?;
    let n_blocks = blocks.clone().count();
    let each = move |part: UnitPart| blocks.clone().map(move |block| Unit { block: BlockId(block), part });
    let (part, numbers) = (parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(format!("`{}` has more than three parts", short(text)));
    }
    let part = match (part, numbers) {
        (None, _) => UnitPart::Whole,
        (Some("attention"), None) => UnitPart::Attention,
        (Some("mlp"), None) => UnitPart::Mlp,
        (Some(name @ ("attention" | "mlp")), Some(_)) => return Err(format!("`{name}` takes no number")),
        (Some(name @ ("head" | "neuron")), None) => return Err(format!("`{name}` needs a number")),
        (Some(name @ ("head" | "neuron")), Some(numbers)) => {
            let made = if name == "head" { UnitPart::Head } else { UnitPart::Neuron };
            let numbers = range(numbers, MAX_INDEX)?;
            let n = numbers.clone().count().saturating_mul(n_blocks);
            return Ok((n, Box::new(numbers.flat_map(move |i| each(made(i))))));
        }
        (Some(name), _) => {
            return Err(format!("`{}` is no part of a block: attention, mlp, head or neuron", short(name)));
        }
    };
    Ok((n_blocks, Box::new(each(part))))
}

impl FromStr for UnitList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut units = BTreeSet::new();
        let mut n_left = MAX_UNITS;
        for part in text.split(',') {
            let (n, named) = entry(part).map_err(|why| Error::BadUnitList { got: text.to_owned(), why })?;
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
    fn a_list_overlaps_what_it_names_what_holds_that_and_its_parts() {
        let (of, n) = (list("0-2,0-2.attention,0-2.mlp,0-2.head.0-3,0-2.neuron.0-3"), 3 * (3 + 4 + 4));
        assert_eq!(of.len(), n);
        for named in of.iter() {
            for unit in of.iter() {
                let want = named.holds(unit) || unit.holds(named);
                assert_eq!(UnitList::from_iter([named]).overlaps(unit), want, "{named} {unit}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        let unknown = |name: &str| format!("`{name}` is no part of a block: attention, mlp, head or neuron");
        for (text, reason) in [
            ("", "an entry is empty"),
            (",", "an entry is empty"),
            ("1,", "an entry is empty"),
            ("-1", "range `-1` has no beginning"),
            ("3-", "range `3-` has no end"),
            ("0,3- .mlp", "range `3- ` has no end"),
            ("5-3", "range `5-3` ends before it begins"),
            ("a", "`a` is no number"),
            ("1-b", "`b` is no number"),
            ("1.5", &unknown("5")),
            ("1.head", "`head` needs a number"),
            ("1.head.", "a number is missing"),
            ("1.head.+2", "`+2` is no number"),
            ("1.heads.2", &unknown("heads")),
            ("3.haed.1", &unknown("haed")),
            ("1.mlp.0", "`mlp` takes no number"),
            (".mlp", "a number is missing"),
            ("1.head.3-2", "range `3-2` ends before it begins"),
            ("1..2", &unknown("")),
            ("10000", "10000 is over 9999"),
            ("1.neuron.16777216", "16777216 is over 16777215"),
            ("99999999999999999999", "99999999999999999999 is over 9999"),
            ("1.head.0.0", "`1.head.0.0` has more than three parts"),
            ("1.Head.0", &unknown("Head")),
            ("1.\u{1b}[2J", &unknown("\\u{1b}[2J")),
        ] {
            match text.parse::<UnitList>() {
                Err(Error::BadUnitList { why, .. }) => assert_eq!(why, reason, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn ranges_do_not_become_allocations() {
        for text in ["0-9999.neuron.0-16777215".to_owned(), ["0.neuron.0-999999"; 3].join(",")] {
            assert!(matches!(text.parse::<UnitList>(), Err(Error::TooManyUnits { .. })), "{text}");
        }
    }
}
