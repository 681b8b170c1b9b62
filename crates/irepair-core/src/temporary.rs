//! Temporary files. The process that writes one holds a lock on it, so that the next process can tell the files of a
//! dead process, which it removes, from those that are being written.

use std::fs::{self, File, TryLockError};
use std::io::Result;
use std::path::Path;

use tempfile::{Builder, TempPath};

const PREFIX: &str = ".irepair-";
const SUFFIX: &str = ".tmp";

/// True for the names of our temporary files.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// An empty file in `dir` with the mode of any new file, and the lock on it. Dropping the path removes the file; the
/// lock ends with the process.
pub(crate) fn create(dir: &Path) -> Result<(File, TempPath)> {
    loop {
        let mut builder = Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, path) = builder.tempfile_in(dir)?.into_parts();
        // On other systems a lock would keep this process itself from opening the file again.
        if cfg!(not(unix)) {
            return Ok((file, path));
        }
        // Another process may have removed the file before it was locked: then another one is made.
        match file.try_lock() {
            Ok(()) if path.exists() => return Ok((file, path)),
            // A file system without locks: no process removes files there.
            Err(TryLockError::Error(_)) => return Ok((file, path)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// Removes the temporary files of dead processes in `dir`. A file that cannot be removed stays; it does no harm.
pub(crate) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if cfg!(unix)
            && is_temporary(&entry.file_name().to_string_lossy())
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
    fn files_of_dead_processes_are_removed_and_files_being_written_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, living) = create(dir.path()).unwrap();
        fs::write(dir.path().join(".irepair-dead.tmp"), "half").unwrap();
        fs::write(dir.path().join("notes.tmp"), "not ours").unwrap();
        sweep(dir.path());
        assert!(living.exists());
        assert!(!dir.path().join(".irepair-dead.tmp").exists() && dir.path().join("notes.tmp").exists());
        // The lock ends with the process.
        drop(lock);
        let path = living.keep().unwrap();
        sweep(dir.path());
        assert!(!path.exists());
    }
}
