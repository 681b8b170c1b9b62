//! Shards: several processes that share the work of one command, on one machine or on many with a directory in common.
//!
//! A piece of work is a file whose name says that it is free, or who has it. Renaming takes it: of several processes
//! one alone succeeds. Its holder locks the file, so that what a process had when it died is taken over by another.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use irepair_core::DirLock;
use irepair_core::fs::{list, remove};

use crate::error::diagnostic;
use crate::{interrupt, process};

/// Time between two looks at what others have.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stands between the name of a piece of work and its state.
const MARK: char = '~';

/// Which of how many processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    at: usize,
    n: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(at, n)| Some((at.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((at, n)) if (1..=n).contains(&at) && n <= 10_000 => Ok(Self { at, n }),
            _ => Err("a shard is I/N: this one and how many there are, 1/4 to 4/4".to_owned()),
        }
    }
}

impl Shard {
    /// Work in the order in which this shard takes it: each begins at another place, so that they meet late.
    fn order<T>(self, mut items: Vec<T>) -> Vec<T> {
        let first = items.len() * (self.at - 1) / self.n;
        items.rotate_left(first);
        items
    }
}

/// Waits until this process alone has a directory.
///
/// # Errors
/// When the directory cannot be locked; after a signal that asks to stop.
pub(crate) fn turn(dir: &Path) -> Result<DirLock> {
    let mut waits = false;
    loop {
        match DirLock::take(dir) {
            Err(irepair_core::Error::Busy { .. }) => {
                if !std::mem::replace(&mut waits, true) {
                    process::say(format!("waiting for another shard in {}", dir.display()));
                }
                thread::sleep(PATIENCE);
                interrupt::check()?;
            }
            taken => return Ok(taken.map_err(diagnostic)?),
        }
    }
}

/// The pieces of work of one stage, by name.
pub(crate) struct Claims {
    dir: PathBuf,
    shard: Shard,
    /// How this process is called in names of files.
    holder: String,
}

/// A piece of work that this process has; another takes it over when it is dropped.
pub(crate) struct Claim {
    path: PathBuf,
    failed: PathBuf,
    _locked: File,
}

impl Claim {
    /// Ends the claim: the work is done, or it failed and is not tried again before another shard starts.
    ///
    /// # Errors
    /// When the file is gone or cannot be changed.
    pub(crate) fn end(self, is_done: bool) -> Result<()> {
        if is_done {
            return Ok(remove(&self.path).map_err(diagnostic)?);
        }
        fs::rename(&self.path, &self.failed).with_context(|| format!("renaming {}", self.path.display()))
    }
}

impl Claims {
    pub(crate) fn new(dir: PathBuf, shard: Shard) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { dir, shard, holder: plain(&format!("{}-{}", host.trim(), std::process::id())) }
    }

    /// Puts up what is not done, that which failed before too, and returns how many are done. `is_done` is asked while
    /// no other shard does the same.
    ///
    /// # Errors
    /// When files cannot be written, and those of `is_done`.
    pub(crate) fn offer<T>(
        &self,
        items: &[T],
        name: impl Fn(&T) -> String,
        is_done: impl Fn(&T) -> Result<bool>,
    ) -> Result<usize> {
        let (_turn, mut n_done) = (turn(&self.dir)?, 0);
        for item in items {
            let (name, is_done) = (name(item), is_done(item)?);
            let (free, failed) = (self.path(&name, "free"), self.path(&name, "failed"));
            let found = self.files(&name)?;
            if is_done {
                n_done += 1;
                found
                    .iter()
                    .filter(|path| **path == free || **path == failed)
                    .try_for_each(|path| remove(path))
                    .map_err(diagnostic)?;
            } else if found.contains(&failed) {
                fs::rename(&failed, &free).with_context(|| format!("renaming {}", failed.display()))?;
            } else if found.is_empty() {
                File::create(&free).with_context(|| format!("writing {}", free.display()))?;
            }
        }
        Ok(n_done)
    }

    /// Items in the order of this shard.
    pub(crate) fn order<T>(&self, items: Vec<T>) -> Vec<T> {
        self.shard.order(items)
    }

    /// Takes a piece of work: one that is free, or whose holder died. None where another process has it, and where
    /// nothing is left of it to do.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn take(&self, name: &str) -> Result<Option<Claim>> {
        let (free, failed) = (self.path(name, "free"), self.path(name, "failed"));
        let path = self.path(name, &format!("by-{}", self.holder));
        for found in self.files(name)?.into_iter().filter(|found| *found != failed) {
            // Gone since, or taken.
            let Ok(file) = File::open(&found) else { continue };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                // Where a file system has no locks, it is not known whether the holder lives.
                Err(TryLockError::Error(_)) if found != free => continue,
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            if fs::rename(&found, &path).is_ok() {
                if found != free {
                    process::say(format!("{name}: taken over from a process that ended"));
                }
                return Ok(Some(Claim { path, failed, _locked: file }));
            }
        }
        Ok(None)
    }

    /// True while a piece of work is free, or a process has it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn is_open(&self, name: &str) -> Result<bool> {
        let failed = self.path(name, "failed");
        Ok(self.files(name)?.iter().any(|path| *path != failed))
    }

    /// Waits before the next look.
    ///
    /// # Errors
    /// After a signal that asks to stop.
    pub(crate) fn pause(&self) -> Result<()> {
        thread::sleep(PATIENCE);
        interrupt::check()
    }

    fn path(&self, name: &str, state: &str) -> PathBuf {
        self.dir.join(format!("{}{MARK}{state}", plain(name)))
    }

    /// The files of a piece of work.
    fn files(&self, name: &str) -> Result<Vec<PathBuf>> {
        let start = format!("{}{MARK}", plain(name));
        let mut files = list(&self.dir).map_err(diagnostic)?;
        files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)));
        Ok(files)
    }
}

