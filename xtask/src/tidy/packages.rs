//! Requirements of a crate that may be published, and unused dependencies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::readme;

/// Keys of `[package]` that come from the workspace.
const INHERITED: [&str; 8] =
    ["version", "edition", "rust-version", "license", "keywords", "categories", "include", "publish"];

/// Violations of the crate in `dir`.
pub(super) fn violations(dir: &Path, manifest: &toml::Table) -> Result<Vec<String>> {
    let sources = Sources::read(dir)?;
    let mut found = unused(manifest, &sources);
    if dir.join("src/lib.rs").exists() {
        found.extend(unpublishable(manifest));
        let packaged = sources.0.iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests"));
        let outside = packaged.filter(|(path, text)| reaches_outside(dir, path, text));
        found.extend(outside.map(|(path, _)| format!("{} reads a file outside the crate", path.display())));
        if readme::of_crate(dir)? != fs::read_to_string(dir.join("README.md")).unwrap_or_default() {
            found.push("README.md is not the head of src/lib.rs: run `cargo xtask config-docs`".to_owned());
        }
    }
    Ok(found)
}

/// Keys that are missing from a library's manifest.
fn unpublishable(manifest: &toml::Table) -> Vec<String> {
    let package = manifest.get("package").and_then(toml::Value::as_table);
    let get = |key: &str| package.and_then(|package| package.get(key));
    let inherits = |key: &str| get(key).and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool);
    let missing = INHERITED.into_iter().filter(|key| inherits(key) != Some(true));
    let mut found: Vec<String> = missing.map(|key| format!("[package] needs `{key}.workspace = true`")).collect();
    if get("description").and_then(toml::Value::as_str).is_none_or(str::is_empty) {
        found.push("[package] has no description".to_owned());
    }
    found
}

/// Dependencies that are there for their features alone.
const FOR_FEATURES: [&str; 1] = ["argmin-math"];

/// Dependencies whose name occurs in no source.
fn unused(manifest: &toml::Table, sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for kind in ["dependencies", "dev-dependencies"] {
        let names = manifest.get(kind).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        for name in names.filter(|name| !FOR_FEATURES.contains(&name.as_str())) {
            let ident = name.replace('-', "_");
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            // `irepair_core::errors!` derives with the caller's thiserror.
            let by_macro = |word: &str| name == "thiserror" && word == "errors";
            let uses = |text: &str| text.split(|c| !is_word(c)).any(|word| word == ident || by_macro(word));
            let mut texts = sources.0.iter().filter(|(path, _)| kind == "dev-dependencies" || path.starts_with("src"));
            if !texts.any(|(_, text)| uses(text)) {
                found.push(format!("{name} ({kind}) is not used"));
            }
        }
    }
    found
}

/// The Rust files of a crate, by their path in it.
struct Sources(Vec<(PathBuf, String)>);

impl Sources {
    fn read(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for part in ["src", "tests", "examples"] {
            if dir.join(part).is_dir() {
                super::collect(&dir.join(part), &mut files)?;
            }
        }
        files.retain(|path| path.extension().is_some_and(|end| end == "rs"));
        let mut sources = Vec::new();
        while let Some(path) = files.pop() {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let inside = path.strip_prefix(dir).map(Path::to_path_buf);
            // Modules of tests that crates share.
            if inside.is_ok() {
                let elsewhere = text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.split('"').next());
                files.extend(elsewhere.map(|module| path.with_file_name("").join(module)));
            }
            sources.push((inside.unwrap_or_else(|_| Path::new("tests").join(&path)), text));
        }
        Ok(Self(sources))
    }
}

/// Whether a file is included, or read from the manifest's directory, by a path that climbs out of the crate.
fn reaches_outside(dir: &Path, path: &Path, text: &str) -> bool {
    text.lines().any(|line| {
        let climbs = |from: &Path, rest: &str| {
            let rest = rest.split('"').nth(1).unwrap_or_default().trim_start_matches('/');
            let n_up = Path::new(rest).components().take_while(|part| part.as_os_str() == "..").count();
            n_up > from.strip_prefix(dir).map_or(0, |inside| inside.components().count())
        };
        let file = dir.join(path);
        let here = file.parent().unwrap_or(dir);
        let included = ["include_str!(", "include_bytes!(", "include!(", "#[path = "].iter();
        let mut included = included.filter_map(|macro_| Some(line.split_once(macro_)?.1));
        included.any(|rest| rest.starts_with('"') && climbs(here, rest))
            || line.split_once("\"CARGO_MANIFEST_DIR\")").is_some_and(|(_, rest)| climbs(dir, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_could_not_be_published_is_named() {
        let whole: String = INHERITED.iter().map(|key| format!("{key}.workspace = true\n")).collect();
        let check = |text: String| unpublishable(&text.parse().unwrap());
        assert_eq!(check(format!("[package]\ndescription = 'x'\n{whole}")), [""; 0]);
        assert_eq!(check(format!("[package]\n{whole}")), ["[package] has no description"]);
        let without = whole.replace("include.workspace = true\n", "");
        assert_eq!(
            check(format!("[package]\ndescription = 'x'\n{without}")),
            ["[package] needs `include.workspace = true`"]
        );
    }

    #[test]
    fn a_dependency_without_use_is_named() {
        let sources = Sources(vec![
            ("src/lib.rs".into(), "use serde_json::json;".into()),
            ("tests/t.rs".into(), "use insta::x; use half::f16;".into()),
        ]);
        let manifest = "[dependencies]\nserde-json = {}\nserde = {}\nhalf = {}\n[dev-dependencies]\ninsta = {}";
        let found = unused(&manifest.parse().unwrap(), &sources);
        assert_eq!(found, ["half (dependencies) is not used", "serde (dependencies) is not used"]);
    }

    #[test]
    fn a_path_out_of_the_crate_is_seen() {
        let check = |path: &str, line: &str| reaches_outside(Path::new("c"), Path::new(path), line);
        assert!(check("src/lib.rs", "include_str!(\"../../docs/a.md\")"));
        assert!(!check("src/a/b.rs", "include_str!(\"../c.txt\")"));
        assert!(check("src/a.rs", "concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../../parity/x\")"));
        assert!(!check("src/a.rs", "Path::new(env!(\"CARGO_MANIFEST_DIR\")).join(\"data\")"));
        assert!(!check("src/a.rs", "for bad in [\"../x\"]"));
    }
}
