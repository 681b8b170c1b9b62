//! The directory of a fix: where its files lie, what it was made of, and stages that are not repeated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use irepair_core::fs::{list, read_to_string, remove, write_atomic};
use irepair_core::is_temporary;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CliError;

/// Everything but the results, inside the output directory: a later `--choose` continues from it.
const WORK: &str = "work";
const MADE_FROM: &str = "made-from.json";
/// Begins the names of what judges said.
const VERDICTS: &str = "verdicts-";
/// Begins the names of what was measured on test prompts.
const MEASURED: &str = "measured-";

/// The directory of a fix.
pub(crate) struct Place {
    pub(crate) out: PathBuf,
}

impl Place {
    /// A file of the results.
    pub(crate) fn result(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A file of the work.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.out.join(WORK).join(name)
    }

    /// True once a stage has made something: the model's own answers are the first, and may have been removed since.
    pub(crate) fn has_begun(&self) -> bool {
        let names = list(&self.out.join(WORK)).unwrap_or_default();
        let mut names = names.iter().filter_map(|path| path.file_name()?.to_str());
        names.any(|name| name != MADE_FROM && !name.starts_with(VERDICTS) && !is_temporary(name))
    }

    /// The verdicts of a judge.
    pub(crate) fn verdicts(&self, judge: usize) -> PathBuf {
        self.work(&format!("{VERDICTS}{judge}.jsonl"))
    }

    /// The stage that measures a point on test prompts.
    pub(crate) fn measuring(preset: &str, step: u64) -> String {
        format!("{MEASURED}{preset}-{step}")
    }

    /// Points that were measured on test prompts.
    pub(crate) fn n_measured(&self) -> anyhow::Result<usize> {
        let names = list(&self.out.join(WORK))?;
        let names = names.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.filter(|name| name.starts_with(MEASURED) && name.ends_with(".json")).count())
    }

    /// The directory of a preset's run.
    pub(crate) fn run(&self, preset: &str) -> PathBuf {
        self.work("runs").join(preset)
    }

    /// Notes what this fix is made of, or refuses to continue one that was made of something else.
    ///
    /// # Errors
    /// `OtherFix` with the first part that differs.
    pub(crate) fn claim(&self, made_from: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let path = self.work(MADE_FROM);
        let note = || anyhow::Ok(write_atomic(&path, &serde_json::to_vec_pretty(made_from)?)?);
        if !path.exists() {
            std::fs::create_dir_all(self.out.join(WORK))?;
            return note();
        }
        let before: BTreeMap<String, String> = read(&path)?;
        // Nothing was made yet: a judge that failed may be corrected, other settings may be tried.
        if !self.has_begun() && before != *made_from {
            (0..2).try_for_each(|judge| remove(&self.verdicts(judge)))?;
            return note();
        }
        let names = made_from.keys().chain(before.keys());
        match names.into_iter().find(|name| made_from.get(*name) != before.get(*name)) {
            Some(name) => Err(CliError::OtherFix { out: self.out.clone(), what: name.clone() }.into()),
            None => Ok(()),
        }
    }

    /// What a stage made before, or makes now and keeps.
    pub(crate) fn stage<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.work(&format!("{name}.json"));
        if path.exists() {
            return read(&path);
        }
        let made = make()?;
        keep(&path, &made)?;
        Ok(made)
    }

    /// What `work` returns, and the seconds that the stage `name` took in it; not a number where it was made before.
    pub(crate) fn timed<T>(&self, name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
        let is_made = self.work(&format!("{name}.json")).exists();
        let started = Instant::now();
        let found = work()?;
        Ok((found, if is_made { f64::NAN } else { started.elapsed().as_secs_f64() }))
    }
}

/// Reads what [`keep`] wrote.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = read_to_string(path)?;
    let damaged = |why: serde_json::Error| CliError::DamagedWork { path: path.to_owned(), why: why.to_string() };
    Ok(serde_json::from_str(&text).map_err(damaged)?)
}

/// Writes what a stage made.
pub(crate) fn keep<T: Serialize>(path: &Path, made: &T) -> anyhow::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    Ok(write_atomic(path, &serde_json::to_vec(made)?)?)
}
