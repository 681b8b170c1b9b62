//! Little-endian values read one after another, never past the end of the file nor past the largest size of metadata.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Most bytes before the tensor data. Tokenizers of 260,000 tokens take about 15 MiB.
const MAX_HEAD: u64 = 64 << 20;

/// Reads the part of a file before its tensor data.
pub(crate) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    /// Bytes read.
    position: u64,
    /// Where reading must end.
    end: u64,
    /// Bytes of the file.
    n_bytes: u64,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = irepair_core::fs::open_weights(path)?;
        let n_bytes = irepair_core::fs::n_bytes(path)?;
        let end = n_bytes.min(MAX_HEAD);
        Ok(Self { file: BufReader::new(file), path: path.to_owned(), position: 0, end, n_bytes })
    }

    /// Bytes read up to here.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the file.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Something wrong with the file at `place`.
    pub(crate) fn broken(&self, place: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Broken { path: self.path.clone(), place: place.into(), reason: reason.into() }
    }

    /// The first bytes of the file, before anything is read.
    pub(crate) fn start(&mut self) -> Result<&[u8]> {
        Ok(self.file.fill_buf().map_err(irepair_core::Error::io("read", &self.path))?)
    }

    /// Fills `bytes` with the next ones.
    pub(crate) fn fill(&mut self, bytes: &mut [u8], place: &str) -> Result<()> {
        self.wants(bytes.len() as u64, 1, place)?;
        self.file.read_exact(bytes).map_err(irepair_core::Error::io("read", &self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Refuses `n` values of at least `n_bytes` bytes each when fewer bytes are left.
    pub(crate) fn wants(&self, n: u64, n_bytes: u64, place: &str) -> Result<()> {
        let want = n.checked_mul(n_bytes).and_then(|more| self.position.checked_add(more));
        if want.is_some_and(|want| want <= self.end) {
            return Ok(());
        }
        Err(match self.end < self.n_bytes {
            true => self.broken(place, format!("metadata over {} MiB", MAX_HEAD >> 20)),
            false => self.broken(place, "the file ends before it"),
        })
    }

    fn array<const N: usize>(&mut self, place: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, place)?;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self, place: &str) -> Result<u32> {
        self.array(place).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, place: &str) -> Result<u64> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// A string: its length, then UTF-8.
    pub(crate) fn text(&mut self, place: &str) -> Result<String> {
        let n = self.u64(place)?;
        // Memory is taken only when the file has as many bytes.
        self.wants(n, 1, place)?;
        let mut bytes = vec![0; n as usize];
        self.fill(&mut bytes, place)?;
        String::from_utf8(bytes).map_err(|_| self.broken(place, "text that is not UTF-8"))
    }
}
