//! One process at a time in a directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::{Error, Result};

/// A lock on a directory, held until dropped. It is no file: the system releases it when the process ends, however it
/// ends.
#[derive(Debug)]
pub struct DirLock {
    _dir: Option<File>,
}

impl DirLock {
    /// Locks `dir`, which is made when it is not there. Where a file system has no locks, this does nothing.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process holds it; [`Error::Io`] when it cannot be made or opened.
    pub fn take(dir: &Path) -> Result<Self> {
        Self::by(dir, File::try_lock)
    }

    /// [`DirLock::take`] together with others that share it: it keeps out those that want the directory alone.
    ///
    /// # Errors
    /// As [`DirLock::take`].
    pub fn share(dir: &Path) -> Result<Self> {
        Self::by(dir, File::try_lock_shared)
    }

    fn by(dir: &Path, lock: impl Fn(&File) -> std::result::Result<(), TryLockError>) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create directory", dir))?;
        let handle = File::open(dir).map_err(Error::io("open", dir))?;
        match lock(&handle) {
            Ok(()) => Ok(Self { _dir: Some(handle) }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(_)) => Ok(Self { _dir: None }),
        }
    }

    /// Waits until no process holds `dir`; returns at once when it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened.
    pub fn wait(dir: &Path) -> Result<()> {
        if dir.is_dir() {
            // Where a file system has no locks there is nothing to wait for.
            let _ = File::open(dir).map_err(Error::io("open", dir))?.lock();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Diagnose;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/run");
        let first = DirLock::take(&dir).unwrap();
        let refused = DirLock::take(&dir).unwrap_err().diagnostic().to_string();
        assert!(refused.starts_with("error: another process works in this directory"), "{refused}");
        drop(first);
        DirLock::wait(&dir).unwrap();
        let [one, two] = [(), ()].map(|()| DirLock::share(&dir).unwrap());
        assert!(DirLock::take(&dir).is_err(), "it is shared");
        drop((one, two));
        let alone = DirLock::take(&dir).unwrap();
        assert!(DirLock::share(&dir).is_err(), "it is not shared");
        drop(alone);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "no file is left");
    }
}
