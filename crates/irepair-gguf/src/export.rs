//! From a repaired directory back to GGUF: the file that the directory was imported from, with the changed tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;
use irepair_core::fs::replace;
use irepair_core::weights::{CONFIG, read_object};
use irepair_core::{Checkpoint, Error, printable};
use serde::Serialize;
use serde_json::Value as Json;

use crate::Result;
use crate::architectures::Target;
use crate::compare::{Content, Stored, content, pass};
use crate::convert::Conversion;
use crate::file::{GgufFile, MAGIC, TensorInfo};
use crate::kind::Kind;
use crate::value::Value;

const FILE_TYPE: &str = "general.file_type";
/// Number of the type of 32-bit unsigned integers.
const UINT32: u32 = 4;
const TOKENIZER: &str = "tokenizer.json";

/// A directory that can be written as GGUF.
#[derive(Debug)]
pub struct Export<'a> {
    file: &'a GgufFile,
    checkpoint: Checkpoint,
    /// New type and source of each changed tensor, by its name in the file.
    changed: BTreeMap<&'a str, (Kind, &'a Target)>,
}

/// What an export makes of its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// Tensors copied byte for byte.
    pub n_copied: usize,
    /// Changed tensors by the type they are written in.
    pub changed: BTreeMap<String, usize>,
    /// Changed matrices in F32 because F16 cannot hold their values, by their names in the file.
    pub too_large_for_f16: Vec<String>,
    /// `general.file_type`, where the file has it.
    pub file_type: Option<u32>,
    /// Bytes of all tensors.
    pub n_bytes: u64,
}

impl<'a> Export<'a> {
    /// Compares the model in `dir` with the one in the file of `conversion`. `on_tensor` gets the name of every tensor
    /// that was compared.
    ///
    /// # Errors
    /// `Mismatch` when settings, tokenizer or tensors are not those of an import of the file; `NotFinite`; `File`.
    pub fn plan(conversion: &'a Conversion<'a>, dir: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        check_settings(conversion, dir)?;
        let (file, targets) = (conversion.file, &conversion.model.targets);
        let known: BTreeSet<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        if let Some(name) = checkpoint.names().find(|name| !known.contains(name.as_str())) {
            let got = checkpoint.get(name).map(|(_, stored)| stored.layout()).unwrap_or_default();
            return Err(mismatch(dir, "tensor", name, "no such tensor", got));
        }
        let mut changed = BTreeMap::new();
        for target in targets {
            if let Content::Changed(kind) = content(file, &checkpoint, target)? {
                changed.insert(target.source.as_str(), (kind, target));
            }
            on_tensor(&target.name);
        }
        Ok(Self { file, checkpoint, changed })
    }

    /// What will be written.
    pub fn summary(&self) -> ExportSummary {
        let mut changed = BTreeMap::new();
        for (kind, _) in self.changed.values() {
            *changed.entry(kind.to_string()).or_default() += 1;
        }
        let wide = |(name, (kind, _)): (&&str, &(Kind, &Target))| {
            let info = &self.file.tensors()[*name];
            (*kind == Kind::F32 && info.kind != Kind::F32 && info.shape.len() > 1).then(|| (*name).to_owned())
        };
        ExportSummary {
            n_copied: self.file.tensors().len() - self.changed.len(),
            changed,
            too_large_for_f16: self.changed.iter().filter_map(wide).collect(),
            file_type: self.file_type(),
            n_bytes: self.file.tensors().iter().map(|(name, info)| self.stored(name, info).1).sum(),
        }
    }

