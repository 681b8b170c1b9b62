//! `cargo xtask bundle`: a folder that runs a profile on another machine without network, Rust or git, such as one with
//! a GPU; and what it ran, taken back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_core::fs::{list, sha256_file, write_atomic};
use irepair_core::{Diagnostic, ExitKind};

use crate::error::diagnostic;
use crate::prepare::Prepared;
use crate::sources::Given;
use crate::{fetch, paths, process};

/// Settings of `bundle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of experiments/
    #[arg(long, default_value = "wild", value_name = "NAME")]
    profile: String,
    /// A new folder: copy it to the other machine and run `sh run.sh` there
    #[arg(long, value_name = "DIR", conflicts_with = "take")]
    out: Option<PathBuf>,
    /// The folder as it came back: its kept results and chosen rates are taken into experiments/
    #[arg(long, value_name = "DIR")]
    take: Option<PathBuf>,
    /// Take files back also where those here have changed since
    #[arg(long, requires = "take")]
    force: bool,
    #[command(flatten)]
    given: Given,
}

/// Needs nothing but a shell, and Python's torch of the version that the programs were built with.
const SCRIPT: &str = r#"#!/bin/sh
# Runs `cargo xtask` commands from this folder: no network, no Rust, no git. For example:
#   sh run.sh reproduce --profile @PROFILE@ --device cuda --workers 8
# TORCH_LIB names the folder of libtorch @VERSION@; without it, that of python3's torch.
here=$(cd "$(dirname "$0")" && pwd) && cd "$here" || exit 1
place='import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))'
lib=${TORCH_LIB:-$(python3 -c "$place")} || exit 1
export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export CARGO_MANIFEST_DIR="$here" IREPAIR_BIN="$here/bin/irepair" IREPAIR_COMMIT='@COMMIT@'
exec bin/xtask "$@"
"#;

/// In a bundle: the hashes of what it can bring back, as it was when the bundle was made.
const MADE_FROM: &str = ".made-from.json";

/// Runs it.
///
/// # Errors
/// Set-up, build and the stages that rows share; a folder that exists; files that cannot be read or written.
pub(crate) fn run(args: &Args) -> Result<()> {
    args.given.refuse_shards()?;
    match (&args.out, &args.take) {
        (Some(out), _) => make(args, out),
        (None, Some(from)) => take(&args.profile, from, args.force),
        (None, None) => {
            let what = Diagnostic::new(ExitKind::Usage, "neither --out nor --take is given");
            Err(what.help("--out DIR makes a bundle, --take DIR takes back what it ran").into())
        }
    }
}

fn make(args: &Args, out: &Path) -> Result<()> {
    if out.exists() {
        let what = Diagnostic::new(ExitKind::Usage, "the folder exists").at(out.display());
        return Err(what.help("name a new one, or remove it").into());
    }
    let prepared = Prepared::new(&args.profile, &args.given)?;
    // Made under another name: what is called so is whole.
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let made = out.with_file_name(format!(".{name}.{}", std::process::id()));
    let root = paths::root();
    // A profile reads the paper's numbers from its neighbour.
    for dir in ["data".to_owned(), "experiments/paper".to_owned(), format!("experiments/{}", args.profile)] {
        copy(&root.join(&dir), &made.join(&dir), &|_| true)?;
    }
    for source in prepared.sources.manifests.keys() {
        let dir = fetch::kept().join(source);
        if dir.is_dir() {
            copy(&dir, &made.join(".sources").join(source), &|_| true)?;
        }
    }
    // A model that is imported from a fetched file is imported there again: the file is smaller.
    let imported: Vec<PathBuf> = prepared
        .experiment
        .profile
        .models
        .iter()
        .filter(|m| m.gguf.is_some())
        .map(|m| prepared.base(&m.name))
        .collect();
    let runs = format!("runs/{}/prepared", args.profile);
    copy(&prepared.runs.join("prepared"), &made.join(runs), &|path| !imported.iter().any(|dir| dir == path))?;
    let programs = [("irepair", paths::irepair()), ("xtask", std::env::current_exe()?)];
    for (name, program) in programs {
        copy(&program, &made.join("bin").join(name), &|_| true)?;
    }
    let hashes = serde_json::to_vec(&hashes(&root.join("experiments").join(&args.profile))?)?;
    write_atomic(&made.join(MADE_FROM), &hashes).map_err(diagnostic)?;
    let commit = process::commit().unwrap_or_else(|| "unknown".to_owned());
    let script = SCRIPT.replace("@PROFILE@", &args.profile).replace("@VERSION@", crate::libtorch::VERSION);
    write_atomic(&made.join("run.sh"), script.replace("@COMMIT@", &commit).as_bytes()).map_err(diagnostic)?;
    fs::rename(&made, out).with_context(|| format!("moving the bundle to {}", out.display()))?;
    process::say(format!("bundle: {}", out.display()));
    let sources = &prepared.sources;
    let is_given = |path: &&PathBuf| !path.starts_with(fetch::kept()) && !path.starts_with(&prepared.runs);
    let mut given = sources.data_dirs.iter().chain(sources.data.values()).chain(sources.models.values());
    if let Some(first) = given.find(is_given) {
        process::say(format!(
            "it does not hold what was given, such as {}: copy that too, and name it there with --data and --model-dir",
            first.display()
        ));
    }
    Ok(())
}

