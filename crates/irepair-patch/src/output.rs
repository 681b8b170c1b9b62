//! A model directory being written: each file as a temporary file, flushed and renamed; `config.json` last; marked as
//! unfinished until it is whole.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use irepair_core::fs::{open, remove, replace};
use irepair_core::tensor_file::TensorFile;
use irepair_core::weights::CONFIG;
use irepair_core::{DirLock, Error, mark_finished, mark_unfinished, refuse_used};

use crate::Result;

/// A step of writing a model directory, reported when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The directory is marked as unfinished.
    Marked,
    /// A tensor was changed, in a file that is still temporary.
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
    _lock: DirLock,
}

/// A weight file being written.
pub(crate) struct WeightFile<'a> {
    file: File,
    path: &'a Path,
    on_step: &'a mut dyn FnMut(Step<'_>),
}

impl<'a> Output<'a> {
    /// Locks the directory and marks it.
    pub(crate) fn begin(dir: &'a Path, maker: &str, on_step: &'a mut dyn FnMut(Step<'_>)) -> Result<Self> {
        let lock = DirLock::take(dir)?;
        // Another process may have filled it before it was locked.
        refuse_used(dir, maker)?;
        mark_unfinished(dir, maker)?;
        // A killed run may have written it; from here on the directory is not whole.
        remove(&dir.join(CONFIG))?;
        on_step(Step::Marked);
        Ok(Self { dir, on_step, _lock: lock })
    }

    /// Writes a weight file: a copy, in which `change` overwrites some bytes.
    pub(crate) fn weights(
        &mut self,
        from: &TensorFile,
        change: impl FnOnce(&mut WeightFile<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(name) = from.path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::unreadable(&from.path, "its name is not UTF-8").into());
        };
        self.place(&from.path, name, change)
    }

    /// Copies a file that is not changed.
    pub(crate) fn copy(&mut self, from: &Path, name: &str) -> Result<()> {
        self.place(from, name, |_| Ok(()))
    }

    fn place(&mut self, from: &Path, name: &str, change: impl FnOnce(&mut WeightFile<'_>) -> Result<()>) -> Result<()> {
        let path = self.dir.join(name);
        replace(&path, |new| -> Result<()> {
            let file = copy(from, new, &path)?;
            change(&mut WeightFile { file, path: &path, on_step: self.on_step })
        })?;
        (self.on_step)(Step::Placed { file: name });
        Ok(())
    }

    /// Reports a file that was written in another way.
    pub(crate) fn placed(&mut self, file: &str) {
        (self.on_step)(Step::Placed { file });
    }

    /// Removes the mark.
    pub(crate) fn finish(self) -> Result<()> {
        mark_finished(self.dir)?;
        (self.on_step)(Step::Finished);
        Ok(())
    }
}

impl WeightFile<'_> {
    /// Moves to a byte of the file.
    pub(crate) fn go_to(&mut self, offset: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::io("write", self.path))?;
        Ok(())
    }

    /// Overwrites the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all(bytes).map_err(Error::io("write", self.path))?)
    }

    /// Reports that a tensor is done.
    pub(crate) fn changed(&mut self, tensor: &str) {
        (self.on_step)(Step::Changed { tensor });
    }
}

/// Copies `from` to the temporary file `new` of `path`, without its permissions: they may forbid writing.
fn copy(from: &Path, new: &Path, path: &Path) -> Result<File> {
    let (reading, writing) = (Error::io("read", from), Error::io("write", path));
    let mut source = open(from)?;
    let mut file = File::create(new).map_err(writing)?;
    let n_want = source.metadata().map_err(reading)?.len();
    let n_got = std::io::copy(&mut source, &mut file).map_err(writing)?;
    if n_want != n_got {
        let reason = format!("{n_got} of its {n_want} bytes were copied: it was changed meanwhile");
        return Err(Error::unreadable(from, reason).into());
    }
    Ok(file)
}
