//! A tensor of a repaired directory against the one it was imported from.

use half::{bf16, f16};
use irepair_core::Checkpoint;
use irepair_core::tensor_file::Bytes;
use safetensors::Dtype;

use crate::architectures::Target;
use crate::file::{GgufFile, TensorInfo, TensorValues};
use crate::kind::Kind;
use crate::{Error, Result};

/// Values that are read at once where no row moves: whole blocks of every type.
pub(crate) const CHUNK: usize = 1 << 16;

/// What the directory holds for a tensor of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The values of the file.
    Same,
    /// Other values, which this type holds.
    Changed(Kind),
}

/// The values of a directory's tensor, in Hugging Face's order.
pub(crate) struct Stored {
    bytes: Bytes,
    dtype: Dtype,
}

impl Stored {
    /// Opens the tensor of `target`, which has the shape of `info`.
    ///
    /// # Errors
    /// `Mismatch` for a tensor that is missing, of another shape, or not of floats.
    pub(crate) fn open(checkpoint: &Checkpoint, target: &Target, info: &TensorInfo) -> Result<Self> {
        let misfit = |got: String| Error::Mismatch {
            path: checkpoint.dir.clone(),
            part: "tensor",
            name: irepair_core::printable(&target.name),
            want: format!("F32, F16 or BF16 {:?}", info.shape),
            got,
        };
        let Some((file, stored)) = checkpoint.get(&target.name) else { return Err(misfit("nothing".to_owned())) };
        if stored.shape != info.shape || !matches!(stored.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(misfit(stored.layout()));
        }
        Ok(Self { bytes: file.bytes(stored)?, dtype: stored.dtype })
    }

    /// The next values.
    pub(crate) fn read(&mut self, values: &mut [f32]) -> Result<()> {
        let n_bytes = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let bytes = self.bytes.next(values.len() * n_bytes)?;
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(n_bytes)) {
            *value = match (self.dtype, bytes) {
                (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
                (_, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
                (_, bytes) => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            };
        }
        Ok(())
    }

    /// `value` as this tensor stores it.
    fn rounded(&self, value: f32) -> f32 {
        match self.dtype {
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::BF16 => bf16::from_f32(value).to_f32(),
            _ => value,
        }
    }
}

/// Finds whether the directory has changed the tensor of `target`: a value counts as changed when it is not the file's,
/// rounded to the type that the directory stores.
///
/// # Errors
/// `Mismatch`, `NotFinite`, `File`.
pub(crate) fn content(file: &GgufFile, checkpoint: &Checkpoint, target: &Target) -> Result<Content> {
    let info = &file.tensors()[&target.source];
    let mut stored = Stored::open(checkpoint, target, info)?;
    let mut original = Original::open(file, target)?;
    let (mut same, mut overflows) = (true, false);
    let mut values = Vec::new();
    while let Some(original) = original.next()? {
        values.resize(original.len(), 0.0);
        stored.read(&mut values)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { path: checkpoint.dir.clone(), tensor: target.name.clone() });
        }
        same &= values.iter().zip(original).all(|(new, old)| new.to_bits() == stored.rounded(*old).to_bits());
        overflows |= values.iter().any(|value| f16::from_f32(*value).is_infinite());
    }
    Ok(match same {
        true => Content::Same,
        // Norms and biases are F32 in every file; a matrix that is F32 stays exact.
        false if info.shape.len() == 1 || info.kind == Kind::F32 || overflows => Content::Changed(Kind::F32),
        false => Content::Changed(Kind::F16),
    })
}

/// The values of a file's tensor in Hugging Face's order, a group of rows or a chunk at a time.
pub(crate) struct Original<'a> {
    file: &'a GgufFile,
    target: &'a Target,
    reader: TensorValues,
    start: usize,
    stored: Vec<f32>,
    values: Vec<f32>,
}

impl<'a> Original<'a> {
    pub(crate) fn open(file: &'a GgufFile, target: &'a Target) -> Result<Self> {
        Ok(Self { file, target, reader: file.values()?, start: 0, stored: Vec::new(), values: Vec::new() })
    }

    /// The next values; none when all are read.
    ///
    /// # Errors
    /// `NotFinite`, `File`.
    pub(crate) fn next(&mut self) -> Result<Option<&[f32]>> {
        let info = &self.file.tensors()[&self.target.source];
        let (group, n) = pass(self.target, info, self.start);
        if n == 0 {
            return Ok(None);
        }
        self.stored.resize(n, 0.0);
        self.values.resize(n, 0.0);
        self.reader.read(info, self.start, &mut self.stored)?;
        self.start += n;
        if !self.stored.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { path: self.file.path().to_owned(), tensor: self.target.source.clone() });
        }
        if !self.target.layout.read_from_file(&self.stored, group, &mut self.values) {
            return Err(self.file.misfit(&self.target.source, "weights to which 1 was added"));
        }
        Ok(Some(&self.values))
    }
}

/// Rows of a group and values of the next pass over a tensor, of which `start` values are done: a group where rows
/// move, or else a chunk.
pub(crate) fn pass(target: &Target, info: &TensorInfo, start: usize) -> (usize, usize) {
    let (n, group) = (info.n_values() as usize, target.layout.group(info.shape[0]));
    match group {
        1 => (1, CHUNK.min(n - start)),
        _ => (group, (n / info.shape[0] * group).min(n - start)),
    }
}
