//! The user's Python, and virtual environments made from it with pinned packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind};

use crate::{paths, process};

/// The Python that fetches wheels.
///
/// # Errors
/// When there is none from 3.10 to 3.14 with the modules venv and ensurepip.
pub fn find() -> Result<PathBuf> {
    let asked = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2], sys.executable)";
    let answer = process::output(process::command("python3").args(["-c", asked]));
    let refuse = |got: &str| {
        let diagnostic = Diagnostic::new(ExitKind::Device, "python3 cannot fetch what is needed")
            .want_got("CPython 3.10 to 3.14 with the modules venv and ensurepip", got)
            .help("on Debian and Ubuntu: apt-get install python3 python3-venv; for libtorch alone: set LIBTORCH to one of your own");
        anyhow::Error::from(diagnostic)
    };
    let answer = answer.ok_or_else(|| refuse("no such python3"))?;
    let (version, path) = answer.split_once(' ').ok_or_else(|| refuse(&answer))?;
    let minor = version.strip_prefix("3.").and_then(|minor| minor.parse::<u32>().ok());
    if !minor.is_some_and(|minor| (10..=14).contains(&minor)) {
        return Err(refuse(version));
    }
    Ok(PathBuf::from(path))
}

/// Makes a virtual environment of [`find`]'s Python and returns the Python in it.
///
/// # Errors
/// No Python, or its own error.
pub fn make_venv(dir: &Path) -> Result<PathBuf> {
    process::run_quietly(process::command(find()?).args(["-m", "venv"]).arg(dir))?;
    Ok(program(dir, "python"))
}

/// Path of a program of a virtual environment.
pub fn program(venv: &Path, name: &str) -> PathBuf {
    let dir = if cfg!(windows) { "Scripts" } else { "bin" };
    venv.join(dir).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// `pip install` of wheels alone, each with its hash, and of nothing that the list of requirements does not name.
pub fn pip_install(python: &Path) -> Command {
    let mut install = process::command(python);
    install.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]);
    install.args(["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile", "--no-cache-dir"]);
    install
}

/// `pip download` of one wheel alone, with its hash; for data, which any Python can read.
pub fn pip_download(python: &Path) -> Command {
    let mut download = process::command(python);
    download.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps"]);
    download.args(["--require-hashes", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir"]);
    download
}

/// The virtual environment `home/venv` with the packages of some lists (paths from the root); made again when a list
/// changes.
///
/// # Errors
/// No Python, a list that cannot be read, or what pip says.
pub fn environment(home: &Path, lists: &[&str]) -> Result<PathBuf> {
    let venv = home.join("venv");
    up_to_date(&venv, &home.join("pins.txt"), lists, || {
        let python = make_venv(&venv)?;
        let mut install = pip_install(&python);
        install_lists(&mut install, lists)
    })?;
    Ok(venv)
}

/// The packages of a list in a directory of their own, for a Python that has the rest; made again when the list
/// changes.
///
/// # Errors
/// A list that cannot be read, or a failure of pip.
pub fn packages(python: &Path, place: &Path, list: &str) -> Result<()> {
    up_to_date(place, &place.with_extension("txt"), &[list], || {
        let mut install = pip_install(python);
        install_lists(install.arg("--target").arg(place), &[list])
    })
}

fn install_lists(install: &mut Command, lists: &[&str]) -> Result<()> {
    for list in lists {
        install.arg("--requirement").arg(paths::root().join(list));
    }
    process::run_quietly(install)
}

/// Calls `make` unless `place` was made from the same lists: `stamp` holds their text.
fn up_to_date(place: &Path, stamp: &Path, lists: &[&str], make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut pins = String::new();
    for list in lists {
        pins += &fs::read_to_string(paths::root().join(list)).with_context(|| format!("reading {list}"))?;
    }
    if place.exists() && fs::read_to_string(stamp).is_ok_and(|made_from| made_from == pins) {
        return Ok(());
    }
    let _ = fs::remove_file(stamp);
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("removing {}", place.display()))?;
    }
    if let Some(home) = place.parent() {
        fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
    }
    make()?;
    fs::write(stamp, pins).with_context(|| format!("writing {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_made_once_per_list() {
        let home = tempfile::tempdir().unwrap();
        let (place, stamp, list) = (home.path().join("deep/venv"), home.path().join("deep/pins.txt"), "bench/trl.txt");
        let made = |expected: bool| {
            let mut called = false;
            up_to_date(&place, &stamp, &[list], || {
                called = true;
                Ok(fs::create_dir_all(&place)?)
            })
            .unwrap();
            assert_eq!(called, expected);
        };
        made(true);
        made(false);
        fs::write(&stamp, "another list").unwrap();
        made(true);
        fs::remove_dir(&place).unwrap();
        made(true);
        let failed = up_to_date(&place, &stamp, &["bench/trl.txt", "bench/peer.py"], || anyhow::bail!("no network"));
        assert!(failed.is_err());
        made(true);
    }
}
