//! Paths in documents exist, and CHANGELOG agrees with the version of the numbers.

use std::path::{Path, PathBuf};

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

/// A violation when [`NUMBERS_VERSION`] is not the number of entries under *Numbers changed*.
pub(super) fn numbers(changelog: &str) -> Option<String> {
    let (mut inside, mut n) = (false, 0);
    for line in changelog.lines() {
        if line.starts_with('#') {
            inside = line.ends_with("Numbers changed");
        }
        n += u32::from(inside && line.starts_with("- "));
    }
    let what =
        "entries under *Numbers changed*: NUMBERS_VERSION in crates/irepair-core/src/lib.rs must be their number";
    (n != NUMBERS_VERSION).then(|| format!("CHANGELOG.md: {n} {what}, so that rows are computed again"))
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
        assert!(numbers("### Numbers changed\n").is_some());
        let entries = "- one\n  more of it\n".repeat(NUMBERS_VERSION as usize);
        assert_eq!(numbers(&format!("### Added\n- x\n### Numbers changed\n{entries}### Fixed\n- y\n")), None);
    }
}
