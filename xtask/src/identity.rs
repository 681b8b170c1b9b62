//! The identity of a row's result: its settings, the files it reads, and the version of the numbers that `irepair`
//! reports.
//!
//! The program's own hash is no part of it: a changed help text changes no number, so that finished rows stay valid.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{EvalOptions, Job, RepairOptions};
use irepair_core::fs::{list, sha256_file};
use irepair_core::{Diagnostic, ExitKind, NUMBERS_VERSION};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::process;

/// Hashes of files that many rows share, each computed once.
#[derive(Default)]
pub(crate) struct Hashes(BTreeMap<PathBuf, String>);

impl Hashes {
    /// Adds a file's bytes to a row's inputs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn add_file(&mut self, inputs: Inputs, file: PathBuf) -> Result<Inputs> {
        let hash = match self.0.entry(file) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let hash = sha256_file(new.key()).map_err(diagnostic)?;
                new.insert(hash)
            }
        };
        Ok(inputs.hash(hash))
    }

    /// Adds every file that a row's settings name, and of a directory every file in it. Outputs are left out, the base
    /// model, whose weights are hashed by `Prepared::with_weights`, and what a row without training does not read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn add(&mut self, inputs: Inputs, job: &Job) -> Result<Inputs> {
        let (mut files, mut skipped) = (Vec::new(), vec!["model", "reference", "out", "patch"]);
        if job.repair.method.is_some_and(|method| !method.trains()) {
            skipped.extend(["pairs", "utility", "general"]);
        }
        let watched = job.watch.iter().map(|watch| toml::Value::try_from(&watch.eval));
        let relearn = job.relearn.iter().map(toml::Value::try_from);
        let options = [toml::Value::try_from(&job.repair), toml::Value::try_from(&job.eval)];
        for options in options.into_iter().chain(watched).chain(relearn) {
            let options = options?;
            let keys = options.as_table().into_iter().flatten();
            for (_, value) in keys.filter(|(key, _)| !skipped.contains(&key.as_str())) {
                named_files(value, &mut files)?;
            }
        }
        files.into_iter().try_fold(inputs, |inputs, file| self.add_file(inputs, file))
    }

    /// The bytes of the pairs that a row is trained on; nothing where it trains nothing.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn trained(&mut self, job: &Job) -> Result<Inputs> {
        let pairs = job.repair.pairs.clone().filter(|_| job.repair.method().trains());
        pairs.map_or_else(|| Ok(Inputs::default()), |pairs| self.add_file(Inputs::default(), pairs))
    }

    /// The bytes of every file that a row is measured on, but not of the scorer that chooses among samples: the same
    /// for all rows that can stand in one table.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn measured(&mut self, job: &Job) -> Result<Inputs> {
        let eval = EvalOptions { judge: None, ..job.eval.clone() };
        self.add(
            Inputs::default(),
            &Job { repair: RepairOptions::default(), watch: None, relearn: None, eval, ..job.clone() },
        )
    }
}

/// A row's settings and the version of the numbers, without what does not bear on its numbers: its title, where files
/// lie (their bytes are hashed), the machine's threads and device, and where the run pauses.
///
/// # Errors
/// When the job has no TOML form.
pub(crate) fn settings(job: &Job) -> Result<Inputs> {
    let mut value = toml::Value::try_from(Job { title: String::new(), ..job.clone() })?;
    forget_places(&mut value);
    let all = Inputs::default().text(&value.to_string()).text(&format!("numbers {NUMBERS_VERSION}"));
    // Rows of other settings keep the identity that they had before there was such an entry.
    Ok(match job.numbers_version() {
        0 => all,
        of_some => all.text(&format!("numbers of some {of_some}")),
    })
}

fn forget_places(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) if is_path(text) => "file".clone_into(text),
        toml::Value::Array(values) => values.iter_mut().for_each(forget_places),
        toml::Value::Table(table) => {
            table.retain(|key, _| !["device", "threads", "pause_at"].contains(&key));
            table.iter_mut().for_each(|(_, value)| forget_places(value));
        }
        _ => {}
    }
}

/// A plain word is not taken for a path, even if a file of that name exists.
fn is_path(text: &str) -> bool {
    text.contains(['/', '\\'])
}

/// Files that a value names, in a fixed order.
fn named_files(value: &toml::Value, files: &mut Vec<PathBuf>) -> Result<()> {
    for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
        let path = Path::new(value.as_str().filter(|text| is_path(text)).unwrap_or_default());
        if path.is_file() {
            files.push(path.to_owned());
        } else if path.is_dir() {
            files.extend(list(path).map_err(diagnostic)?.into_iter().filter(|path| path.is_file()));
        }
    }
    Ok(())
}

