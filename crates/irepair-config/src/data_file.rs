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
    /// name of the file that is cut. A name that stands twice is the first of them whose files are there.
    pub file: String,
    /// What it holds.
    pub what: String,
    /// The file `data/<source>.toml` that says where it comes from.
    pub source: Option<String>,
    /// How to get it, where `source` does not say it: said when it is missing. `DATA` stands for the data directory.
    #[serde(skip_serializing_if = "String::is_empty")]
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

/// Records of other files: objects of JSONL, rows of CSV under their column names, lines of plain text as `text`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cut {
    /// Files below the data directory, read one after the other; `.gz` may follow.
    pub from: Vec<String>,
    /// Fields and the values they must have, a list standing for any of its values: other records are left out first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, toml::Value>,
    /// Words of a text at most: longer ones are cut into several, of equal length.
    pub words: Option<usize>,
    /// The part of the records that is kept, by a hash of their text.
    pub part: Option<PartOf>,
    /// Leave out what is equal to an earlier record. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub distinct: bool,
    /// Write plain text as documents, a line `<|endoftext|>` behind each, also when it was read line by line. Default
    /// false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub documents: bool,
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

/// One part of records that are split by a hash of their text, as `irepair pairs` splits prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartOf {
    /// The part: `repair`, `valid` or `test`.
    pub keep: PartName,
    /// Share of all texts that are in `valid`.
    pub valid_share: f64,
    /// Share of all texts that are in `test`.
    pub test_share: f64,
}

/// A part of a set of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartName {
    /// For pairs, or for the KL term.
    #[default]
    Repair,
    /// For choosing settings.
    Valid,
    /// For results.
    Test,
}

/// True for a path that stays below the directory it is read in.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file of the first data directory that has it, with `.gz` behind its name where only that is there; a path in the
/// last directory where none has it.
pub fn stored<P: AsRef<Path>>(dirs: &[P], name: &str) -> PathBuf {
    let zipped = format!("{name}.gz");
    let mut places = dirs.iter().flat_map(|dir| [dir.as_ref().join(name), dir.as_ref().join(&zipped)]);
    let nowhere = || dirs.last().map_or_else(|| PathBuf::from(name), |dir| dir.as_ref().join(name));
    places.find(|path| path.is_file()).unwrap_or_else(nowhere)
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
        checks.clash(!is_inside(&self.file), "file", "must be a path below the data directory");
        checks.clash(self.what.is_empty(), "what", "is missing");
        let told = self.source.is_some() || !self.get.is_empty();
        checks.clash(!told, "get", "is missing: say how to get the file, or name its `source`");
        if let Some(cut) = &self.cut {
            checks.clash(cut.from.is_empty(), "cut.from", "is missing: name at least one file");
            let outside = cut.from.iter().any(|path| !is_inside(path));
            checks.clash(outside, "cut.from", "must be paths below the data directory");
            checks.count("cut.take", cut.take.map(|n| n as u64));
            checks.count("cut.words", cut.words.map(|n| n as u64));
            if let Some(part) = &cut.part {
                let shares = [part.valid_share, part.test_share];
                let fine = shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.iter().sum::<f64>() <= 1.0;
                checks.clash(!fine, "cut.part", "has shares that are not from 0 to 1, or are over 1 together");
            }
            let table = cut.from.iter().all(|path| path.trim_end_matches(".gz").ends_with(".csv"));
            let by_field = !cut.only.is_empty() || !cut.fields.is_empty();
            let has_fields = self.is_jsonl() || table;
            checks.clash(by_field && !has_fields, "cut", "reads fields, which only a .jsonl or .csv file has");
            let scalar = |value: &toml::Value| value.is_str() || value.is_integer() || value.is_bool();
            let any_of = |value: &toml::Value| value.as_array().is_some_and(|all| all.iter().all(scalar));
            let compared = cut.only.values().all(|value| scalar(value) || any_of(value));
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
    fn the_first_directory_that_has_a_file_wins() {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["a", "b"].map(|name| root.path().join(name));
        assert_eq!(stored(&dirs, "x.txt"), dirs[1].join("x.txt"), "nowhere");
        dirs.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        std::fs::write(dirs[1].join("x.txt"), "").unwrap();
        std::fs::write(dirs[0].join("x.txt.gz"), "").unwrap();
        assert_eq!(stored(&dirs, "x.txt"), dirs[0].join("x.txt.gz"));
        std::fs::write(dirs[0].join("x.txt"), "").unwrap();
        assert_eq!(stored(&dirs, "x.txt"), dirs[0].join("x.txt"));
    }

    #[test]
    fn a_cut_that_reads_fields_wants_records() {
        let only = BTreeMap::from([("toxic".to_owned(), toml::Value::Integer(1))]);
        let cut = Cut { from: vec!["a".into()], only, ..Cut::default() };
        assert!(DataFile { cut: Some(cut.clone()), ..file("a.jsonl") }.problems().is_empty());
        let said = DataFile { cut: Some(cut), ..file("a.txt") }.problems();
        assert_eq!(said[0].to_string(), "`cut`: reads fields, which only a .jsonl or .csv file has");
    }
}
