//! What the build is made of: sources, licences and repeats by `deny.toml`, and known vulnerabilities where cargo-deny is.
//!
//! `check` does the first part itself: building cargo-deny would add more minutes to it than everything it finds here. The file
//! is cargo-deny's; where that is installed, `check` asks it too.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::stop::Stop;
use crate::{paths, process};

/// The part of `deny.toml` that is read here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// A package of `Cargo.lock`; one without a source is this workspace's.
#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
}

/// Checks where every package of `Cargo.lock` comes from and the licence of each that is built here; repeats are only said.
///
/// # Errors
/// Every package that `deny.toml` does not allow; `Cargo.lock` that is not there or out of date.
pub(crate) fn run() -> Result<()> {
    let read = |name: &str| fs::read_to_string(paths::root().join(name)).with_context(|| format!("reading {name}"));
    let policy: Policy = toml::from_str(&read("deny.toml")?).context("reading deny.toml")?;
    let lock: Lock = toml::from_str(&read("Cargo.lock")?).context("reading Cargo.lock")?;
    let metadata: Metadata = serde_json::from_str(&metadata()?).context("reading what cargo metadata says")?;
    let mut found = strangers(&lock.package);
    found.extend(unlicensed(&metadata.packages, &policy.licenses.allow));
    let repeats = repeats(&lock.package);
    say(&format!("{} packages; in more than one version: {}", lock.package.len(), repeats.join(", ")));
    if found.is_empty() {
        return if has_cargo_deny() {
            process::run(process::cargo().args(["deny", "check", "licenses", "bans", "sources"]))
        } else {
            say("cargo-deny is not installed and was not asked");
            Ok(())
        };
    }
    let list: String = found.iter().map(|what| format!("\n  - {what}")).collect();
    let what = format!("supply: what deny.toml does not allow{list}");
    Err(Stop(Diagnostic::new(ExitKind::Bug, what).help("replace them, or allow them in deny.toml and say why")).into())
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
    if !has_cargo_deny() {
        return Err(not_checked("cargo-deny is not installed", "cargo install cargo-deny --locked"));
    }
    process::run(process::cargo().args(["deny", "fetch", "db"]))
        .map_err(|_| not_checked("their database cannot be fetched", "run this where the network is"))?;
    process::run(process::cargo().args(["deny", "check", "--disable-fetch", "advisories"]))
}

fn has_cargo_deny() -> bool {
    process::output(process::cargo().args(["deny", "--version"])).is_some()
}

/// What cargo says of the packages built on this machine; `--locked` refuses a `Cargo.lock` that does not fit.
fn metadata() -> Result<String> {
    let version = process::output(process::command("rustc").arg("-vV")).context("asking rustc for its host")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", host];
    process::output(process::cargo().args(args)).context("cargo metadata --locked failed: is Cargo.lock up to date?")
}

/// Packages that come from elsewhere than the one registry, or without a hash.
fn strangers(packages: &[Locked]) -> Vec<String> {
    let allowed = |source: &str| source.starts_with("registry+") && source.ends_with("/crates.io-index");
    let outside = packages.iter().filter_map(|package| Some((package, package.source.as_deref()?)));
    outside
        .filter(|(package, source)| !allowed(source) || package.checksum.is_none())
        .map(|(Locked { name, version, .. }, source)| format!("{name} {version}: from {source}"))
        .collect()
}

/// Packages of others without a licence that is allowed.
fn unlicensed(packages: &[Package], allow: &[String]) -> Vec<String> {
    let is_allowed = |license: &str| {
        let expression = Expression::parse_mode(license, ParseMode::LAX);
        expression.is_ok_and(|e| e.evaluate(|wanted| allow.contains(&wanted.to_string())))
    };
    let others = packages.iter().filter(|package| package.source.is_some());
    others
        .filter(|package| !package.license.as_deref().is_some_and(is_allowed))
        .map(|Package { name, version, license, .. }| {
            format!("{name} {version}: {}", license.as_deref().unwrap_or("no licence"))
        })
        .collect()
}

/// Packages that are there in more than one version.
fn repeats(packages: &[Locked]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    packages.iter().for_each(|package| *counts.entry(&package.name).or_default() += 1);
    counts.into_iter().filter(|(_, n)| *n > 1).map(|(name, n)| format!("{name} ({n})")).collect()
}

#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
fn say(what: &str) {
    eprintln!("supply: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, source: &str, checksum: Option<&str>) -> Locked {
        let source = Some(source.to_owned()).filter(|source| !source.is_empty());
        Locked { name: name.into(), version: "1.0.0".into(), source, checksum: checksum.map(str::to_owned) }
    }

    #[test]
    fn a_package_comes_from_the_registry_with_a_hash_or_is_named() {
        let registry = "registry+scheme://index/crates.io-index";
        let packages = [
            locked("irepair-core", "", None),
            locked("serde", registry, Some("aa")),
            locked("bare", registry, None),
            locked("fork", "git+scheme://host/serde", None),
            locked("serde", registry, Some("bb")),
        ];
        let found = strangers(&packages);
        assert_eq!(found, [format!("bare 1.0.0: from {registry}"), "fork 1.0.0: from git+scheme://host/serde".into()]);
        assert_eq!(repeats(&packages), ["serde (2)"]);
    }

    #[test]
    fn a_licence_is_allowed_as_a_whole_or_named() {
        let allow = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let check = |license: Option<&str>| {
            let source = Some("registry".to_owned());
            let license = license.map(str::to_owned);
            unlicensed(&[Package { name: "x".into(), version: "1.0.0".into(), source, license }], &allow)
        };
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR X11) AND Unicode-3.0"] {
            assert!(check(Some(good)).is_empty(), "{good}");
        }
        assert!(check(Some("Apache-2.0 WITH LLVM-exception")).is_empty());
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "a licence of our own"] {
            assert_eq!(check(Some(bad)), [format!("x 1.0.0: {bad}")]);
        }
        assert_eq!(check(None), ["x 1.0.0: no licence"]);
    }
}
