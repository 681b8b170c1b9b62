//! The README of each library: the first paragraph and the first example of its `src/lib.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use irepair_core::fs::{list, write_atomic};

use crate::error::diagnostic;
use crate::paths;

/// Writes the README of every library crate.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn write_all() -> Result<()> {
    for dir in list(&paths::root().join("crates")).map_err(diagnostic)? {
        if dir.join("src/lib.rs").exists() {
            write_atomic(&dir.join("README.md"), of_crate(&dir)?.as_bytes()).map_err(diagnostic)?;
        }
    }
    Ok(())
}

/// The README of the crate in `dir`, from its `src/lib.rs`.
///
/// # Errors
/// When `src/lib.rs` cannot be read.
pub(crate) fn of_crate(dir: &Path) -> Result<String> {
    let lib = dir.join("src/lib.rs");
    let text = fs::read_to_string(&lib).with_context(|| format!("reading {}", lib.display()))?;
    Ok(page(&dir.file_name().unwrap_or_default().to_string_lossy(), &text))
}

fn page(name: &str, lib: &str) -> String {
    let head: Vec<&str> = lib
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    // Links to items work only in rustdoc.
    let sentence = head.iter().take_while(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("\n");
    let sentence = sentence.replace("[`", "`").replace("`]", "`");
    let example = head.iter().skip_while(|line| !line.starts_with("```")).skip(1).take_while(|line| **line != "```");
    let shown = example.filter(|line| **line != "#" && !line.starts_with("# ")).copied().collect::<Vec<_>>().join("\n");
    format!("# {name}\n\n{sentence}\n\n```rust\n{shown}\n```\n\nPart of `irepair`, which repairs language models.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_head_of_the_library() {
        let lib = "//! Does [`X`].\n//! Well.\n//!\n//! ```no_run\n//! # use y;\n//! let x = 1;\n//! #\n//! ```\n//!\n//! More.\n\nmod x;\n";
        let want = "# a\n\nDoes `X`.\nWell.\n\n```rust\nlet x = 1;\n```\n\nPart of `irepair`, which repairs language models.\n";
        assert_eq!(page("a", lib), want);
    }
}
