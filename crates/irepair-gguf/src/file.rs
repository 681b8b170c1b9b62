//! A GGUF file: its metadata, and the place of each tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use irepair_core::printable;
use irepair_core::weights::disguise;

use crate::kind::Kind;
use crate::read::Reader;
use crate::value::Value;
use crate::{Error, Result};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Tensor data and tensors begin at multiples of this when the file gives no alignment.
const ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// Metadata and tensor places of a GGUF file, checked: keys and tensor names occur once, and every tensor is inside the
/// file and overlaps no other. Tensor values are read on demand.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// Version of the format.
    pub(crate) version: u32,
    metadata: BTreeMap<String, Value>,
    /// Keys in the order of the file, each with its bytes: those of key, type and value.
    pub(crate) keys: Vec<(String, Range<u64>)>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Names of tensors in the order of the file.
    pub(crate) order: Vec<String>,
    /// Tensors begin at multiples of this.
    pub(crate) alignment: u64,
}

/// The place of a tensor, and its type and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of the stored values.
    pub kind: Kind,
    /// Shape, slowest dimension first (the file has it the other way round).
    pub shape: Vec<usize>,
    /// Byte of the file at which it begins.
    pub offset: u64,
    /// Bytes it takes.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Number of values.
    pub fn n_values(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

impl GgufFile {
    /// Reads everything but the tensor values.
    ///
    /// # Errors
    /// `NotGguf`, `Version`, `TensorType`; `Broken` for everything a well-formed file does not have; `File`.
    pub fn open(path: &Path) -> Result<Self> {
        let mut reader = Reader::open(path)?;
        let version = check_start(&mut reader, path)?;
        let n_tensors = reader.u64("number of tensors")?;
        let n_keys = reader.u64("number of metadata keys")?;
        // A key takes 13 bytes at least, a tensor 32.
        reader.wants(n_keys, 13, "number of metadata keys")?;
        reader.wants(n_tensors, 32, "number of tensors")?;
        let (mut metadata, mut keys) = (BTreeMap::new(), Vec::new());
        for _ in 0..n_keys {
            let start = reader.position();
            let key = reader.text("metadata key")?;
            let value = Value::read(&mut reader, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(reader.broken(key, "the key occurs twice"));
            }
            keys.push((key, start..reader.position()));
        }
        let alignment = alignment(&reader, metadata.get("general.alignment"))?;
        let (mut tensors, mut order) = (BTreeMap::new(), Vec::new());
        for _ in 0..n_tensors {
            let (name, info) = tensor(&mut reader, path, alignment)?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(reader.broken(name, "the tensor occurs twice"));
            }
            order.push(name);
        }
        place(&reader, &mut tensors, alignment)?;
        Ok(Self { path: path.to_owned(), version, metadata, keys, tensors, order, alignment })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Metadata by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// A handle to read tensor values with.
    ///
    /// # Errors
    /// `File`.
    pub fn values(&self) -> Result<TensorValues> {
        Ok(TensorValues { file: irepair_core::fs::open(&self.path)?, path: self.path.clone(), blocks: Vec::new() })
    }
}

/// Reads values of tensors, some at a time.
#[derive(Debug)]
pub struct TensorValues {
    file: File,
    path: PathBuf,
    /// Stored bytes of the values read last.
    blocks: Vec<u8>,
}

impl TensorValues {
    /// Dequantises the values of `tensor` from the `start`-th on into `values`; both must end at blocks of its type.
    ///
    /// # Errors
    /// `File` when the system cannot read.
    ///
    /// # Panics
    /// When `start` or the number of values is not a multiple of the type's block.
    pub fn read(&mut self, tensor: &TensorInfo, start: usize, values: &mut [f32]) -> Result<()> {
        let (n_values, n_bytes) = (tensor.kind.n_values(), tensor.kind.n_bytes());
        assert!(start.is_multiple_of(n_values) && values.len().is_multiple_of(n_values), "whole blocks");
        self.blocks.resize(values.len() / n_values * n_bytes, 0);
        let offset = tensor.offset + (start / n_values * n_bytes) as u64;
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut self.blocks));
        read.map_err(irepair_core::Error::io("read", &self.path))?;
        tensor.kind.dequantise(&self.blocks, values);
        Ok(())
    }
}

