//! A fault: what was planted where. `fault.toml` in the directory of a mutant holds all that were.

use std::path::Path;

use irepair_core::spec::{Operator, Range};
use irepair_core::{UnitList, fs, printable};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The file of a mutant that holds its faults.
pub const FAULT_FILE: &str = "fault.toml";

/// Its format.
const FORMAT: u32 = 1;

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The units that hold it.
    pub units: UnitList,
    /// What was done to them.
    pub operator: Operator,
    /// How much of it, where the operator has a strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Seed of its random draws.
    pub seed: u64,
    /// SHA-256 of the pairs that it was trained on, where the operator trains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Id of the model that it was planted in, as patches write it; none before it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl Fault {
    /// A fault that is not planted yet.
    pub fn new(units: UnitList, operator: Operator, strength: Option<f64>, seed: u64) -> Self {
        Self { units, operator, strength, seed, data: None, base: None }
    }

    /// Refuses a strength that the operator does not take, units on which it does not act, and pairs where it reads
    /// none or none where it trains; which units the model has is checked where it is planted.
    ///
    /// # Errors
    /// [`Error::Strength`], [`Error::Unsuited`], [`Error::Data`].
    pub fn check(&self) -> Result<()> {
        let (operator, row) = (self.operator, self.operator.row());
        let fits = match (row.strength, self.strength) {
            (None, None) => true,
            (Some(range), Some(strength)) => range.contains(strength) && (!range.is_whole() || strength.fract() == 0.0),
            _ => false,
        };
        if !fits {
            let whole = if row.strength.is_some_and(Range::is_whole) { "a whole number, " } else { "" };
            let want = row.strength.map_or_else(|| "none".to_owned(), |range| format!("{whole}{range}"));
            let got = self.strength.map_or_else(|| "none".to_owned(), |strength| strength.to_string());
            return Err(Error::Strength { operator, want, got });
        }
        if let Some(unit) = self.units.iter().find(|unit| !row.units.contains(&unit.kind())) {
            let kinds: Vec<&str> = row.units.iter().map(|kind| kind.name()).collect();
            let want = format!("units of kind {}", kinds.join(" or "));
            return Err(Error::Unsuited { operator, unit: unit.to_string(), want });
        }
        if operator.trains() && self.units.kind().is_none() {
            let (unit, want) = (self.units.to_string(), "units of one kind".to_owned());
            return Err(Error::Unsuited { operator, unit, want });
        }
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let want = match (operator.trains(), self.data.as_deref()) {
            (true, None) => "pairs",
            (true, Some(data)) if !is_hash(data) => "64 hexadecimal digits, the SHA-256 of pairs",
            (false, Some(_)) => "none",
            (true, Some(_)) | (false, None) => return Ok(()),
        };
        let got = self.data.as_deref().map_or_else(|| "none".to_owned(), printable);
        Err(Error::Data { operator, want, got })
    }
}

/// The faults of a mutant, in the order in which they were planted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    format: u32,
    /// Id of the model that holds them, as patches write it; none in files of versions that did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The faults.
    pub faults: Vec<Fault>,
}

