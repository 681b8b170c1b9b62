//! Lines of a plain or gzip file, each of bounded length; files of another kind are refused by name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

/// The longest line a reader accepts, in bytes: 16 MiB, far over any record and far under memory.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// How files of formats begin that are not read, what they are, and what to do about it.
const PACKED: [(&[u8], &str, &str); 7] = [
    (
        b"PK\x03\x04",
        "a zip archive",
        "unpack it, and give the file inside; of files that are packed, gzip alone is read",
    ),
    (b"\xfd7zXZ\0", "packed with xz", "unpack it with `xz -d`; of files that are packed, gzip alone is read"),
    (b"BZh91AY", "packed with bzip2", "unpack it with `bzip2 -d`; of files that are packed, gzip alone is read"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it with `zstd -d`; of files that are packed, gzip alone is read"),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it, and give the file inside; of files that are packed, gzip alone is read",
    ),
    (b"ARROW1\0\0", "an Arrow file", ARROW),
    (b"\xff\xff\xff\xff", "an Arrow file", ARROW),
];

const ARROW: &str = "write it as Parquet, in Python with `datasets.load_from_disk(DIR).to_parquet(FILE)`";

/// Lines of a file, unpacked, with their numbers from 1; without line ends and byte-order mark.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: usize,
    failed: bool,
    ended: bool,
}

impl Lines {
    /// Opens a file; gzip is recognised by its first two bytes, not by the name.
    ///
    /// # Errors
    /// `File` when it cannot be opened or read, `NotData` when it is empty, a git-LFS pointer or a web page.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::of(path, unpacked(path)?))
    }

    /// Lines of what is read already.
    pub(crate) fn of(path: &Path, reader: Box<dyn BufRead>) -> Self {
        Self { path: path.to_owned(), reader, line: 0, failed: false, ended: false }
    }

    /// Whether the line read last had a line end; only the last line of a file may have none.
    pub fn last_line_ended(&self) -> bool {
        self.ended
    }

    fn next_line(&mut self) -> Result<Option<(usize, String)>> {
        self.line += 1;
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES + 2;
        let read = self.reader.by_ref().take(limit as u64).read_until(b'\n', &mut bytes);
        read.map_err(irepair_core::Error::io("read", &self.path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.ended = bytes.ends_with(b"\n");
        if self.ended {
            bytes.pop();
        }
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
        if bytes.len() > MAX_LINE_BYTES {
            return Err(Error::LineTooLong { path: self.path.clone(), line: self.line, max_bytes: MAX_LINE_BYTES });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((self.line, text))),
            Err(_) => Err(Error::NotUtf8 { path: self.path.clone(), line: self.line }),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_line();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// A data file's bytes, unpacked where they are gzip, without byte-order mark; at least one is in the buffer.
///
/// # Errors
/// Those of [`Lines::open`].
pub(crate) fn unpacked(path: &Path) -> Result<Box<dyn BufRead>> {
    let io = irepair_core::Error::io("read", path);
    let mut raw = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let packed = raw.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> =
        if packed { Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))) } else { Box::new(raw) };
    let head = reader.fill_buf().map_err(io)?;
    if let Some((found, help)) = other_kind(head) {
        return Err(Error::NotData { path: path.to_owned(), found, help });
    }
    if head.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(reader)
}

/// What a file is when it is not data, and what to do about it.
pub(crate) fn other_kind(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let start = head[..head.len().min(256)].trim_ascii_start().to_ascii_lowercase();
    if head.is_empty() {
        Some(("empty", "an export, copy or download failed: make the file again"))
    } else if start.starts_with(b"version https://git-lfs") {
        Some(("a git-LFS pointer", "fetch the file itself with `git lfs pull`"))
    } else if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
        Some(("a web page", "the download failed: fetch the raw file again"))
    } else {
        let (_, found, help) = PACKED.iter().find(|(begin, ..)| head.starts_with(begin))?;
        Some((found, help))
    }
}