/// Takes kept results, chosen rates and their page into this checkout.
fn take(profile: &str, from: &Path, force: bool) -> Result<()> {
    let there = from.join("experiments").join(profile);
    let here = paths::root().join("experiments").join(profile);
    if !there.join("profile.toml").is_file() {
        let what = Diagnostic::new(ExitKind::Data, "no bundle of this profile").at(from.display());
        return Err(what.want_got("experiments/PROFILE/profile.toml in it", "none").into());
    }
    // Without the hashes every difference counts as a change here.
    let before: Hashes =
        serde_json::from_slice(&fs::read(from.join(MADE_FROM)).unwrap_or_default()).unwrap_or_default();
    let (ours, theirs) = (hashes(&here)?, hashes(&there)?);
    let is_lost =
        |name: &&String| ours.get(*name).is_some_and(|own| theirs[*name] != *own && before.get(*name) != Some(own));
    let replaced: Vec<&String> = theirs.keys().filter(is_lost).collect();
    if let Some(first) = replaced.first().filter(|_| !force) {
        let what = format!("{} files here have changed since the bundle was made", replaced.len());
        let help = "nothing is taken: commit or remove what is here, or replace it with --force";
        return Err(Diagnostic::new(ExitKind::Usage, what).at(here.join(first).display()).help(help).into());
    }
    theirs.keys().try_for_each(|name| copy(&there.join(name), &here.join(name), &|_| true))
}

/// SHA-256 by path below the profile's folder.
type Hashes = BTreeMap<String, String>;

/// Of what a bundle brings back: kept results, chosen rates and their page.
fn hashes(profile: &Path) -> Result<Hashes> {
    let mut files = Vec::new();
    for name in ["learning-rates.toml", "learning-rates.md", "results"] {
        files_under(&profile.join(name), &mut files)?;
    }
    let hash = |file: &PathBuf| {
        let name = file.strip_prefix(profile)?.to_string_lossy().into_owned();
        Ok((name, sha256_file(file).map_err(diagnostic)?))
    };
    files.iter().map(hash).collect()
}

/// Adds a file, or the files in a folder and its folders; nothing where there is none.
fn files_under(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        return list(path).map_err(diagnostic)?.iter().try_for_each(|path| files_under(path, files));
    }
    files.extend(path.is_file().then(|| path.to_owned()));
    Ok(())
}

/// Copies a file, or a folder and what is in it that is `wanted`.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for path in list(from).map_err(diagnostic)?.iter().filter(|path| wanted(path)) {
            copy(path, &to.join(path.file_name().unwrap_or_default()), wanted)?;
        }
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_is_wanted_and_a_folder_of_another_kind_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("base/model")).unwrap();
        fs::write(from.join("base/model/weights"), "large").unwrap();
        fs::write(from.join("base/.model.inputs"), "small").unwrap();
        copy(&from, &to, &|path| path != from.join("base/model")).unwrap();
        assert_eq!(fs::read_to_string(to.join("base/.model.inputs")).unwrap(), "small");
        assert!(!to.join("base/model").exists());
        let named = |dir: &Path| hashes(dir).unwrap().into_keys().collect::<Vec<_>>();
        fs::create_dir_all(to.join("results/tune")).unwrap();
        fs::write(to.join("results/tune/a.json"), "{}").unwrap();
        fs::write(to.join("learning-rates.md"), "rates").unwrap();
        assert_eq!(named(&to), ["learning-rates.md", "results/tune/a.json"]);
        let error = take("wild", &to, false).unwrap_err().to_string();
        assert!(error.contains("no bundle of this profile"), "{error}");
    }
}
