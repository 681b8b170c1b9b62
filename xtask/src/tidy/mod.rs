//! `cargo xtask tidy`: rules that the compiler does not check. Also a test, so that plain `cargo test` runs it.

mod arrows;
mod cycles;
mod docs;
mod packages;
mod text;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_core::fs::list;
use irepair_core::{Diagnostic, ExitKind};

use crate::error::diagnostic;
use crate::paths;

/// Settings of `tidy`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Also words to avoid, and comments over 120 columns
    #[arg(long)]
    words: bool,
}

/// Checks crate arrows, packages and every text file.
///
/// # Errors
/// Listing all violations.
pub(crate) fn run(args: &Args) -> Result<()> {
    let found = violations(&paths::root(), args.words || words::ENFORCED)?;
    if found.is_empty() {
        return Ok(());
    }
    let list: String = found.iter().map(|violation| format!("\n  - {violation}")).collect();
    Err(Diagnostic::new(ExitKind::Bug, format!("tidy: {} violations{list}", found.len())).into())
}

/// Every violation, as `file: what`.
fn violations(root: &Path, with_words: bool) -> Result<Vec<String>> {
    let mut found = arrows::violations(root)?;
    let (mut files, mut imports) = (Vec::new(), cycles::Imports::default());
    collect(root, &mut files)?;
    let file_name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let file_names: Vec<String> = files.iter().filter_map(file_name).collect();
    for path in files {
        // Files that are not UTF-8 are data.
        if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let mut of_file = text::violations(&name, &text);
            if name.ends_with(".md") {
                of_file.extend(docs::violations(root, &name, &text, &file_names));
            }
            if with_words {
                of_file.extend(words::violations(&name, &text));
            }
            imports.add(&name, &text);
            if name == "CHANGELOG.md" {
                found.extend(docs::numbers(&text));
            }
            found.extend(of_file.into_iter().map(|what| format!("{name}: {what}")));
        }
    }
    found.extend(imports.violations());
    Ok(found)
}

/// Sources and documents below `dir`: no build output, no results, no hidden directories but the project's own.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in list(dir).map_err(diagnostic)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&name.as_str());
        let made = ["target", "runs", "__pycache__"].contains(&name.as_str());
        if hidden || made || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if ["rs", "toml", "md", "py", "sh", "txt", "html", "run"]
            .iter()
            .any(|end| name == *end || name.ends_with(&format!(".{end}")))
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let found = violations(&paths::root(), words::ENFORCED).unwrap();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
