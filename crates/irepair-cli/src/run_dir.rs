//! The output directory of a run: what it may already hold, its lock, and the state that a stopped run continues from.

use std::path::{Component, Path, PathBuf};

use irepair_core::fs::remove;
use irepair_core::{DirLock, is_temporary, is_unfinished, mark_unfinished, refuse_begun_by_another};

use crate::error::CliError;

/// The state of an unfinished run, inside the output directory.
pub(crate) const STATE: &str = ".irepair-state.safetensors";

/// Refuses an output directory that holds anything, unless a run of `maker` began to fill it and has not finished.
pub(crate) fn refuse_used(out: &Path, maker: &str) -> anyhow::Result<()> {
    refuse_begun_by_another(out, maker)?;
    if is_unfinished(out) || out.join(STATE).exists() {
        return Ok(());
    }
    if out.is_file() {
        return Err(CliError::OutExists { path: out.to_owned() }.into());
    }
    let names = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.file_name());
    // A file that a killed process was writing does not count.
    match names.map(|name| name.to_string_lossy().into_owned()).filter(|name| !is_temporary(name)).min() {
        Some(found) => Err(CliError::OutNotEmpty { path: out.to_owned(), found }.into()),
        None => Ok(()),
    }
}

/// Takes an output directory for this run: held against other processes, not another's, and marked until it is whole.
pub(crate) fn claim(out: &Path, maker: &str) -> anyhow::Result<DirLock> {
    let held = DirLock::take(out)?;
    // Looked at under the lock: another process may have filled the directory just before.
    refuse_used(out, maker)?;
    mark_unfinished(out, maker)?;
    Ok(held)
}

/// Removes the state of a run whose outputs are complete.
pub(crate) fn remove_state(out: &Path) -> irepair_core::Result<()> {
    remove(&out.join(STATE))
}

/// Refuses a patch file inside the output directory: a patch lists the files of that directory.
pub(crate) fn refuse_inside(patch: Option<&Path>, out: &Path) -> anyhow::Result<()> {
    let (Some(path), Some(out)) = (patch, resolved(out)) else { return Ok(()) };
    let parent = path.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    // A link there is a file of the directory; one elsewhere may lead into it.
    if [Some(path), parent].into_iter().flatten().filter_map(resolved).any(|found| found.starts_with(&out)) {
        return Err(CliError::PatchInside { path: path.to_owned() }.into());
    }
    Ok(())
}

/// A path without links and `..`: by the file system as far as there is something, and by its words from there on.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in std::path::absolute(path).ok()?.components() {
        if part == Component::ParentDir {
            found.pop();
            continue;
        }
        found.push(part);
        if let (Component::Normal(_), Ok(there)) = (part, found.canonicalize()) {
            found = there;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_inside_the_output_by_where_its_path_leads() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("there/deep")).unwrap();
        let is_inside = |patch: &str, out: &str| refuse_inside(Some(&at(patch)), &at(out)).is_err();
        for out in ["there", "not/yet", "there/../there"] {
            let name = out.split("/..").next().unwrap();
            assert!(is_inside(name, out) && is_inside(&format!("{name}/fix.patch"), out), "{out}");
            assert!(is_inside(&format!("{name}/deep/fix.patch"), out), "{out}");
            let last = name.rsplit('/').next().unwrap();
            assert!(is_inside(&format!("{name}/../{last}/fix.patch"), out), "{out}");
            assert!(!is_inside(&format!("{name}/../fix.patch"), out), "{out}");
            assert!(!is_inside(&format!("{name}.patch"), out), "{out}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("there", at("link")).unwrap();
            std::os::unix::fs::symlink("../outside.patch", at("there/linked.patch")).unwrap();
            assert!(is_inside("link/fix.patch", "there") && is_inside("there/fix.patch", "link"));
            assert!(is_inside("there/linked.patch", "there"), "a file of the directory that leads out of it");
            assert!(!is_inside("link/../fix.patch", "there"));
        }
        refuse_inside(None, &at("there")).unwrap();
    }
}
