//! Dependencies between crates: the arrows of ARCHITECTURE.md, checked against every Cargo.toml.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use irepair_core::fs::list;

use super::packages;
use crate::error::diagnostic;

/// Crates below the libtorch line, which build before set-up, and the crates of the workspace that each may depend on.
/// Lowest first. A new arrow is a design change.
const BELOW: [(&str, &str); 15] = [
    ("irepair-core", ""),
    ("irepair-arch", "core"),
    ("irepair-config", "arch core"),
    ("irepair-data", "core"),
    ("irepair-slicing", "core"),
    ("irepair-stats", "core"),
    ("irepair-patch", "core"),
    ("irepair-report", "core config stats"),
    ("irepair-scorer", "core data"),
    ("irepair-gguf", "core"),
    ("irepair-fault", "arch core"),
    ("irepair-ranks", "core"),
    ("irepair-workspace", "core"),
    ("irepair-lab", "core report workspace"),
    ("xtask", "arch core config stats report fault patch workspace"),
];

/// The crates above it.
const ABOVE: [(&str, &str); 11] = [
    ("irepair-torch", ""),
    ("irepair-model", "arch core ranks torch"),
    ("irepair-objective", "core torch"),
    ("irepair-sensitivity", "core model objective ranks"),
    ("irepair-train", "core data model objective ranks"),
    ("irepair-repair", "core data model objective ranks sensitivity slicing train"),
    ("irepair-baselines", "core data model objective train"),
    ("irepair-classifier", "arch core data model scorer train"),
    ("irepair-eval", "core data model objective scorer"),
    ("irepair-bench", "arch core data slicing torch model objective sensitivity train repair baselines eval"),
    (
        "irepair-cli",
        "arch core config data slicing stats patch report scorer gguf fault ranks model objective sensitivity train repair baselines \
         classifier eval",
    ),
];

/// Violations of all crates.
pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for dir in list(&root.join("crates")).map_err(diagnostic)?.into_iter().chain([root.join("xtask")]) {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = dir.join("Cargo.toml");
        let manifest = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: toml::Table = manifest.parse().with_context(|| format!("reading {}", path.display()))?;
        let of_crate = of_crate(&name, &manifest).into_iter().chain(packages::violations(&dir, &manifest)?);
        found.extend(of_crate.map(|what| format!("{name}: {what}")));
        if dir.join("src/lib.rs").exists() {
            let examples = list(&dir.join("examples")).unwrap_or_default();
            if !examples.iter().any(|path| path.extension().is_some_and(|end| end == "rs")) {
                found.push(format!("{name}: a library crate needs a runnable example in examples/"));
            }
        }
    }
    Ok(found)
}

/// Violations of one crate.
fn of_crate(name: &str, manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    if manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str) != Some(name) {
        found.push("the folder and the package have different names".to_owned());
    }
    let Some((_, allowed)) = BELOW.iter().chain(&ABOVE).find(|(known, _)| *known == name) else {
        found.push("has no arrows in xtask/src/tidy/arrows.rs".to_owned());
        return found;
    };
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        found.push("does not inherit the workspace's lints".to_owned());
    }
    for (kind, dependency) in dependencies(manifest) {
        if let Some(other) = dependency.strip_prefix("irepair-") {
            // Tests and examples may use any lower crate.
            let lower = kind == "dev-dependencies" && is_lower(dependency, name);
            if !allowed.split(' ').any(|allowed| allowed == other) && !lower {
                found.push(format!("may not depend on {dependency} ({kind})"));
            }
        }
        if ["tch", "torch-sys"].contains(&dependency) && is_below(name) {
            found.push(format!("is below the libtorch line and may not depend on {dependency}"));
        }
    }
    found
}

/// Whether `this` comes before `that` in the two tables.
fn is_lower(this: &str, that: &str) -> bool {
    let rank = |name: &str| BELOW.iter().chain(&ABOVE).position(|(known, _)| *known == name);
    rank(this) < rank(that)
}

fn is_below(name: &str) -> bool {
    BELOW.iter().any(|(known, _)| *known == name)
}

fn dependencies(manifest: &toml::Table) -> Vec<(&str, &str)> {
    ["dependencies", "build-dependencies", "dev-dependencies"]
        .into_iter()
        .filter_map(|kind| Some((kind, manifest.get(kind)?.as_table()?)))
        .flat_map(|(kind, table)| table.keys().map(move |name| (kind, name.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, dependencies: &str) -> Vec<String> {
        let head = format!("[package]\nname = '{name}'\n[lints]\nworkspace = true\n");
        of_crate(name, &(head + dependencies).parse().unwrap())
    }

    #[test]
    fn a_forbidden_arrow_is_named() {
        let found = check("irepair-eval", "[dependencies]\nirepair-train.workspace = true");
        assert_eq!(found, ["may not depend on irepair-train (dependencies)"]);
        let found = check("irepair-slicing", "[dependencies]\ntch.workspace = true");
        assert_eq!(found, ["is below the libtorch line and may not depend on tch"]);
        assert_eq!(check("irepair-new", "").len(), 1);
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_named() {
        let manifest = "[package]\nname = 'irepair-core'\n[lints.rust]\nmissing_docs = 'warn'".parse().unwrap();
        assert_eq!(of_crate("irepair-core", &manifest), ["does not inherit the workspace's lints"]);
    }

    #[test]
    fn tests_may_look_down_but_not_up() {
        assert!(check("irepair-train", "[dev-dependencies]\nirepair-slicing = {}").is_empty());
        assert_eq!(check("irepair-model", "[dev-dependencies]\nirepair-train = {}").len(), 1);
        assert_eq!(check("xtask", "[dev-dependencies]\nirepair-model = {}").len(), 1);
    }
}
