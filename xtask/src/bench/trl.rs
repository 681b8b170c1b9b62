//! TRL, laid beside the peer's Python rather than into it: nothing else needs it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, process};

/// Where TRL lies, installed now unless it was before.
///
/// # Errors
/// What pip says.
pub(super) fn installed(python: &Path, home: &Path) -> Result<PathBuf> {
    let (list, place, stamp) = (paths::root().join("bench/trl.txt"), home.join("trl"), home.join("trl.txt"));
    let pins = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    if place.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == pins) {
        return Ok(place);
    }
    let _ = fs::remove_file(&stamp);
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    }
    let mut install = process::pip_install(python);
    process::run_quietly(install.arg("--target").arg(&place).arg("--requirement").arg(&list))?;
    fs::write(&stamp, pins).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(place)
}