/// Reads the magic and returns the version.
fn check_start(reader: &mut Reader, path: &Path) -> Result<u32> {
    let start = reader.start()?;
    if !start.starts_with(MAGIC) {
        let got = disguise(start).unwrap_or("other bytes at its start").to_owned();
        return Err(Error::NotGguf { path: path.to_owned(), got });
    }
    reader.u32("magic")?;
    match reader.u32("version")? {
        version @ (2 | 3) => Ok(version),
        version if version.swap_bytes() < 16 => {
            Err(Error::Version { path: path.to_owned(), got: format!("big-endian version {}", version.swap_bytes()) })
        }
        version => Err(Error::Version { path: path.to_owned(), got: version.to_string() }),
    }
}

fn alignment(reader: &Reader, stored: Option<&Value>) -> Result<u64> {
    match stored {
        None => Ok(ALIGNMENT),
        Some(Value::Integer(n)) if (8..=1 << 20).contains(n) && (*n as u64).is_power_of_two() => Ok(*n as u64),
        Some(other) => {
            Err(reader.broken("general.alignment", format!("{}, not a power of two from 8 on", other.shown())))
        }
    }
}

/// Name and place of the next tensor; the place is counted from the start of the tensor data.
fn tensor(reader: &mut Reader, path: &Path, alignment: u64) -> Result<(String, TensorInfo)> {
    let name = reader.text("tensor name")?;
    let n_dimensions = reader.u32(&name)?;
    if !(1..=MAX_DIMENSIONS).contains(&n_dimensions) {
        return Err(reader.broken(name, format!("{n_dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")));
    }
    let stored = (0..n_dimensions).map(|_| reader.u64(&name)).collect::<Result<Vec<u64>>>()?;
    let number = reader.u32(&name)?;
    let offset = reader.u64(&name)?;
    let kind = Kind::of_number(number).map_err(|got| Error::TensorType {
        path: path.to_owned(),
        tensor: name.clone(),
        got,
    })?;
    let n_values = stored.iter().try_fold(1u64, |n, size| n.checked_mul(*size)).filter(|n| *n > 0 && *n < 1 << 48);
    let Some(n_values) = n_values else {
        return Err(reader.broken(name, format!("impossible shape {stored:?}")));
    };
    if !stored[0].is_multiple_of(kind.n_values() as u64) {
        let why = format!("rows of {} values, which are not whole blocks of {kind}", stored[0]);
        return Err(reader.broken(name, why));
    }
    if !offset.is_multiple_of(alignment) {
        return Err(
            reader.broken(name, format!("begins at byte {offset} of the data, not at a multiple of {alignment}"))
        );
    }
    let n_bytes = n_values / kind.n_values() as u64 * kind.n_bytes() as u64;
    let shape = stored.iter().rev().map(|size| *size as usize).collect();
    Ok((name, TensorInfo { kind, shape, offset, n_bytes }))
}

/// Turns places in the data into places in the file, and refuses tensors that reach past its end or overlap.
fn place(reader: &Reader, tensors: &mut BTreeMap<String, TensorInfo>, alignment: u64) -> Result<()> {
    let data = reader.position().next_multiple_of(alignment);
    for (name, info) in tensors.iter_mut() {
        let offset = data.checked_add(info.offset);
        let end = offset.and_then(|offset| offset.checked_add(info.n_bytes));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= reader.n_bytes() => info.offset = offset,
            _ => return Err(reader.broken(name.clone(), "the file ends before the tensor does")),
        }
    }
    let mut by_offset: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, info)| info.offset);
    for pair in by_offset.windows(2) {
        let [(first, before), (second, after)] = pair else { continue };
        if before.offset + before.n_bytes > after.offset {
            return Err(reader.broken((*second).clone(), format!("overlaps the tensor `{}`", printable(first))));
        }
    }
    Ok(())
}
