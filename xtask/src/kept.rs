//! Results that a profile keeps next to its settings, `experiments/<profile>/results/`: one small file a row, model and
//! seed. Tables are made from them without a run, and a fresh checkout continues where they end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_report::{RowResult, SensitivityResult};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::mask::Mask;
use crate::paths;

/// A result, and the work that it is of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Hash of the row's settings alone: what can be compared where there is neither data nor a model.
    pub(crate) settings: String,
    /// Hash of the files that it was measured on: rows that differ in it cannot stand in one table.
    pub(crate) measured_on: String,
    /// Hash of the pairs that it was trained on; empty in files of versions that did not write it.
    #[serde(default)]
    pub(crate) trained_on: String,
    /// Hash of settings, data, weights and the version of the numbers: work of the same identity is not run again.
    pub(crate) identity: String,
    pub(crate) result: RowResult,
}

/// What tables and report need besides rows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shared {
    /// Lines about the run: device, scorers, pairs.
    pub(crate) notes: Vec<String>,
    pub(crate) sensitivities: Vec<SensitivityResult>,
    /// By model, the hash of what they were measured from.
    #[serde(default)]
    pub(crate) sensitivities_from: BTreeMap<String, String>,
}

/// The directory of a profile's kept files, and the folder of it for one command's, which may be empty.
pub(crate) fn dir(profile: &str, under: &str) -> PathBuf {
    paths::root().join("experiments").join(profile).join("results").join(under)
}

/// Where and how the result of a row is kept.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Of the row.
    pub(crate) settings: Inputs,
    /// The files it is measured on.
    pub(crate) measured_on: Inputs,
    /// The pairs it is trained on.
    pub(crate) trained_on: Inputs,
    pub(crate) mask: Arc<Mask>,
}

impl Place {
    /// Keeps a finished row, unless it is kept already.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(crate) fn keep(&self, result: &RowResult, inputs: &Inputs) -> Result<()> {
        let result = self.mask.of(result);
        let Self { settings, measured_on, trained_on, .. } = self;
        let [settings, measured_on, trained_on, identity] =
            [settings, measured_on, trained_on, inputs].map(Inputs::key);
        put(&self.path, &Kept { settings, measured_on, trained_on, identity, result })
    }
}

/// A kept file; none when there is none, or one that this version cannot read: its work is repeated.
pub(crate) fn find<T: DeserializeOwned>(path: &Path) -> Option<T> {
    get(path).ok().flatten()
}

/// Writes a kept file, unless it holds the same already.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn put(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut json = serde_json::to_string(value)?;
    json.push('\n');
    if read_to_string(path).is_ok_and(|old| old == json) {
        return Ok(());
    }
    Ok(write_atomic(path, json.as_bytes()).map_err(diagnostic)?)
}

/// Reads a kept file; none when it does not exist.
///
/// # Errors
/// When it cannot be read, or is not of this form.
pub(crate) fn get<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_to_string(path).map_err(diagnostic)?;
    Ok(Some(serde_json::from_str(&text).map_err(|error| {
        let what = irepair_core::Diagnostic::new(irepair_core::ExitKind::Data, format!("no kept result: {error}"));
        what.at(path.display()).help("take the file back from version control, or remove it: its row is run again")
    })?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kept_file_comes_back_as_it_was_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        assert!(get::<Shared>(&path).unwrap().is_none());
        put(&path, &Shared { notes: vec!["profile p".to_owned()], ..Shared::default() }).unwrap();
        assert_eq!(get::<Shared>(&path).unwrap().unwrap().notes, ["profile p"]);
        fs::write(&path, "{\"notes\": [").unwrap();
        let error = get::<Shared>(&path).unwrap_err().to_string();
        assert!(error.contains("no kept result") && error.contains("report.json"), "{error}");
        assert!(find::<Kept>(&path).is_none(), "its row is run again");
    }

    /// A change of the guard would leave kept rows with choices that it no longer makes.
    #[test]
    fn kept_points_are_judged_by_the_guard_there_is() {
        let mut n_points = 0;
        for folder in ["", "tune"] {
            for path in irepair_core::fs::list(&super::dir("wild", folder)).unwrap() {
                let Some(Kept { result, .. }) = find::<Kept>(&path) else { continue };
                let details: Vec<_> = result.trajectory.iter().filter_map(|point| point.more).collect();
                for point in &details {
                    assert_eq!(point.passes, point.form.passes(&details[0].form), "{}", path.display());
                }
                n_points += details.len();
            }
        }
        assert!(n_points > 400, "{n_points}");
    }
}
