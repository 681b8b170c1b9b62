//! Who may know whom: the arrows of ARCHITECTURE.md, checked against every Cargo.toml.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::packages;

/// Each crate and the crates of the workspace it may depend on, lowest first. A new arrow is a design change.
const ARROWS: [(&str, &[&str]); 23] = [
    ("irepair-core", &[]),
    ("irepair-arch", &["core"]),
    ("irepair-config", &["arch", "core"]),
    ("irepair-data", &["core"]),
    ("irepair-slicing", &["core"]),
    ("irepair-stats", &["core"]),
    ("irepair-patch", &["core"]),
    ("irepair-report", &["core", "config", "stats"]),
    ("irepair-scorer", &["core", "data"]),
    ("irepair-gguf", &["core"]),
    ("irepair-model", &["arch", "core"]),
    ("irepair-objective", &["core"]),
    ("irepair-sensitivity", &["core", "model", "objective"]),
    ("irepair-train", &["core", "data", "model", "objective"]),
    ("irepair-repair", &["core", "data", "model", "objective", "sensitivity", "slicing", "train"]),
    ("irepair-baselines", &["core", "data", "model", "objective", "train"]),
    ("irepair-classifier", &["arch", "core", "data", "model", "scorer", "train"]),
    ("irepair-eval", &["core", "data", "model", "objective", "scorer"]),
    (
        "irepair-bench",
        &[
            "arch",
            "core",
            "data",
            "slicing",
            "model",
            "objective",
            "sensitivity",
            "train",
            "repair",
            "baselines",
            "eval",
        ],
    ),
    (
        "irepair-cli",
        &[
            "core",
            "config",
            "data",
            "slicing",
            "stats",
            "patch",
            "report",
            "scorer",
            "gguf",
            "model",
            "objective",
            "sensitivity",
            "train",
            "repair",
            "baselines",
            "classifier",
            "eval",
        ],
    ),
    ("irepair-workspace", &["core"]),
    ("irepair-lab", &["core", "report", "workspace"]),
    ("xtask", &["core", "config", "stats", "report", "workspace"]),
];

/// Crates below the libtorch line: they must build where libtorch is not.
const BELOW_THE_LINE: [&str; 13] = [
    "irepair-core",
    "irepair-arch",
    "irepair-config",
    "irepair-data",
    "irepair-slicing",
    "irepair-stats",
    "irepair-patch",
    "irepair-report",
    "irepair-scorer",
    "irepair-gguf",
    "irepair-workspace",
    "irepair-lab",
    "xtask",
];

/// Violations of all crates.
pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut dirs = vec![root.join("xtask")];
    for entry in fs::read_dir(root.join("crates")).context("listing crates/")? {
        dirs.push(entry?.path());
    }
    dirs.sort();
    let mut found = Vec::new();
    for dir in dirs {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = dir.join("Cargo.toml");
        let manifest = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: toml::Table = manifest.parse().with_context(|| format!("reading {}", path.display()))?;
        let of_crate = of_crate(&name, &manifest).into_iter().chain(packages::violations(&dir, &manifest)?);
        found.extend(of_crate.map(|what| format!("{name}: {what}")));
        if dir.join("src/lib.rs").exists() {
            let mut examples = fs::read_dir(dir.join("examples")).into_iter().flatten();
            if !examples.any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|end| end == "rs"))) {
                found.push(format!("{name}: a library crate wants a runnable example in examples/"));
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
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        found.push("has no arrows in xtask/src/tidy/arrows.rs".to_owned());
        return found;
    };
    if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
        found.push("does not take the workspace's lints".to_owned());
    }
    for (kind, dependency) in dependencies(manifest) {
        if let Some(other) = dependency.strip_prefix("irepair-") {
            // Tests and examples may look at anything lower; what ships may not.
            let lower = kind == "dev-dependencies" && is_lower(dependency, name);
            if !allowed.contains(&other) && !lower {
                found.push(format!("may not depend on {dependency} ({kind})"));
            }
        }
        if ["tch", "torch-sys"].contains(&dependency) && BELOW_THE_LINE.contains(&name) {
            found.push(format!("is below the libtorch line and may not depend on {dependency}"));
        }
    }
    found
}

/// Whether `this` comes before `that` in [`ARROWS`], and does not pull libtorch below the line.
fn is_lower(this: &str, that: &str) -> bool {
    let rank = |name: &str| ARROWS.iter().position(|(known, _)| *known == name);
    rank(this) < rank(that) && (BELOW_THE_LINE.contains(&this) || !BELOW_THE_LINE.contains(&that))
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
        assert_eq!(of_crate("irepair-core", &manifest), ["does not take the workspace's lints"]);
    }

    #[test]
    fn tests_may_look_down_but_not_up() {
        assert!(check("irepair-train", "[dev-dependencies]\nirepair-slicing = {}").is_empty());
        assert_eq!(check("irepair-model", "[dev-dependencies]\nirepair-train = {}").len(), 1);
        assert_eq!(check("xtask", "[dev-dependencies]\nirepair-model = {}").len(), 1);
    }
}
