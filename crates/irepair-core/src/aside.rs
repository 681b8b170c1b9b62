//! Files being written aside. The process that writes one holds a lock on it, so that what a killed process left is told
//! from what another one is writing just now, and swept.

use std::fs::{self, File, TryLockError};
use std::io::Result;
use std::path::Path;

use tempfile::{Builder, TempPath};

const PREFIX: &str = ".irepair-";
const SUFFIX: &str = ".tmp";

/// True for the names that files written aside have.
pub fn is_aside(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// An empty file in `dir`, and the lock on it; the file goes when its path is dropped, the lock when the process ends.
pub(crate) fn create(dir: &Path) -> Result<(File, TempPath)> {
    loop {
        let (file, path) = Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(dir)?.into_parts();
        // Elsewhere a lock would keep this process itself from opening the file again.
        if cfg!(not(unix)) {
            return Ok((file, path));
        }
        // Before it was locked it may have been taken for one of a dead process: then another is made.
        match file.try_lock() {
            Ok(()) if path.exists() => return Ok((file, path)),
            // A file system without locks: nobody can sweep there either.
            Err(TryLockError::Error(_)) => return Ok((file, path)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// Removes what processes that are gone were writing in `dir`. What cannot be removed stays: it is in nobody's way.
pub(crate) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if cfg!(unix)
            && is_aside(&entry.file_name().to_string_lossy())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_is_being_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, living) = create(dir.path()).unwrap();
        fs::write(dir.path().join(".irepair-dead.tmp"), "half").unwrap();
        fs::write(dir.path().join("notes.tmp"), "not ours").unwrap();
        sweep(dir.path());
        assert!(living.exists());
        assert!(!dir.path().join(".irepair-dead.tmp").exists() && dir.path().join("notes.tmp").exists());
        // Its process gone, the lock is too.
        drop(lock);
        let path = living.keep().unwrap();
        sweep(dir.path());
        assert!(!path.exists());
    }
}
