//! `cargo xtask doctor`: one line per need, with the fix. Builds nothing.

use std::path::Path;

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::libtorch::{self, Build, VERSION};
use crate::{paths, process};

/// The oldest Rust the workspace builds with, from its Cargo.toml.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// What the build and a full set of planted runs take, in GB.
const DISK_GB: u64 = 8;

/// What was found of a need, or how to get it.
type Found = Result<String, String>;

/// Prints every need.
///
/// # Errors
/// When one is missing.
#[expect(clippy::print_stdout, reason = "the lines are the result")]
pub(crate) fn run() -> Result<()> {
    let needs = [
        ("rust", rust()),
        ("C++ compiler", compiler()),
        ("python3 + venv", python()),
        ("libtorch", libtorch()),
        ("NVIDIA driver", driver()),
        ("disk", disk()),
        ("irepair", binary()),
    ];
    for (name, found) in &needs {
        match found {
            Ok(found) => println!("ok       {name:<14} {found}"),
            Err(fix) => println!("missing  {name:<14} {fix}"),
        }
    }
    let n_missing = needs.iter().filter(|(_, found)| found.is_err()).count();
    if n_missing == 0 {
        return Ok(());
    }
    Err(Diagnostic::new(ExitKind::Device, format!("{n_missing} of {} needs are missing", needs.len())).into())
}

fn rust() -> Found {
    let found = process::output(process::command("rustc").arg("--version"));
    let new_enough = |text: &String| numbers(text.split(' ').nth(1).unwrap_or_default()) >= numbers(RUST);
    found.filter(new_enough).ok_or(format!("install Rust {RUST} or newer: rustup update"))
}

fn compiler() -> Found {
    let named = std::env::var("CXX").ok();
    let found = named.iter().map(String::as_str).chain(["c++", "g++", "clang++"]).find_map(|name| {
        let text = process::output(process::command(name).arg("--version"))?;
        text.lines().next().map(str::to_owned)
    });
    found.ok_or("Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install".into())
}

fn python() -> Found {
    let asked = "import sys, venv, ensurepip; print('Python', sys.version.split()[0], 'with venv')";
    match process::output(process::command("python3").args(["-c", asked])) {
        Some(found) => Ok(found),
        None if libtorch::inspect(&paths::libtorch()).is_some() => {
            Ok("not found; not needed, libtorch is there".into())
        }
        None => Err("Debian, Ubuntu: apt-get install python3 python3-venv".into()),
    }
}

fn libtorch() -> Found {
    let place = paths::libtorch();
    let via = match (paths::users_libtorch(), std::fs::read_link(&place)) {
        (Some(own), _) => format!("from LIBTORCH, {}", own.display()),
        (None, Ok(target)) => format!(".libtorch links to {}", target.display()),
        (None, Err(_)) => "in .libtorch".to_owned(),
    };
    let dir = paths::users_libtorch().unwrap_or_else(|| place.clone());
    match libtorch::inspect(&dir) {
        Some(found) if found.version != VERSION => {
            Err(format!("{} {via}, but {VERSION} is needed: unset LIBTORCH, then cargo xtask setup", found.version))
        }
        Some(_) if libtorch::inspect(&place).is_none() => {
            Err("programs look for it in .libtorch, which does not link to it: cargo xtask setup".into())
        }
        Some(found) => Ok(format!("{}, {} build, {via}", found.version, found.build)),
        None => Err("cargo xtask setup".to_owned()),
    }
}

fn driver() -> Found {
    let has_cuda = libtorch::inspect(&paths::libtorch()).is_some_and(|found| found.build == Build::Cuda);
    match libtorch::driver() {
        Some(version) if has_cuda => Ok(format!("{version}: --device cuda can be used")),
        Some(version) => Err(format!("{version} is installed, but libtorch is the CPU build: cargo xtask setup")),
        None => Ok("none: --device cpu only".into()),
    }
}

fn disk() -> Found {
    match free_gb(&paths::root()) {
        Some(free) if free < DISK_GB => {
            Err(format!("{free} GB free; the build and the planted runs need {DISK_GB} GB"))
        }
        Some(free) => Ok(format!("{free} GB free")),
        None => Ok("unknown: `df` gives no number".into()),
    }
}

/// Free space of the file system of `dir`, in GiB.
pub(crate) fn free_gb(dir: &Path) -> Option<u64> {
    let table = process::output(process::command("df").arg("-Pk").arg(dir))?;
    let kib: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / (1 << 20))
}

fn binary() -> Found {
    let path = paths::irepair();
    if !path.exists() {
        return Err("cargo build --release -p irepair-cli (`reproduce` does it)".to_owned());
    }
    process::output(process::command(&path).arg("--version"))
        .ok_or("does not start: cargo xtask setup, then cargo build --release -p irepair-cli".to_owned())
}

/// `1.95.0` as numbers that compare.
fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.95.0") >= numbers("1.88"));
        assert!(numbers("1.100.0-nightly") > numbers("1.99.1"));
        assert!(numbers("1.9.0") < numbers("1.88"));
    }
}
