//! A text file that grows by a line at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::fs::write_atomic;
use crate::{Error, Result, fault};

/// A log file to which lines are added.
#[derive(Debug)]
pub struct LineLog {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

impl LineLog {
    /// Writes `lines` to `path`, over what was there; later lines follow them.
    ///
    /// # Errors
    /// [`Error::Io`] with the step that failed.
    pub fn start(path: &Path, lines: &str) -> Result<Self> {
        write_atomic(path, lines.as_bytes())?;
        let file = File::options().read(true).append(true).open(path).map_err(Error::io("write", path))?;
        Ok(Self { path: path.to_owned(), file, n_bytes: lines.len() as u64 })
    }

    /// Adds a line, its line end included.
    ///
    /// # Errors
    /// [`Error::Io`]; a part of the line may then be in the file.
    pub fn add(&mut self, line: &str) -> Result<()> {
        fault::point("append", &self.path)
            .and_then(|()| self.file.write_all(line.as_bytes()))
            .map_err(Error::io("write", &self.path))?;
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    /// Flushes every line to disk.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Removed`] when the directory of the log is gone.
    pub fn flush(&self) -> Result<()> {
        fault::point("flush", &self.path)
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io("write", &self.path))?;
        let removed = self.path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        removed.map_or(Ok(()), |dir| Err(Error::Removed { path: dir.to_owned() }))
    }

    /// The lines so far, read again from the file that was opened, even if its path now names another file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read.
    pub fn lines(&self) -> Result<impl Iterator<Item = Result<String>> + '_> {
        let (mut file, io) = (&self.file, Error::io("read", &self.path));
        file.rewind().map_err(io)?;
        let lines = BufReader::new(file.take(self.n_bytes)).lines();
        Ok(lines.map(move |line| line.map_err(io)))
    }

    /// Writes the lines so far again, after another process changed or removed the file.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be read or written, or another process cut the file short.
    pub fn restore(&self) -> Result<Self> {
        let mut text = String::new();
        for line in self.lines()? {
            text += &(line? + "\n");
        }
        if text.len() as u64 == self.n_bytes {
            return Self::start(&self.path, &text);
        }
        let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "another process cut the file short");
        Err(Error::io("read", &self.path)(cut))
    }

    /// False when another process removed the file or changed its length.
    pub fn is_whole(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.len() == self.n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_those_it_started_with_and_a_removal_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("run");
        let path = dir.join("metrics.jsonl");
        let mut log = LineLog::start(&path, "1\n").unwrap();
        log.add("2\n").unwrap();
        log.flush().unwrap();
        assert!(log.is_whole());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
        std::fs::remove_file(&path).unwrap();
        assert!(!log.is_whole());
        log.add("3\n").unwrap();
        log.flush().unwrap();
        assert_eq!(log.lines().unwrap().collect::<Result<Vec<_>>>().unwrap(), ["1", "2", "3"]);
        let mut log = log.restore().unwrap();
        log.add("4\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
        File::options().append(true).open(&path).unwrap().write_all(b"strange").unwrap();
        let log = log.restore().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
        File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
        let error = log.restore().unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.to_string().contains("cut the file short")));
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_dir(&dir).unwrap();
        assert!(matches!(log.flush(), Err(Error::Removed { path }) if path == dir));
    }
}
