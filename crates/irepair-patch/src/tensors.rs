//! One safetensors file by its header: names, types and byte ranges; values are read in chunks.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use irepair_core::Error;
use irepair_core::fs::{hex, open};
use irepair_core::weights::{MAX_HEADER, disguise};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};

use crate::Result;

/// Bytes of a tensor held at a time; a multiple of every element size.
pub(crate) const CHUNK: usize = 1 << 20;

/// An opened safetensors file: its header only.
#[derive(Clone, Debug)]
pub(crate) struct TensorFile {
    pub(crate) path: PathBuf,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

/// The place of one tensor in a file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Bytes before it in the file, the header included.
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
}

impl TensorFile {
    /// Reads and checks the header; the size of the file must be what it promises.
    ///
    /// # Errors
    /// File errors, `MissingFile`, and `Unreadable` saying what the file is instead.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (broken, io) = (|reason: &str| Error::unreadable(path, reason), Error::io("read", path));
        let cut = || broken("its size is not what its header says: a copy or download was cut short");
        if !path.is_file() {
            return Err(Error::MissingFile { path: path.to_owned() }.into());
        }
        let mut file = open(path)?;
        let n_file = file.metadata().map_err(io)?.len();
        let mut start = Vec::new();
        (&mut file).take(64).read_to_end(&mut start).map_err(io)?;
        if let Some(reason) = disguise(&start) {
            return Err(broken(reason).into());
        }
        let length = start.first_chunk::<8>().ok_or_else(cut)?;
        let n_header = u64::from_le_bytes(*length);
        if n_header > MAX_HEADER {
            return Err(broken(&format!("not a safetensors file: a header of {n_header} bytes")).into());
        }
        if n_header + 8 > n_file {
            return Err(cut().into());
        }
        file.seek(SeekFrom::Start(8)).map_err(io)?;
        let mut header = Vec::new();
        file.take(n_header).read_to_end(&mut header).map_err(io)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| broken(&format!("not a safetensors file: {e}")))?;
        let n_data = header.data_len() as u64;
        if n_data.checked_add(n_header + 8) != Some(n_file) {
            return Err(cut().into());
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
    pub(crate) fn bytes(&self, stored: &Stored) -> Result<Bytes> {
        let mut file = open(&self.path)?;
        file.seek(SeekFrom::Start(stored.offset)).map_err(Error::io("read", &self.path))?;
        Ok(Bytes { file, path: self.path.clone(), left: stored.n_bytes, chunk: Vec::new() })
    }
}

impl Stored {
    /// Type and shape, for messages: `F32 [2, 3]`.
    pub(crate) fn layout(&self) -> String {
        layout(self.dtype, &self.shape)
    }
}

/// Type and shape, for messages: `F32 [2, 3]`.
pub(crate) fn layout(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype:?} {shape:?}")
}

/// A tensor's bytes, read a chunk at a time.
pub(crate) struct Bytes {
    file: File,
    path: PathBuf,
    left: u64,
    chunk: Vec<u8>,
}

impl Bytes {
    /// The next `n` bytes, fewer at the end, none when all are read.
    pub(crate) fn next(&mut self, n: usize) -> Result<&[u8]> {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(n);
        self.chunk.resize(n, 0);
        self.file.read_exact(&mut self.chunk).map_err(Error::io("read", &self.path))?;
        self.left -= n as u64;
        Ok(&self.chunk)
    }

    /// Hands over the rest, a chunk at a time.
    pub(crate) fn each(mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.left > 0 {
            take(self.next(CHUNK)?)?;
        }
        Ok(())
    }

    /// SHA-256 of the rest.
    pub(crate) fn sha256(self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.each(|chunk| {
            hasher.update(chunk);
            Ok(())
        })?;
        Ok(hex(hasher))
    }
}
