//! One safetensors file by its header: names, types and byte ranges; values are read in chunks.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

use crate::fs::{hex, open, open_weights};
use crate::weights::{MAX_HEADER, disguise};
use crate::{Error, Result};

/// Bytes of a tensor held at a time; a multiple of every element size.
pub const CHUNK: usize = 1 << 20;

/// An opened safetensors file: its header only.
#[derive(Clone, Debug)]
pub struct TensorFile {
    /// The file.
    pub path: PathBuf,
    /// What the header says besides tensors.
    pub metadata: HashMap<String, String>,
    /// The place of each tensor, by name.
    pub tensors: BTreeMap<String, Stored>,
}

/// The place of one tensor in a file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Type of its values.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Bytes before it in the file, the header included.
    pub offset: u64,
    /// Bytes it takes.
    pub n_bytes: u64,
}

impl TensorFile {
    /// Reads and checks the header; the size of the file must be what it promises.
    ///
    /// # Errors
    /// File errors, `MissingFile`, and `Unreadable` saying what the file is instead.
    pub fn open(path: &Path) -> Result<Self> {
        let (broken, io) = (|reason: &str| Error::unreadable(path, reason), Error::io("read", path));
        let cut = || broken("its size is not what its header says: a copy or download was cut short");
        if !path.is_file() {
            return Err(Error::MissingFile { path: path.to_owned() });
        }
        let mut file = open_weights(path)?;
        let n_file = file.metadata().map_err(io)?.len();
        let mut start = Vec::new();
        (&mut file).take(64).read_to_end(&mut start).map_err(io)?;
        if let Some(reason) = disguise(&start) {
            return Err(broken(reason));
        }
        let length = start.first_chunk::<8>().ok_or_else(cut)?;
        let n_header = u64::from_le_bytes(*length);
        if n_header > MAX_HEADER {
            return Err(broken(&format!("not a safetensors file: a header of {n_header} bytes")));
        }
        if n_header + 8 > n_file {
            return Err(cut());
        }
        file.seek(SeekFrom::Start(8)).map_err(io)?;
        let mut header = Vec::new();
        file.take(n_header).read_to_end(&mut header).map_err(io)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| broken(&format!("not a safetensors file: {e}")))?;
        let n_data = header.data_len() as u64;
        if n_data.checked_add(n_header + 8) != Some(n_file) {
            return Err(cut());
        }
        let tensors = header.tensors().into_iter().map(|(name, info)| {
            let (from, to) = info.data_offsets;
            let offset = n_header + 8 + from as u64;
            (name, Stored { dtype: info.dtype, shape: info.shape.clone(), offset, n_bytes: (to - from) as u64 })
        });
        Ok(Self {
            path: path.to_owned(),
            tensors: tensors.collect(),
            metadata: header.metadata().clone().unwrap_or_default(),
        })
    }

    /// The bytes of one of its tensors.
    ///
    /// # Errors
    /// `Io`.
    pub fn bytes(&self, stored: &Stored) -> Result<Bytes> {
        let mut file = open(&self.path)?;
        file.seek(SeekFrom::Start(stored.offset)).map_err(Error::io("read", &self.path))?;
        let file = BufReader::new(file);
        Ok(Bytes { file, path: self.path.clone(), left: stored.n_bytes, chunk: Vec::new() })
    }
}

impl Stored {
    /// Type and shape, for messages: `F32 [2, 3]`.
    pub fn layout(&self) -> String {
        layout(self.dtype, &self.shape)
    }
}

/// Type and shape, for messages: `F32 [2, 3]`.
pub fn layout(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype:?} {shape:?}")
}

/// A tensor's bytes, read a chunk at a time.
#[derive(Debug)]
pub struct Bytes {
    file: BufReader<File>,
    path: PathBuf,
    left: u64,
    chunk: Vec<u8>,
}

impl Bytes {
    /// The next `n` bytes, fewer at the end, none when all are read.
    ///
    /// # Errors
    /// `Io`.
    pub fn next(&mut self, n: usize) -> Result<&[u8]> {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(n);
        self.chunk.resize(n, 0);
        self.file.read_exact(&mut self.chunk).map_err(Error::io("read", &self.path))?;
        self.left -= n as u64;
        Ok(&self.chunk)
    }

    /// Hands over the rest, a chunk at a time.
    ///
    /// # Errors
    /// `Io`, and those of `take`.
    pub fn each<E: From<Error>>(mut self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while self.left > 0 {
            take(self.next(CHUNK)?)?;
        }
        Ok(())
    }

    /// SHA-256 of the rest.
    ///
    /// # Errors
    /// `Io`.
    pub fn sha256(self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.each(|chunk| -> Result<()> {
            hasher.update(chunk);
            Ok(())
        })?;
        Ok(hex(hasher))
    }
}
