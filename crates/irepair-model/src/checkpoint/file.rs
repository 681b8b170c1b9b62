//! One safetensors file: what is in it, what is wrong with it, and named tensors to and from it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use irepair_core::fs::replace;
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{Error, Result, sys};

/// A mapped file, understood.
pub(super) struct Parsed<'a> {
    /// Everything before the first tensor, as stored.
    pub(super) header: &'a [u8],
    pub(super) metadata: Option<HashMap<String, String>>,
    /// Tensor names in the order of their bytes.
    pub(super) names: Vec<String>,
    tensors: SafeTensors<'a>,
}

impl<'a> Parsed<'a> {
    pub(super) fn new(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        if let Some(reason) = disguise(bytes) {
            return Err(Error::Unreadable { path: path.to_owned(), reason: reason.into() });
        }
        let (n_json, header) = SafeTensors::read_metadata(bytes).map_err(|e| unreadable(path, e))?;
        Ok(Self {
            header: &bytes[..size_of::<u64>() + n_json],
            metadata: header.metadata().clone(),
            names: header.offset_keys(),
            tensors: SafeTensors::deserialize(bytes).map_err(|e| unreadable(path, e))?,
        })
    }

    /// A tensor by its stored name.
    pub(super) fn view(&self, path: &Path, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|e| unreadable(path, e))
    }
}

/// Maps a weights file for reading.
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let io = |source| irepair_core::Error::Io { action: "read", path: path.to_owned(), source };
    Ok(sys::map_file(path).map_err(io)?)
}

fn unreadable(path: &Path, error: SafeTensorError) -> Error {
    let reason = match error {
        // The library's words for it, "incomplete metadata", point at the wrong half of the file.
        SafeTensorError::MetadataIncompleteBuffer => {
            "its size is not what its header says: a copy or download was cut short".to_owned()
        }
        other => format!("not a safetensors file: {other}"),
    };
    Error::Unreadable { path: path.to_owned(), reason }
}

/// Names the usual things that lie where weights should be.
fn disguise(bytes: &[u8]) -> Option<&'static str> {
    // A safetensors header is JSON from byte 8 on; nothing below has a brace there.
    if bytes.get(8) == Some(&b'{') {
        return None;
    }
    let start = &bytes[..bytes.len().min(64)];
    match start {
        [] => Some("the file is empty"),
        s if s.starts_with(b"version https://git-lfs") => {
            Some("a git-lfs pointer, not the weights: fetch the large file")
        }
        s if s.trim_ascii_start().starts_with(b"<") => {
            Some("an HTML or XML page, not the weights: the download failed")
        }
        s if s.starts_with(b"PK") || s.starts_with(&[0x80]) => Some("a pickle checkpoint under a safetensors name"),
        _ => None,
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

fn dtype_of(kind: Kind) -> Dtype {
    match kind {
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        _ => Dtype::F32,
    }
}

/// The value of a stored tensor, in its stored type, on the CPU.
pub(super) fn to_tensor(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    let wrong =
        || Error::WrongDtype { path: path.to_owned(), tensor: name.to_owned(), got: format!("{:?}", view.dtype()) };
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind_of(view.dtype()).ok_or_else(wrong)?)?)
}

/// The bytes of a tensor's values, rounded to `dtype`.
pub(super) fn bytes_of(tensor: &Tensor, dtype: Dtype) -> Vec<u8> {
    let kind = kind_of(dtype).unwrap_or(Kind::Float);
    let flat = no_grad(|| tensor.detach().to_device(Device::Cpu).to_kind(kind).contiguous().view(-1));
    let mut bytes = vec![0; flat.numel() * kind.elt_size_in_bytes()];
    flat.copy_data_u8(&mut bytes, flat.numel());
    bytes
}

/// True when a stored tensor, brought to `tensor`'s type, is `tensor` bit for bit.
pub(super) fn is_unchanged(stored: &Tensor, tensor: &Tensor) -> bool {
    let dtype = dtype_of(tensor.kind());
    bytes_of(stored, dtype) == bytes_of(tensor, dtype)
}

/// A tensor on its way to a file; its bytes are made when the writer asks, one tensor at a time.
struct Out<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl View for &Out<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(bytes_of(self.tensor, self.dtype))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes named tensors and a few strings to one safetensors file, whole or not at all; types are kept.
///
/// # Errors
/// File errors.
pub fn write_tensors(path: &Path, tensors: &[(String, &Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let out: Vec<(&String, Out<'_>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            (name, Out { tensor, dtype: dtype_of(tensor.kind()), shape })
        })
        .collect();
    replace(path, |aside| {
        let views = out.iter().map(|(name, out)| (name, out));
        safetensors::serialize_to_file(views, Some(metadata), aside).map_err(|error| {
            let source = match error {
                SafeTensorError::IoError(source) => source,
                other => std::io::Error::other(other.to_string()),
            };
            Error::from(irepair_core::Error::Io { action: "write", path: path.to_owned(), source })
        })
    })
}

/// Reads what [`write_tensors`] wrote, on the CPU.
///
/// # Errors
/// File errors, [`Error::Unreadable`] and [`Error::WrongDtype`].
pub fn read_tensors(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let map = map(path)?;
    let parsed = Parsed::new(path, &map)?;
    let mut tensors = HashMap::new();
    for name in &parsed.names {
        tensors.insert(name.clone(), to_tensor(path, name, &parsed.view(path, name)?)?);
    }
    Ok((tensors, parsed.metadata.unwrap_or_default()))
}