    /// Writes the file `out`, which is not there yet, or is this very file already. `on_tensor` gets the name of every
    /// tensor that is written.
    ///
    /// # Errors
    /// `OutExists` for any other file, `File`. Nothing is written then.
    pub fn write(&self, out: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<()> {
        if out.symlink_metadata().is_ok() {
            return self.compare(out, on_tensor);
        }
        replace(out, |new| {
            let file = File::create(new).map_err(Error::io("write", out))?;
            self.write_to(&mut BufWriter::with_capacity(1 << 20, file), out, on_tensor)?;
            // Another process may have written it in the meantime.
            if out.symlink_metadata().is_ok() { Err(exists(out)) } else { Ok(()) }
        })
    }

    /// Refuses a file that is not the one to be written.
    fn compare(&self, out: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<()> {
        if !out.is_file() {
            return Err(exists(out));
        }
        let mut there =
            Comparison { file: BufReader::new(irepair_core::fs::open(out)?), bytes: Vec::new(), same: true };
        let written = self.write_to(&mut there, out, on_tensor);
        if !there.same || there.file.fill_buf().is_ok_and(|rest| !rest.is_empty()) {
            return Err(exists(out));
        }
        written
    }

    fn write_to(&self, to: &mut impl Write, out: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<()> {
        let io = Error::io("write", out);
        let n_head = self.write_head(to, out)?;
        pad(to, n_head, self.file.alignment).map_err(io)?;
        for name in &self.file.order {
            let n_bytes = self.write_tensor(name, to, out)?;
            pad(to, n_bytes, self.file.alignment).map_err(io)?;
            on_tensor(name);
        }
        Ok(to.flush().map_err(io)?)
    }

    /// Type and bytes of a tensor in the new file.
    fn stored(&self, name: &str, info: &TensorInfo) -> (Kind, u64) {
        match self.changed.get(name) {
            Some((kind, _)) => (*kind, info.n_values() * kind.n_bytes() as u64),
            None => (info.kind, info.n_bytes),
        }
    }

    /// `general.file_type`: unchanged while most tensors are of the type that most were of; otherwise the one that
    /// llama.cpp takes for the type of most. None where the file does not say.
    fn file_type(&self) -> Option<u32> {
        let Some(Value::Integer(old)) = self.file.metadata().get(FILE_TYPE) else { return None };
        let most = |kind: &dyn Fn(&str, &TensorInfo) -> Kind| {
            let mut counts: BTreeMap<u32, (usize, Kind)> = BTreeMap::new();
            for (name, info) in self.file.tensors() {
                let kind = kind(name, info);
                counts.entry(kind.number()).or_insert((0, kind)).0 += 1;
            }
            // Of two that are equally frequent, the lower number.
            counts.into_values().reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, kind)| kind)
        };
        let (before, after) = (most(&|_, info| info.kind), most(&|name, info| self.stored(name, info).0));
        match after {
            Some(kind) if before != after => Some(kind.file_type()),
            _ => u32::try_from(*old).ok(),
        }
    }

    /// Writes everything before the tensor data; returns its bytes.
    fn write_head(&self, to: &mut impl Write, out: &Path) -> Result<u64> {
        let (reading, writing) = (Error::io("read", self.file.path()), Error::io("write", out));
        let mut head = Vec::from(*MAGIC);
        head.extend(self.file.version.to_le_bytes());
        head.extend((self.file.order.len() as u64).to_le_bytes());
        head.extend((self.file.keys.len() as u64).to_le_bytes());
        let mut from = irepair_core::fs::open(self.file.path())?;
        for (key, range) in &self.file.keys {
            if let (FILE_TYPE, Some(file_type)) = (key.as_str(), self.file_type()) {
                head.extend((key.len() as u64).to_le_bytes());
                head.extend(key.as_bytes());
                head.extend(UINT32.to_le_bytes());
                head.extend(file_type.to_le_bytes());
                continue;
            }
            from.seek(SeekFrom::Start(range.start)).map_err(reading)?;
            let start = head.len();
            head.resize(start + (range.end - range.start) as usize, 0);
            from.read_exact(&mut head[start..]).map_err(reading)?;
        }
        let mut offset = 0u64;
        for name in &self.file.order {
            let info = &self.file.tensors()[name];
            let (kind, n_bytes) = self.stored(name, info);
            head.extend((name.len() as u64).to_le_bytes());
            head.extend(name.as_bytes());
            head.extend((info.shape.len() as u32).to_le_bytes());
            head.extend(info.shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()));
            head.extend(kind.number().to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += n_bytes.next_multiple_of(self.file.alignment);
        }
        to.write_all(&head).map_err(writing)?;
        Ok(head.len() as u64)
    }

    /// Writes one tensor; returns its bytes.
    fn write_tensor(&self, name: &str, to: &mut impl Write, out: &Path) -> Result<u64> {
        let (reading, writing) = (Error::io("read", self.file.path()), Error::io("write", out));
        let info = &self.file.tensors()[name];
        let Some((kind, target)) = self.changed.get(name) else {
            let mut from = irepair_core::fs::open(self.file.path())?;
            from.seek(SeekFrom::Start(info.offset)).map_err(reading)?;
            let n_bytes = std::io::copy(&mut from.take(info.n_bytes), to).map_err(writing)?;
            if n_bytes != info.n_bytes {
                return Err(Error::unreadable(self.file.path(), "it was cut short in the meantime").into());
            }
            return Ok(n_bytes);
        };
        let mut stored = Stored::open(&self.checkpoint, target, info)?;
        let (mut values, mut rows, mut bytes, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        loop {
            let (group, n) = pass(target, info, start);
            if n == 0 {
                return Ok(self.stored(name, info).1);
            }
            values.resize(n, 0.0);
            rows.resize(n, 0.0);
            stored.read(&mut values)?;
            target.layout.to_file(&values, group, &mut rows);
            bytes.clear();
            match *kind {
                Kind::F16 => bytes.extend(rows.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
                _ => bytes.extend(rows.iter().flat_map(|value| value.to_le_bytes())),
            }
            to.write_all(&bytes).map_err(writing)?;
            start += n;
        }
    }
}

fn exists(out: &Path) -> crate::Error {
    Error::OutExists { path: out.to_owned() }.into()
}

/// Compares what is written with a file that is there, and ends at the first difference.
struct Comparison {
    file: BufReader<File>,
    bytes: Vec<u8>,
    same: bool,
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.resize(bytes.len(), 0);
        self.same &= self.file.read_exact(&mut self.bytes).is_ok() && self.bytes == bytes;
        if self.same { Ok(bytes.len()) } else { Err(std::io::Error::other("another file is there")) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Zeros up to the next multiple of `alignment` after `n` bytes.
fn pad(to: &mut impl Write, n: u64, alignment: u64) -> std::io::Result<()> {
    std::io::copy(&mut std::io::repeat(0).take(n.next_multiple_of(alignment) - n), to).map(|_| ())
}

/// Refuses a directory with other settings or another tokenizer than the import's: the file keeps the old ones.
fn check_settings(conversion: &Conversion<'_>, dir: &Path) -> Result<()> {
    let config = read_object(&dir.join(CONFIG))?;
    let shown =
        |value: Option<&Json>| value.map_or_else(|| "nothing".to_owned(), |value| printable(&value.to_string()));
    // As the file has it: reading a number may change its last bit.
    let written: Json = serde_json::from_str(&conversion.model.config.to_string()).unwrap_or_default();
    // The type that values are stored in is that of each tensor.
    for (key, want) in written.as_object().into_iter().flatten().filter(|(key, _)| *key != "dtype") {
        if config.get(key) != Some(want) {
            return Err(mismatch(dir, "config.json", key, shown(Some(want)), shown(config.get(key))));
        }
    }
    let tokenizer = read_object(&dir.join(TOKENIZER))?;
    if Json::Object(tokenizer) != conversion.tokenizer.json() {
        return Err(mismatch(dir, "file", TOKENIZER, "the tokenizer of the GGUF file", "another one"));
    }
    Ok(())
}

fn mismatch(
    dir: &Path,
    part: &'static str,
    name: &str,
    want: impl Into<String>,
    got: impl Into<String>,
) -> crate::Error {
    crate::Error::Mismatch { path: dir.to_owned(), part, name: printable(name), want: want.into(), got: got.into() }
}
