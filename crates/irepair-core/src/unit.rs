//! A unit: a block or a part of one, which may hold a fault or be changed alone (METHOD §23).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::UnitKind;
use crate::{BlockId, Error, UnitList};

/// Which part of its block a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitPart {
    /// All of it.
    Whole,
    /// Attention, with the norm that feeds it, and that of its output where there is one.
    Attention,
    /// The MLP, with the norm that feeds it, and that of its output where there is one.
    Mlp,
    /// An attention head.
    Head(usize),
    /// A neuron of the MLP.
    Neuron(usize),
}

/// A block of a model or a part of one. Its text is the block's number, then the part: `3`, `3.attention`, `3.mlp`,
/// `3.head.5`, `3.neuron.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Unit {
    /// The block.
    pub block: BlockId,
    /// The part of it.
    pub part: UnitPart,
}

impl Unit {
    /// The kind that it is one of.
    pub fn kind(self) -> UnitKind {
        match self.part {
            UnitPart::Whole => UnitKind::Block,
            UnitPart::Attention | UnitPart::Mlp => UnitKind::Half,
            UnitPart::Head(_) => UnitKind::Head,
            UnitPart::Neuron(_) => UnitKind::Neuron,
        }
    }

    /// Whether `part` is this unit or a part of it.
    pub fn holds(self, part: Self) -> bool {
        part.and_wider().contains(&Some(self))
    }

    /// This unit, and what holds it: its half of the block, and the block.
    pub(crate) fn and_wider(self) -> [Option<Self>; 3] {
        let of = |part| Some(Self { part, ..self });
        let half = match self.part {
            UnitPart::Whole | UnitPart::Attention | UnitPart::Mlp => None,
            UnitPart::Head(_) => of(UnitPart::Attention),
            UnitPart::Neuron(_) => of(UnitPart::Mlp),
        };
        [Some(self), half, of(UnitPart::Whole)]
    }
}

impl From<BlockId> for Unit {
    fn from(block: BlockId) -> Self {
        Self { block, part: UnitPart::Whole }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.part {
            UnitPart::Whole => self.block.to_string(),
            UnitPart::Attention => format!("{}.attention", self.block),
            UnitPart::Mlp => format!("{}.mlp", self.block),
            UnitPart::Head(head) => format!("{}.head.{head}", self.block),
            UnitPart::Neuron(neuron) => format!("{}.neuron.{neuron}", self.block),
        };
        f.pad(&text)
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::BadUnit { got: text.to_owned(), why };
        // A range is refused before it is unfolded.
        if text.contains([',', '-']) {
            return Err(refuse("it is a list or a range".to_owned()));
        }
        let list: UnitList = text.parse().map_err(|error| match error {
            Error::BadUnitList { why, .. } => refuse(why),
            error => error,
        })?;
        list.iter().next().ok_or_else(|| refuse("it is empty".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_reads_back_and_knows_its_kind() {
        for (text, kind) in [
            ("3", UnitKind::Block),
            ("3.attention", UnitKind::Half),
            ("3.mlp", UnitKind::Half),
            ("3.head.5", UnitKind::Head),
            ("3.neuron.17", UnitKind::Neuron),
        ] {
            let unit: Unit = text.parse().unwrap();
            assert_eq!((unit.to_string().as_str(), unit.kind()), (text, kind));
            assert_eq!(serde_json::from_value::<Unit>(serde_json::to_value(unit).unwrap()).unwrap(), unit);
        }
        assert!("3,4".parse::<Unit>().is_err(), "two units are not one");
    }

    #[test]
    fn a_unit_holds_itself_and_its_parts() {
        let holds = |outer: &str, inner: &str| outer.parse::<Unit>().unwrap().holds(inner.parse().unwrap());
        for (outer, inner) in [("3", "3"), ("3", "3.mlp"), ("3", "3.head.1"), ("3.attention", "3.head.1")] {
            assert!(holds(outer, inner) && (outer == inner || !holds(inner, outer)), "{outer} {inner}");
        }
        for (outer, inner) in [("3", "2"), ("3.mlp", "3.head.1"), ("3.attention", "3.neuron.1"), ("3", "2.mlp")] {
            assert!(!holds(outer, inner) && !holds(inner, outer), "{outer} {inner}");
        }
        assert!(holds("3.mlp", "3.neuron.9") && !holds("3.head.1", "3.head.2"));
    }
}