/// The version of the numbers that a built `irepair` reports, from `irepair --version`: `irepair 0.1.0 (numbers 7)`.
///
/// # Errors
/// A program that does not start, or does not print one.
pub(crate) fn numbers(program: &Path) -> Result<Inputs> {
    let said = process::output(process::command(program).arg("--version")).unwrap_or_default();
    let version = said.split_once("(numbers ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse::<u32>().ok());
    let missing = || {
        let what = Diagnostic::new(ExitKind::Device, "the program does not print which version its numbers have");
        let help = "cargo build --release -p irepair-cli, or set IREPAIR_BIN to a program of this version";
        what.at(program.display()).want_got("irepair VERSION (numbers N)", &said).help(help)
    };
    Ok(Inputs::default().text(&format!("numbers {}", version.ok_or_else(missing)?)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use irepair_config::{Method, Watch};

    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_row_depends_on_the_numbers_of_a_program_and_not_on_its_help() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, help: &str, version: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n# {help}\necho 'irepair {version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            numbers(&path)
        };
        let first = of("one", "old help", "0.1.0 (numbers 7)").unwrap();
        assert_eq!(of("two", "new help", "0.2.0 (numbers 7)").unwrap(), first);
        assert_ne!(of("three", "old help", "0.1.0 (numbers 8)").unwrap(), first);
        let error = of("four", "older", "0.1.0").unwrap_err().to_string();
        assert!(error.contains("does not print which version"), "{error}");
    }

    #[test]
    fn settings_are_the_same_wherever_files_lie_and_on_every_machine() {
        let of = |place: &str, more: &str| {
            let text = format!(
                "profile = 'p'\nmethod = 'm'\ntitle = 't'\nmodel = 'g'\n[repair]\npairs = '{place}/pairs.jsonl'\n{more}\n[eval]\n"
            );
            settings(&toml::from_str(&text).unwrap()).unwrap()
        };
        let first = of("/a", "lr = 1e-4");
        assert_eq!(of("/b/c", "lr = 1e-4\nthreads = 8\ndevice = 'cuda'"), first);
        assert_ne!(of("/a", "lr = 1e-5"), first);
        let mut job: Job =
            toml::from_str("profile = 'p'\nmethod = 'm'\ntitle = 't'\nmodel = 'g'\n[repair]\n[eval]").unwrap();
        let before = settings(&job).unwrap();
        job.title = "another name in tables".to_owned();
        assert_eq!(settings(&job).unwrap(), before);
    }

    #[test]
    fn a_row_depends_on_every_file_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            Some(path)
        };
        let mut job: Job =
            toml::from_str("profile = 'p'\nmethod = 'm'\ntitle = 't'\nmodel = 'g'\n[repair]\n[eval]").unwrap();
        job.repair.pairs = path("pairs");
        let eval = EvalOptions { wikitext: path("watched"), ..EvalOptions::default() };
        job.watch = Some(Watch { eval, ..Watch::default() });
        job.eval.clean_prompts = path("clean");
        job.eval.more_prompts = path("more").map(|path| vec![path]);
        fs::create_dir(dir.path().join("scorer")).unwrap();
        path("scorer/model.safetensors");
        job.eval.scorer = Some(vec![dir.path().join("scorer").into()]);
        let inputs = |job: &Job| Hashes::default().add(Inputs::default(), job).unwrap();
        let before = inputs(&job);
        assert_eq!(inputs(&job), before);
        for name in ["pairs", "watched", "clean", "more", "scorer/model.safetensors"] {
            fs::write(dir.path().join(name), "changed").unwrap();
            assert_ne!(inputs(&job), before, "{name}");
            fs::write(dir.path().join(name), name).unwrap();
        }
        let measured = |job: &Job| Hashes::default().measured(job).unwrap();
        let on = measured(&job);
        fs::write(dir.path().join("pairs"), "changed").unwrap();
        assert_eq!(measured(&job), on, "pairs train, and measure nothing");
        fs::write(dir.path().join("pairs"), "pairs").unwrap();
        fs::write(dir.path().join("clean"), "changed").unwrap();
        assert_ne!(measured(&job), on);
        fs::write(dir.path().join("clean"), "clean").unwrap();
        job.repair.model = Some(dir.path().join("scorer"));
        assert_eq!(inputs(&job), before, "weights are hashed elsewhere");
        job.repair.method = Some(Method::Vanilla);
        let before = inputs(&job);
        fs::write(dir.path().join("pairs"), "changed").unwrap();
        assert_eq!(inputs(&job), before, "nothing is trained on them");
    }
}
