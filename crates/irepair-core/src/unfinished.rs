//! The mark of a directory that a command is filling: its contents are not finished, and no other command's.

use std::path::{Path, PathBuf};

use crate::fs::{list, remove, write_atomic};
use crate::{Error, Result, is_temporary};

/// The file that marks a directory from the first step of filling it to the last.
const MARK: &str = ".irepair-unfinished";

/// True when a command has begun to fill `dir` and has not finished.
pub fn is_unfinished(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Marks `dir`, which is made when it is not there.
///
/// # Errors
/// Those of [`write_atomic`].
pub fn mark_unfinished(dir: &Path) -> Result<()> {
    if is_unfinished(dir) { Ok(()) } else { write_atomic(&dir.join(MARK), b"") }
}

/// Removes the mark: the directory is whole.
///
/// # Errors
/// Those of [`remove`].
pub fn mark_finished(dir: &Path) -> Result<()> {
    remove(&dir.join(MARK))
}

/// Refuses an output directory that holds anything, except what a killed command left: its mark or temporary files.
///
/// # Errors
/// [`Error::OutExists`]; [`Error::Io`] when the directory cannot be read.
pub fn refuse_used(dir: &Path) -> Result<()> {
    let used = || Error::OutExists { path: dir.to_owned() };
    if dir.symlink_metadata().is_ok() && !dir.is_dir() {
        return Err(used());
    }
    if !dir.exists() || is_unfinished(dir) {
        return Ok(());
    }
    let ours = |path: &PathBuf| is_temporary(&path.file_name().unwrap_or_default().to_string_lossy());
    if list(dir)?.iter().all(ours) { Ok(()) } else { Err(used()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_unfinished_while_it_is_marked() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("model");
        assert!(!is_unfinished(&dir));
        mark_unfinished(&dir).unwrap();
        assert!(is_unfinished(&dir));
        mark_finished(&dir).unwrap();
        assert!(!is_unfinished(&dir));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }
}