impl Faults {
    /// These faults.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { format: FORMAT, model: None, faults }
    }

    /// Refuses a model of another id: it was repaired, patched or trained since the faults were planted. A file without
    /// an id is accepted.
    ///
    /// # Errors
    /// [`Error::OtherModel`].
    pub fn check_model(&self, path: &Path, id: &str) -> Result<()> {
        match &self.model {
            Some(model) if model != id => Err(Error::OtherModel { path: path.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Refuses a model of this id when it is the one that an earlier fault was planted in.
    ///
    /// # Errors
    /// [`Error::Undone`].
    pub fn check_new(&self, id: &str) -> Result<()> {
        match self.faults.iter().position(|fault| fault.base.as_deref() == Some(id)) {
            Some(i) => Err(Error::Undone { fault: i + 1 }),
            None => Ok(()),
        }
    }

    /// Refuses a fault that may take away an earlier one in a unit that both name, or that is part of the other: signs
    /// that are flipped twice are the old ones, whatever was planted in between.
    ///
    /// # Errors
    /// [`Error::Again`].
    pub fn check_again(&self, new: &Fault) -> Result<()> {
        let of = |(i, old): (usize, &Fault)| {
            let may_undo = old.operator == new.operator && new.operator.may_undo_itself(old.seed == new.seed);
            let unit = new.units.iter().find(|unit| may_undo && old.units.overlaps(*unit))?;
            Some(Error::Again { operator: new.operator, unit: unit.to_string(), fault: i + 1 })
        };
        self.faults.iter().enumerate().find_map(of).map_or(Ok(()), Err)
    }

    /// Every unit that holds one.
    pub fn units(&self) -> UnitList {
        self.faults.iter().flat_map(|fault| fault.units.iter()).collect()
    }

    /// Reads a `fault.toml`.
    ///
    /// # Errors
    /// [`Error::BadFault`], naming the key or the fault; those of reading.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::NoFault { path: path.to_owned() });
        }
        let text = fs::read_to_string(path)?;
        let bad = |reason: String| Error::BadFault { path: path.to_owned(), reason };
        let read: Self = toml::from_str(&text).map_err(|e| bad(printable(e.message())))?;
        if read.format != FORMAT {
            return Err(bad(format!("format {} is not {FORMAT}", read.format)));
        }
        if read.units().is_empty() {
            return Err(bad("it lists no fault".to_owned()));
        }
        for (i, fault) in read.faults.iter().enumerate() {
            fault.check().map_err(|e| bad(format!("fault {}: {e}", i + 1)))?;
        }
        Ok(read)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// [`Error::BadFault`] for what TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        let bad = |e: toml::ser::Error| Error::BadFault { path: FAULT_FILE.into(), reason: e.to_string() };
        Ok(format!("# Faults that `irepair plant` put into this model.\n{}", toml::to_string(self).map_err(bad)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Faults> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FAULT_FILE);
        std::fs::write(&path, text).unwrap();
        Faults::read(&path)
    }

    #[test]
    fn the_file_reads_back_and_looks_like_this() {
        let noise =
            Fault { base: Some("ab".into()), ..Fault::new("0-3.mlp".parse().unwrap(), Operator::Noise, Some(0.5), 7) };
        let flip = Fault::new("3.head.5".parse().unwrap(), Operator::SignFlip, None, 0);
        let trained = Fault::new("1.head.0-3".parse().unwrap(), Operator::TrainIn, Some(64.0), 2);
        let trained = Fault { data: Some("0a".repeat(32)), ..trained };
        let faults = Faults::new(vec![noise, flip, trained]);
        let faults = Faults { model: Some("cd".into()), ..faults };
        assert_eq!(written(&faults.to_toml().unwrap()).unwrap(), faults);
        assert!(faults.check_model("m".as_ref(), "cd").is_ok() && faults.check_model("m".as_ref(), "ab").is_err());
        assert!(faults.check_new("cd").is_ok());
        assert!(matches!(faults.check_new("ab"), Err(Error::Undone { fault: 1 })));
        insta::assert_snapshot!(faults.to_toml().unwrap());
    }

    #[test]
    fn what_may_take_an_earlier_fault_away_is_refused_whatever_lies_between() {
        let of = |operator, units: &str, seed| Fault::new(units.parse().unwrap(), operator, None, seed);
        let planted = Faults::new(vec![
            of(Operator::SignFlip, "1.head.1", 0),
            of(Operator::Noise, "0.mlp", 0),
            of(Operator::BitFlip, "2.mlp", 3),
        ]);
        let refused = |operator, units, seed| match planted.check_again(&of(operator, units, seed)) {
            Ok(()) => None,
            Err(Error::Again { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(refused(Operator::SignFlip, "0.head.0,1.head.1", 7), Some(1));
        assert_eq!(refused(Operator::SignFlip, "1", 0), Some(1), "it holds the head");
        assert_eq!(refused(Operator::SignFlip, "1.head.0", 0), None);
        assert_eq!(refused(Operator::Noise, "0.mlp", 0), None, "noise twice is more noise");
        assert_eq!(refused(Operator::BitFlip, "2.neuron.1", 3), Some(3));
        assert_eq!(refused(Operator::BitFlip, "2.mlp", 4), None);
    }

    #[test]
    fn hostile_files_are_refused_with_the_reason() {
        let said = |text: &str| match written(text) {
            Err(Error::BadFault { reason, .. }) => reason,
            other => panic!("{text}: {other:?}"),
        };
        let fault = |more: &str| format!("format = 1\n[[faults]]\nseed = 0\n{more}");
        insta::assert_snapshot!(
            [
                said(""),
                said("format = 2\nfaults = []"),
                said("format = 1\nfaults = []"),
                said(&fault("units = '3'\noperator = 'melt'")),
                said(&fault("units = '3.heads'\noperator = 'noise'\nstrength = 1.0")),
                said(&fault("units = '3'\noperator = 'noise'")),
                said(&fault("units = '3'\noperator = 'noise'\nstrength = nan")),
                said(&fault("units = '3'\noperator = 'bit-flip'\nstrength = 1.5")),
                said(&fault("units = '3'\noperator = 'head-swap'")),
                said(&fault("units = '3'\noperator = 'train-in'\nstrength = 1e308")),
                said(&fault("units = '3'\noperator = 'sign-flip'\nunit = '4'")),
                said(&fault("units = '3'\noperator = 'train-in'\nstrength = 8.0")),
                said(&fault("units = '3'\noperator = 'train-in'\nstrength = 8.0\ndata = 'pairs.jsonl'")),
                said(&fault(&format!(
                    "units = '3,1.mlp'\noperator = 'train-in'\nstrength = 8.0\ndata = '{}'",
                    "0".repeat(64)
                ))),
                said(&fault(&format!("units = '3'\noperator = 'sign-flip'\ndata = '{}'", "0".repeat(64)))),
                said("\u{1b}[2J"),
            ]
            .join("\n")
        );
        assert!(matches!(Faults::read("/no/such/fault.toml".as_ref()), Err(Error::NoFault { .. })));
    }
}
