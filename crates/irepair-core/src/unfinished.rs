//! The mark of a directory that a command has not filled yet: what lies in it is no finished work, and nobody else's.

use std::path::Path;

use crate::Result;
use crate::fs::{remove, write_atomic};

/// Stands in the directory from the first step of filling it to the last.
const MARK: &str = ".irepair-unfinished";

/// True when a command has begun to fill `dir` and not ended.
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

/// Takes the mark away: the directory is whole.
///
/// # Errors
/// Those of [`remove`].
pub fn mark_finished(dir: &Path) -> Result<()> {
    remove(&dir.join(MARK))
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
