//! Paths in documents exist, and CHANGELOG agrees with the version of the numbers.

use std::path::{Path, PathBuf};

use irepair_config::{Metric, SOME_NUMBERS_CHANGED};
use irepair_core::NUMBERS_VERSION;

/// First parts of a path of this workspace.
const TOPS: [&str; 8] = ["crates/", "xtask/", "docs/", "experiments/", "parity/", "fuzz/", "bench/", "irepair-"];

/// Paths in backticks or links that do not exist; `file_names` are those of all sources.
pub(super) fn violations(root: &Path, name: &str, text: &str, file_names: &[String]) -> Vec<String> {
    let here = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let missing = named(line, here).into_iter().filter(|path| match path.to_str() {
            // The rest of a list of files: `crates/x/src/a.rs`, `b.rs`.
            Some(bare) if !bare.contains('/') => {
                !file_names.iter().any(|known| known == bare) && !root.join(bare).exists()
            }
            _ => !root.join(path).exists(),
        });
        found.extend(missing.map(|path| format!("line {}: `{}` does not exist", i + 1, path.display())));
    }
    found
}

/// Paths in a line: in backticks from the root, in links from `here`.
fn named(line: &str, here: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        let is_pattern = quoted.contains(|c: char| c.is_whitespace() || "<>*{}$=".contains(c));
        let bare_source = !quoted.contains('/') && quoted.ends_with(".rs");
        if !is_pattern && (bare_source || quoted.contains('/') && TOPS.iter().any(|top| quoted.starts_with(top))) {
            // A crate without the folder it is in; a line number after a colon.
            let quoted = quoted.split(':').next().unwrap_or_default();
            found.push(if quoted.starts_with("irepair-") { Path::new("crates").join(quoted) } else { quoted.into() });
        }
    }
    for link in line.split("](").skip(1) {
        let target = link.split([')', '#']).next().unwrap_or_default();
        if !target.is_empty() && !target.contains(':') && !target.contains(' ') {
            // `..` is the parent of the document's folder.
            let mut path = here.to_path_buf();
            for part in target.split('/') {
                if part == ".." {
                    path.pop();
                } else {
                    path.push(part);
                }
            }
            found.push(path);
        }
    }
    found
}

/// Violations: [`NUMBERS_VERSION`] is not the number of entries under *Numbers changed*, or a metric's own version is
/// not that of those that begin with its name under *Numbers changed, of locators alone*.
pub(super) fn numbers(changelog: &str) -> Vec<String> {
    let (all, of_locators) =
        (entries(changelog, "Numbers changed"), entries(changelog, "Numbers changed, of locators alone"));
    let mut found = Vec::new();
    let of_some = entries(changelog, "Numbers changed, of some rows alone").len();
    if of_some != SOME_NUMBERS_CHANGED.len() {
        let what = "SOME_NUMBERS_CHANGED in crates/irepair-config/src must say for which settings each holds";
        found.push(format!("CHANGELOG.md: {of_some} entries under *Numbers changed, of some rows alone*: {what}"));
    }
    let mut check = |n: usize, version: u32, what: &str| {
        if n != version as usize {
            found.push(format!("CHANGELOG.md: {n} entries under *Numbers changed{what}"));
        }
    };
    let must = "in crates/irepair-core/src must be their number, so that results are computed again";
    check(all.len(), NUMBERS_VERSION, &format!("*: NUMBERS_VERSION {must}"));
    for metric in Metric::ALL {
        let names = |entry: &&&str| entry.split(": ").next().is_some_and(|head| head.contains(&format!("`{metric}`")));
        let n = of_locators.iter().filter(names).count();
        check(n, metric.numbers_version(), &format!(", of locators alone* name `{metric}`: `numbers_version` {must}"));
    }
    found
}

/// First lines of the entries under a heading.
fn entries<'a>(changelog: &'a str, heading: &str) -> Vec<&'a str> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in changelog.lines() {
        if let Some(title) = line.strip_prefix("###") {
            inside = title.trim() == heading;
        }
        found.extend(line.strip_prefix("- ").filter(|_| inside));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_backticks_and_links() {
        let line = "`crates/a/src/b.rs`, `c.rs`, `irepair-x/src/d.rs:7`, `docs/<n>.md`, `a/b`, [it](../e.md#f), [no](mailto:x)";
        let want = ["crates/a/src/b.rs", "c.rs", "crates/irepair-x/src/d.rs", "e.md"].map(PathBuf::from);
        assert_eq!(named(line, Path::new("docs")), want);
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = crate::paths::root();
        let check = |text: &str| violations(&root, "README.md", text, &["main.rs".to_owned()]);
        assert_eq!(check("`xtask/src/main.rs` and `main.rs` and `crates/irepair-core`"), [""; 0]);
        assert_eq!(check("\n`xtask/src/gone.rs`"), ["line 2: `xtask/src/gone.rs` does not exist"]);
        assert_eq!(check("`gone.rs`"), ["line 1: `gone.rs` does not exist"]);
    }

    #[test]
    fn an_entry_without_a_version_is_named() {
        let entries = "- one\n  more of it\n".repeat(NUMBERS_VERSION as usize);
        let some = "- one\n".repeat(SOME_NUMBERS_CHANGED.len());
        let with = |some: &str, all: &str, of_locators: &str| {
            format!(
                "### Added\n- x\n### Numbers changed\n{all}### Numbers changed, of locators alone\n{of_locators}### Numbers \
                 changed, of some rows alone\n{some}### Fixed\n- y\n"
            )
        };
        let text = |all: &str, of_locators: &str| with(&some, all, of_locators);
        let of_locators = "- `patching`, `eap-ig`: like `mask`\n";
        assert_eq!(numbers(&text(&entries, of_locators)), [""; 0]);
        assert_eq!(numbers(&text("", of_locators)).len(), 1);
        assert_eq!(numbers(&with("", &entries, of_locators)).len(), 1);
        assert_eq!(numbers(&text(&entries, "")).len(), 2);
        let other = format!("{of_locators}- `mask`: other\n");
        assert!(
            numbers(&text(&entries, &other))[0]
                .contains("1 entries under *Numbers changed, of locators alone* name `mask`")
        );
    }
}
