//! One safetensors file: what is in it, what is wrong with it, and named tensors to and from it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use irepair_core::fs::replace;
use irepair_core::printable;
use irepair_core::weights::disguise;
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{Error, Result, sys};

/// Bytes of a tensor brought over at a time: whole elements of every type.
pub(super) const CHUNK: usize = 1 << 23;

/// Bytes that one thread reads at a time: enough to be worth starting it.
const SHARE: usize = 1 << 22;

/// A weights file: its bytes to look at, and the file itself to read many of them from.
#[derive(Debug)]
pub(super) struct Mapped {
    map: Mmap,
    file: File,
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// A mapped file, understood.
pub(super) struct Parsed<'a> {
    path: &'a Path,
    mapped: &'a Mapped,
    /// Everything before the first tensor, as stored.
    pub(super) header: &'a [u8],
    pub(super) metadata: Option<HashMap<String, String>>,
    /// Tensor names in the order of their bytes.
    pub(super) names: Vec<String>,
    tensors: SafeTensors<'a>,
}

impl<'a> Parsed<'a> {
    pub(super) fn new(path: &'a Path, mapped: &'a Mapped) -> Result<Self> {
        let map: &[u8] = mapped;
        if let Some(reason) = disguise(map) {
            return Err(irepair_core::Error::unreadable(path, reason).into());
        }
        let (n_json, header) = SafeTensors::read_metadata(map).map_err(|e| unreadable(path, e))?;
        Ok(Self {
            path,
            mapped,
            header: &map[..size_of::<u64>() + n_json],
            metadata: header.metadata().clone(),
            names: header.offset_keys(),
            tensors: SafeTensors::deserialize(map).map_err(|e| unreadable(path, e))?,
        })
    }

