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

/// Marks `dir`, which is made when it is not there, as what `maker` fills: the command, and what it works on where it
/// writes all of it.
///
/// # Errors
/// Those of [`write_atomic`].
pub fn mark_unfinished(dir: &Path, maker: &str) -> Result<()> {
    if is_unfinished(dir) { Ok(()) } else { write_atomic(&dir.join(MARK), maker.as_bytes()) }
}

/// Refuses a directory that another maker has begun to fill: what it left would stand next to what this one writes.
/// A mark without a maker is of an earlier version, and anyone's.
///
/// # Errors
/// [`Error::BegunByAnother`].
pub fn refuse_begun_by_another(dir: &Path, maker: &str) -> Result<()> {
    match std::fs::read_to_string(dir.join(MARK)) {
        Ok(other) if !other.is_empty() && other != maker => Err(Error::BegunByAnother { path: dir.to_owned(), other }),
        _ => Ok(()),
    }
}

/// Removes the mark: the directory is whole.
///
/// # Errors
/// Those of [`remove`].
pub fn mark_finished(dir: &Path) -> Result<()> {
    remove(&dir.join(MARK))
}

/// Refuses an output directory that holds anything, except what a killed command of the same maker left: its mark or
/// temporary files.
///
/// # Errors
/// [`Error::OutExists`]; [`Error::BegunByAnother`]; [`Error::Io`] when the directory cannot be read.
pub fn refuse_used(dir: &Path, maker: &str) -> Result<()> {
    let used = || Error::OutExists { path: dir.to_owned() };
    if dir.symlink_metadata().is_ok() && !dir.is_dir() {
        return Err(used());
    }
    if !dir.exists() || is_unfinished(dir) {
        return refuse_begun_by_another(dir, maker);
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
        mark_unfinished(&dir, "irepair repair").unwrap();
        assert!(is_unfinished(&dir));
        refuse_used(&dir, "irepair repair").unwrap();
        let error = refuse_used(&dir, "irepair pretrain").unwrap_err();
        assert!(matches!(&error, Error::BegunByAnother { other, .. } if other == "irepair repair"), "{error}");
        std::fs::write(dir.join(MARK), "").unwrap();
        refuse_used(&dir, "irepair pretrain").unwrap();
        mark_finished(&dir).unwrap();
        assert!(!is_unfinished(&dir));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }
}
