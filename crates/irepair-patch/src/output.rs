//! A model directory being written: each file aside, flushed and renamed; `config.json` last; marked until it is whole.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use irepair_core::fs::{remove, replace};
use irepair_core::{DirLock, is_aside, is_unfinished, mark_finished, mark_unfinished};

use crate::checkpoint::CONFIG;
use crate::tensors::{TensorFile, open, reading, writing};
use crate::{Error, Result};

/// A step of writing a model directory, told when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The directory is marked as unfinished.
    Marked,
    /// A tensor was changed, in a file that is still aside.
    Changed {
        /// The tensor.
        tensor: &'a str,
    },
    /// A file is in its place.
    Placed {
        /// Its name.
        file: &'a str,
    },
    /// The mark is gone.
    Finished,
}

/// A directory being written.
pub(crate) struct Output<'a> {
    dir: &'a Path,
    on_step: &'a mut dyn FnMut(Step<'_>),
    /// Keeps other processes out.
    _held: DirLock,
}

/// A weight file being written aside.
pub(crate) struct Aside<'a> {
    file: File,
    path: &'a Path,
    on_step: &'a mut dyn FnMut(Step<'_>),
}

impl<'a> Output<'a> {
    /// Refuses a directory that holds anything, except what a killed run of this module left.
    pub(crate) fn refuse_used(dir: &Path) -> Result<()> {
        let used = || Error::OutExists { path: dir.to_owned() };
        if dir.symlink_metadata().is_ok() && !dir.is_dir() {
            return Err(used());
        }
        if !dir.exists() || is_unfinished(dir) {
            return Ok(());
        }
        for entry in std::fs::read_dir(dir).map_err(reading(dir))? {
            let name = entry.map_err(reading(dir))?.file_name();
            if !is_aside(&name.to_string_lossy()) {
                return Err(used());
            }
        }
        Ok(())
    }

    /// Holds the directory and marks it.
    pub(crate) fn begin(dir: &'a Path, on_step: &'a mut dyn FnMut(Step<'_>)) -> Result<Self> {
        let held = DirLock::take(dir)?;
        // Another process may have filled it since it was looked at.
        Self::refuse_used(dir)?;
        mark_unfinished(dir)?;
        // A killed run may have got that far; from here on the directory is not whole again.
        remove(&dir.join(CONFIG))?;
        on_step(Step::Marked);
        Ok(Self { dir, on_step, _held: held })
    }

    /// Writes a weight file: a copy, in which `change` writes over some bytes.
    pub(crate) fn weights(
        &mut self,
        from: &TensorFile,
        change: impl FnOnce(&mut Aside<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(name) = from.path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Unreadable { path: from.path.clone(), reason: "its name is not UTF-8".into() });
        };
        let path = self.dir.join(name);
        replace(&path, |aside| -> Result<()> {
            let file = copy(&from.path, aside, &path)?;
            change(&mut Aside { file, path: &path, on_step: self.on_step })
        })?;
        (self.on_step)(Step::Placed { file: name });
        Ok(())
    }

    /// Copies a file that is not changed.
    pub(crate) fn copy(&mut self, from: &Path, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        replace(&path, |aside| copy(from, aside, &path).map(drop))?;
        (self.on_step)(Step::Placed { file: name });
        Ok(())
    }

    /// Takes the mark away.
    pub(crate) fn finish(self) -> Result<()> {
        mark_finished(self.dir)?;
        (self.on_step)(Step::Finished);
        Ok(())
    }
}

impl Aside<'_> {
    /// Moves to a byte of the file.
    pub(crate) fn go_to(&mut self, offset: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(offset)).map(drop).map_err(writing(self.path))
    }

    /// Writes over the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(writing(self.path))
    }

    /// Tells that a tensor is done.
    pub(crate) fn changed(&mut self, tensor: &str) {
        (self.on_step)(Step::Changed { tensor });
    }
}

/// Copies `from` to `aside`, which stands for `path`, without keeping the permissions: they may forbid writing.
fn copy(from: &Path, aside: &Path, path: &Path) -> Result<File> {
    let mut source = open(from)?;
    let mut file = File::create(aside).map_err(writing(path))?;
    let n_want = source.metadata().map_err(reading(from))?.len();
    let n_got = std::io::copy(&mut source, &mut file).map_err(writing(path))?;
    if n_want != n_got {
        let reason = format!("{n_got} bytes came of {n_want}: it was changed meanwhile");
        return Err(Error::Unreadable { path: PathBuf::from(from), reason });
    }
    Ok(file)
}