/// A name as that of a file.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::work::Workers;

    fn claims(home: &Path, shard: &str) -> Claims {
        let claims = Claims::new(home.join("claims"), shard.parse().unwrap());
        Claims { holder: format!("host-{}", plain(shard)), ..claims }
    }

    #[test]
    fn a_shard_is_one_of_several() {
        for wrong in ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1/10001"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("I/N"), "{wrong}");
        }
        let order = |shard: &str| shard.parse::<Shard>().unwrap().order(vec![0, 1, 2, 3, 4]);
        assert_eq!(
            (order("1/2"), order("2/2"), order("1/1")),
            (vec![0, 1, 2, 3, 4], vec![2, 3, 4, 0, 1], vec![0, 1, 2, 3, 4])
        );
    }

    #[test]
    fn work_is_taken_once_and_over_from_the_dead() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (claims(home.path(), "1/2"), claims(home.path(), "2/2"));
        let name = |item: &&str| (*item).to_owned();
        assert_eq!(one.offer(&["dpo seed 0", "done"], name, |item| Ok(*item == "done")).unwrap(), 1);
        assert!(one.take("done").unwrap().is_none(), "what is done is not put up");
        let claim = one.take("dpo seed 0").unwrap().unwrap();
        assert!(two.take("dpo seed 0").unwrap().is_none() && two.is_open("dpo seed 0").unwrap());
        // A second offer leaves what is held.
        two.offer(&["dpo seed 0"], name, |_| Ok(false)).unwrap();
        assert!(two.take("dpo seed 0").unwrap().is_none());
        drop(claim);
        let claim = two.take("dpo seed 0").unwrap().expect("its holder is gone");
        claim.end(false).unwrap();
        assert!(one.take("dpo seed 0").unwrap().is_none() && !one.is_open("dpo seed 0").unwrap(), "it failed");
        one.offer(&["dpo seed 0"], name, |_| Ok(false)).unwrap();
        one.take("dpo seed 0").unwrap().expect("a new shard tries again").end(true).unwrap();
        assert!(!two.is_open("dpo seed 0").unwrap());
        assert!(list(&home.path().join("claims")).unwrap().is_empty(), "no file is left");
    }

    #[test]
    fn names_that_begin_alike_are_different_work() {
        let home = tempfile::tempdir().unwrap();
        let one = claims(home.path(), "1/1");
        one.offer(&["dpo", "dpo-sliced"], |item| (*item).to_owned(), |_| Ok(false)).unwrap();
        one.take("dpo").unwrap().unwrap().end(true).unwrap();
        assert!(one.is_open("dpo-sliced").unwrap() && one.take("dpo").unwrap().is_none());
    }

    #[test]
    fn shards_do_everything_once_and_end_together() {
        let home = tempfile::tempdir().unwrap();
        let (items, done): (Vec<usize>, _) = ((0..60).collect(), Mutex::new(Vec::new()));
        let shard = |at: usize| {
            let (claims, workers) = (claims(home.path(), &format!("{at}/3")), Workers { n_workers: 2, n_threads: 1 });
            let is_done = |item: &usize| Ok(done.lock().unwrap().contains(item));
            let work = |item: &usize| {
                thread::sleep(Duration::from_millis(2));
                done.lock().unwrap().push(*item);
                Ok(None)
            };
            workers.share("items", Some(&claims), &items, ToString::to_string, is_done, work).unwrap();
            assert_eq!(done.lock().unwrap().len(), items.len(), "none ends before all is done");
        };
        thread::scope(|scope| (1..=3).for_each(|at| drop(scope.spawn(move || shard(at)))));
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, items);
    }
}
