//! The data of profiles that do not make their own: which files, and which records of them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Checks, Validate};

/// One file of the data directory, in profiles that do not make their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataFile {
    /// Path below the data directory. `.gz` may follow; `.txt` may be `.jsonl` and the other way round. With `cut`, the
    /// name of the file that is cut.
    pub file: String,
    /// What it holds.
    pub what: String,
    /// How to get it: said when it is missing.
    pub get: String,
    /// The records it is cut from; without it, the file is taken as it is.
    pub cut: Option<Cut>,
    /// True when nothing but what it adds is lost without it. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// About how many records it holds, for estimates. Default 0.
    pub n_records: u64,
    /// About how many tokens it holds, for estimates. Default 0.
    pub n_tokens: u64,
}

/// Records of other files: objects of JSONL, lines of plain text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cut {
    /// Files below the data directory, read one after the other; `.gz` may follow.
    pub from: Vec<String>,
    /// Fields and the values they must have: other records are left out first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, toml::Value>,
    /// Seed of the shuffle that comes next; without it, records keep their order.
    pub shuffle: Option<u64>,
    /// Records skipped then. Default 0.
    pub skip: usize,
    /// Records kept at most; without it, all that are left.
    pub take: Option<usize>,
    /// Fields of the records that are kept, by the names they get: `rejected = "rejected_matched"`. Without it, all as
    /// they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// A file of the data directory, or the same with `.gz` behind its name where only that is there.
pub fn stored(dir: &Path, name: &str) -> PathBuf {
    let (plain, zipped) = (dir.join(name), dir.join(format!("{name}.gz")));
    if !plain.is_file() && zipped.is_file() { zipped } else { plain }
}

impl DataFile {
    /// Files of the data directory it needs.
    pub fn sources(&self) -> Vec<&str> {
        match &self.cut {
            Some(cut) => cut.from.iter().map(String::as_str).collect(),
            None => vec![&self.file],
        }
    }

    fn is_jsonl(&self) -> bool {
        self.file.ends_with(".jsonl")
    }
}

impl Validate for DataFile {
    fn clashes(&self, checks: &mut Checks) {
        let inside = |path: &str| {
            !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        };
        checks.clash(!inside(&self.file), "file", "must be a path below the data directory");
        checks.clash(self.what.is_empty(), "what", "is missing");
        checks.clash(self.get.is_empty(), "get", "is missing: say how to get the file");
        if let Some(cut) = &self.cut {
            checks.clash(cut.from.is_empty(), "cut.from", "is missing: name at least one file");
            let outside = cut.from.iter().any(|path| !inside(path));
            checks.clash(outside, "cut.from", "must be paths below the data directory");
            checks.count("cut.take", cut.take.map(|n| n as u64));
            let by_field = !cut.only.is_empty() || !cut.fields.is_empty();
            checks.clash(by_field && !self.is_jsonl(), "cut", "reads fields, which only a .jsonl file has");
            let scalar = |value: &toml::Value| value.is_str() || value.is_integer() || value.is_bool();
            let compared = cut.only.values().all(scalar);
            checks.clash(!compared, "cut.only", "compares with words, whole numbers and true or false");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(file: &str) -> DataFile {
        DataFile { file: file.into(), what: "w".into(), get: "g".into(), ..Default::default() }
    }

    #[test]
    fn a_data_file_stays_below_its_directory() {
        assert!(file("pairs/train.jsonl").problems().is_empty());
        for bad in ["", "/etc/passwd", "../x", "a/../../b"] {
            assert_eq!(file(bad).problems().len(), 1, "{bad}");
            let cut = Cut { from: vec![bad.into()], ..Cut::default() };
            assert_eq!(DataFile { cut: Some(cut), ..file("a.txt") }.problems().len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_cut_that_reads_fields_wants_records() {
        let only = BTreeMap::from([("toxic".to_owned(), toml::Value::Integer(1))]);
        let cut = Cut { from: vec!["a".into()], only, ..Cut::default() };
        assert!(DataFile { cut: Some(cut.clone()), ..file("a.jsonl") }.problems().is_empty());
        let said = DataFile { cut: Some(cut), ..file("a.txt") }.problems();
        assert_eq!(said[0].to_string(), "`cut`: reads fields, which only a .jsonl file has");
    }
}
