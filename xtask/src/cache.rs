//! Finished work: a stamp next to each output holds the hash of the inputs it was made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_core::DirLock;
use irepair_core::fs::{remove, sha256_file, sha256_hex, write_atomic};

use crate::error::diagnostic;

/// Hashes of the inputs of an output, added one by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Inputs(String);

impl Inputs {
    /// Adds settings or any other text.
    #[must_use]
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0 += &sha256_hex(text.as_bytes());
        self
    }

    /// Adds a file's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn file(mut self, path: &Path) -> Result<Self> {
        self.0 += &sha256_file(path).map_err(diagnostic)?;
        Ok(self)
    }

    /// Adds a hash made elsewhere; that of a file's bytes counts as the file.
    #[must_use]
    pub(crate) fn hash(mut self, sha256: &str) -> Self {
        self.0 += sha256;
        self
    }

    /// The hash of all of them.
    pub(crate) fn key(&self) -> String {
        sha256_hex(self.0.as_bytes())
    }
}

/// The stamp of an output directory or file.
fn stamp(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.inputs"))
}

/// True when `output` exists and was made from these inputs.
pub(crate) fn is_done(output: &Path, inputs: &Inputs) -> bool {
    output.exists() && fs::read_to_string(stamp(output)).is_ok_and(|key| key == inputs.key())
}

/// The hash of what an output was made from; none where it is not there or not whole.
pub(crate) fn made_from(output: &Path) -> Option<String> {
    fs::read_to_string(stamp(output)).ok().filter(|_| output.exists())
}

/// Removes an output that was made from other inputs, or only in part.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn clear(output: &Path) -> Result<()> {
    remove(&stamp(output)).map_err(diagnostic)?;
    if output.is_dir() {
        fs::remove_dir_all(output)?;
    } else if output.exists() {
        remove(output).map_err(diagnostic)?;
    }
    Ok(())
}

/// Makes `output` unless it is there and was made from these inputs.
///
/// # Errors
/// When an older output cannot be removed, and those of `make`.
pub(crate) fn once(output: &Path, inputs: &Inputs, make: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_done(output, inputs) {
        return Ok(());
    }
    clear(output)?;
    make()?;
    mark_done(output, inputs)
}

/// Prepares the directory of work that can continue after a kill: files made from other inputs are removed, those from
/// the same inputs stay, unless `fresh`. Waits for a process that is still ending there.
///
/// # Errors
/// When something cannot be removed or written.
pub(crate) fn begin(dir: &Path, inputs: &Inputs, fresh: bool) -> Result<()> {
    DirLock::wait(dir).map_err(diagnostic)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let begun = dir.with_file_name(format!(".{name}.begun"));
    if fresh || !fs::read_to_string(&begun).is_ok_and(|key| key == inputs.key()) {
        remove(&begun).map_err(diagnostic)?;
        clear(dir)?;
        write_atomic(&begun, inputs.key().as_bytes()).map_err(diagnostic)?;
    }
    Ok(())
}

/// Records that `output` is complete and was made from these inputs.
///
/// # Errors
/// When the stamp cannot be written.
pub(crate) fn mark_done(output: &Path, inputs: &Inputs) -> Result<()> {
    Ok(write_atomic(&stamp(output), inputs.key().as_bytes()).map_err(diagnostic)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_only_for_the_same_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("model");
        let inputs = Inputs::default().text("steps = 3");
        assert!(!is_done(&output, &inputs));
        fs::create_dir(&output).unwrap();
        assert!(!is_done(&output, &inputs), "an output without a stamp may be incomplete");
        mark_done(&output, &inputs).unwrap();
        assert!(is_done(&output, &inputs));
        assert!(!is_done(&output, &Inputs::default().text("steps = 4")));
        clear(&output).unwrap();
        assert!(!is_done(&output, &inputs));
    }

    #[test]
    fn work_continues_only_from_files_of_the_same_inputs() {
        let root = tempfile::tempdir().unwrap();
        let (dir, inputs) = (root.path().join("0"), Inputs::default().text("seed = 0"));
        let leave = || {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("state"), "half").unwrap();
        };
        leave();
        begin(&dir, &inputs, false).unwrap();
        assert!(!dir.exists(), "a directory without a stamp may be of any inputs");
        leave();
        begin(&dir, &inputs, false).unwrap();
        assert!(dir.join("state").exists());
        begin(&dir, &inputs, true).unwrap();
        assert!(!dir.exists());
        leave();
        begin(&dir, &inputs.clone().text("another program"), false).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn a_hash_counts_as_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        fs::write(&path, "weights").unwrap();
        let hash = sha256_file(&path).unwrap();
        assert_eq!(Inputs::default().hash(&hash).key(), Inputs::default().file(&path).unwrap().key());
    }
}
