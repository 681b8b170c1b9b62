//! The output directory of a run: what it may already hold, its lock, and the state that a stopped run continues from.

use std::path::Path;

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