    /// A tensor by its stored name.
    pub(super) fn view(&self, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|e| unreadable(self.path, e))
    }

    /// The value of a tensor, on `device`; of `kind`, or of the kind it is stored in.
    pub(super) fn tensor(&self, name: &str, device: Device, kind: Option<Kind>) -> Result<Tensor> {
        let (view, stored) = (self.view(name)?, self.kind(name)?);
        let shape = self.shape(name, view.shape())?;
        let mut value = Tensor::f_empty(&shape, (kind.unwrap_or(stored), device))?;
        if value.kind() == stored
            && let Some(bytes) = sys::bytes_mut(&mut value)
        {
            self.read(view.data(), bytes)?;
            return Ok(value);
        }
        let (flat, mut start) = (value.f_view(-1)?, 0);
        for chunk in self.bytes(&view) {
            let n = (chunk.len() / stored.elt_size_in_bytes()) as i64;
            flat.f_narrow(0, start, n)?.f_copy_(&flat_tensor(chunk, stored)?)?;
            start += n;
        }
        Ok(value)
    }

    /// Reads the bytes of `part`, a part of the map, into `bytes`, which is as long: from the file, without a page of
    /// the map, on several threads, as most of the time goes into giving out fresh memory.
    fn read(&self, part: &[u8], bytes: &mut [u8]) -> Result<()> {
        let start = part.as_ptr() as usize - self.mapped.as_ptr() as usize;
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(bytes.len() / SHARE).max(1);
        let share = bytes.len().div_ceil(n_threads).max(1);
        let read = std::thread::scope(|scope| {
            let reads: Vec<_> = bytes
                .chunks_mut(share)
                .enumerate()
                .map(|(i, bytes)| scope.spawn(move || read_at(self.mapped, start + i * share, bytes)))
                .collect();
            let failed = || Err(io::Error::other("a reading thread failed"));
            reads.into_iter().try_for_each(|read| read.join().unwrap_or_else(|_| failed()))
        });
        Ok(read.map_err(irepair_core::Error::io("read", self.path))?)
    }

    /// A shape in libtorch's numbers. Its size is the file's, so that only a tensor without values can be too large:
    /// its strides would be.
    fn shape(&self, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
        let strides = shape.iter().try_fold(1_i64, |all, &n| all.checked_mul(i64::try_from(n.max(1)).ok()?));
        if strides.is_none() {
            let reason = format!("tensor `{}` has no values and a shape past all numbers", printable(name));
            return Err(irepair_core::Error::unreadable(self.path, reason).into());
        }
        Ok(shape.iter().map(|&n| n as i64).collect())
    }

    /// True when a tensor, brought to `value`'s type, is `value` bit for bit.
    pub(super) fn holds(&self, name: &str, value: &Tensor) -> Result<bool> {
        let (view, stored) = (self.view(name)?, self.kind(name)?);
        let dtype = dtype_of(value.kind());
        let n = CHUNK / stored.elt_size_in_bytes();
        for (here, there) in self.bytes(&view).zip(chunks(value, n)) {
            if bytes_of(&flat_tensor(here, stored)?, dtype) != bytes_of(&there, dtype) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands out the bytes of a tensor, but for those of elements that are not those of `value` once they are brought
    /// to its type: these come from `value`, a tensor of as many elements.
    pub(super) fn changed(
        &self,
        name: &str,
        value: &Tensor,
        write: &mut dyn FnMut(&[u8]) -> Result<(), irepair_core::Error>,
    ) -> Result<()> {
        let (view, stored) = (self.view(name)?, self.kind(name)?);
        let (size, narrow) = (stored.elt_size_in_bytes(), value.kind().elt_size_in_bytes());
        for (here, there) in self.bytes(&view).zip(chunks(value, CHUNK / size)) {
            let before = bytes_of(&flat_tensor(here, stored)?, dtype_of(value.kind()));
            let now = bytes_of(&there, dtype_of(value.kind()));
            if before == now {
                write(here)?;
                continue;
            }
            let new = bytes_of(&there, dtype_of(stored));
            let mut bytes = here.to_vec();
            let elements = before.chunks(narrow).zip(now.chunks(narrow)).enumerate();
            for (i, _) in elements.filter(|(_, (before, now))| before != now) {
                bytes[i * size..][..size].copy_from_slice(&new[i * size..][..size]);
            }
            write(&bytes)?;
        }
        Ok(())
    }

    /// The bytes of a tensor, a chunk at a time. Pages are let go once they are read, so that a file is never in
    /// memory together with the tensors made of it.
    pub(super) fn bytes(&self, view: &TensorView<'a>) -> impl Iterator<Item = &'a [u8]> {
        let map = &self.mapped.map;
        let mut last: &[u8] = &[];
        let mut rest = view.data().chunks(CHUNK);
        std::iter::from_fn(move || {
            sys::release(map, last);
            last = rest.next().unwrap_or_default();
            (!last.is_empty()).then_some(last)
        })
    }

    fn kind(&self, name: &str) -> Result<Kind> {
        let dtype = self.view(name)?.dtype();
        kind_of(dtype).ok_or_else(|| Error::WrongDtype {
            path: self.path.to_owned(),
            tensor: name.to_owned(),
            got: format!("{dtype:?}"),
        })
    }
}

impl Parsed<'static> {
    /// The tensor where it lies in the file; none where it is not stored in `kind`, or not aligned.
    pub(super) fn in_place(&self, name: &str, kind: Kind) -> Result<Option<Tensor>> {
        let (view, stored) = (self.view(name)?, self.kind(name)?);
        let shape = self.shape(name, view.shape())?;
        Ok(if stored == kind { sys::tensor_over(view.data(), &shape, kind) } else { None })
    }
}

impl Mapped {
    /// Lets the system drop every page that was read.
    pub(super) fn release(&self) {
        sys::release(&self.map, &self.map);
    }

    /// Asks the system to read a part.
    pub(super) fn prefetch(&self, part: &[u8]) {
        sys::prefetch(&self.map, part);
    }
}

/// The values of a tensor as tensors of one dimension, of `n` elements but for the last.
pub(crate) fn chunks(tensor: &Tensor, n: usize) -> impl Iterator<Item = Tensor> {
    let flat = tensor.detach().contiguous().view(-1);
    let numel = flat.numel();
    (0..numel).step_by(n).map(move |start| flat.narrow(0, start as i64, n.min(numel - start) as i64))
}

/// Bytes as a tensor of one dimension.
fn flat_tensor(bytes: &[u8], kind: Kind) -> Result<Tensor> {
    Ok(Tensor::f_from_data_size(bytes, &[(bytes.len() / kind.elt_size_in_bytes()) as i64], kind)?)
}

/// Opens a weights file for reading.
pub(super) fn map(path: &Path) -> Result<Mapped> {
    let file = irepair_core::fs::open_weights(path)?;
    Ok(Mapped { map: sys::map_file(&file).map_err(irepair_core::Error::io("read", path))?, file })
}

fn read_at(mapped: &Mapped, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(&mapped.file, bytes, offset as u64);
    #[cfg(not(unix))]
    return Ok(bytes.copy_from_slice(&mapped[offset..][..bytes.len()]));
}

fn unreadable(path: &Path, error: SafeTensorError) -> Error {
    let reason = match error {
        // The library's words for it, "incomplete metadata", point at the wrong half of the file.
        SafeTensorError::MetadataIncompleteBuffer => {
            "its size is not what its header says: a copy or download was cut short".to_owned()
        }
        other => format!("not a safetensors file: {other}"),
    };
    irepair_core::Error::unreadable(path, reason).into()
}

/// The types of weights: in a file, and in libtorch.
const TYPES: [(Dtype, Kind); 3] = [(Dtype::F32, Kind::Float), (Dtype::F16, Kind::Half), (Dtype::BF16, Kind::BFloat16)];

pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    TYPES.iter().find(|(stored, _)| *stored == dtype).map(|(_, kind)| *kind)
}

pub(crate) fn dtype_of(kind: Kind) -> Dtype {
    TYPES.iter().find(|(_, computed)| *computed == kind).map_or(Dtype::F32, |(dtype, _)| *dtype)
}

/// The bytes of a tensor's values, rounded to `dtype`.
pub(crate) fn bytes_of(tensor: &Tensor, dtype: Dtype) -> Vec<u8> {
    let kind = kind_of(dtype).unwrap_or(Kind::Float);
    let flat = no_grad(|| tensor.detach().to_device(Device::Cpu).to_kind(kind).contiguous().view(-1));
    let mut bytes = vec![0; flat.numel() * kind.elt_size_in_bytes()];
    flat.copy_data_u8(&mut bytes, flat.numel());
    bytes
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
    replace(path, |temporary| {
        let views = out.iter().map(|(name, out)| (name, out));
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(|error| {
            let source = match error {
                SafeTensorError::IoError(source) => source,
                other => io::Error::other(other.to_string()),
            };
            Error::from(irepair_core::Error::io("write", path)(source))
        })
    })
}

/// Reads what [`write_tensors`] wrote, on the CPU.
///
/// # Errors
/// File errors and [`Error::WrongDtype`].
pub fn read_tensors(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let map = map(path)?;
    let parsed = Parsed::new(path, &map)?;
    let mut tensors = HashMap::new();
    for name in &parsed.names {
        tensors.insert(name.clone(), parsed.tensor(name, Device::Cpu, None)?);
    }
    Ok((tensors, parsed.metadata.unwrap_or_default()))
}
