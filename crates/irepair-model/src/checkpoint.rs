//! Hugging Face checkpoints: read through a memory map, written back with the same names, types and metadata.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use irepair_core::fs::{read_to_string, replace, write_atomic};
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor, no_grad};

use crate::params::{Params, specs};
use crate::{CausalLm, Error, ModelConfig, Result, sys};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What loading did with the tensors in the files.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Number of parameters filled.
    pub n_applied: usize,
    /// Bytes of weights read.
    pub n_bytes: u64,
    /// Stored tensors that the model has no use for, such as causal-mask buffers.
    pub unused: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (applied, mib) = (self.n_applied, self.n_bytes as f64 / f64::from(1 << 20));
        write!(f, "{applied} tensors applied ({mib:.1} MiB), 0 missing, {} unused", self.unused.len())?;
        if !self.unused.is_empty() {
            write!(
                f,
                " ({}{})",
                self.unused[..self.unused.len().min(3)].join(", "),
                if self.unused.len() > 3 { ", …" } else { "" }
            )?;
        }
        Ok(())
    }
}

/// Where a model's weights came from, and so how they are written back.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Made here; written as one file with GPT-2's usual names.
    None,
    /// A checkpoint directory.
    Directory { dir: PathBuf, shards: Vec<Shard> },
}

#[derive(Clone, Debug)]
pub(crate) struct Shard {
    file: String,
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<Stored>,
}

/// One tensor as stored: `parameter` is its index in the model, or none for a tensor that is only carried along.
#[derive(Clone, Debug)]
struct Stored {
    name: String,
    dtype: Dtype,
    parameter: Option<usize>,
}

impl CausalLm {
    /// Reads a checkpoint directory: `config.json` and `model.safetensors`, or shards with their index.
    ///
    /// Weights are converted to `kind` and moved to `device` one tensor at a time.
    ///
    /// # Errors
    /// Missing or broken files, unsupported settings, missing or misshapen tensors: each by name.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<(Self, LoadReport)> {
        let config = ModelConfig::read(&dir.join("config.json"))?;
        let specs = specs(&config);
        let wanted: HashMap<&str, usize> = specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut values: Vec<Option<Tensor>> = specs.iter().map(|_| None).collect();
        let mut report = LoadReport::default();
        let mut shards = Vec::new();
        for file in shard_files(dir)? {
            let path = dir.join(&file);
            let map = sys::map_file(&path).map_err(|source| irepair_core::Error::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
            let (tensors, metadata) = parse(&path, &map)?;
            let mut stored = Vec::new();
            for (name, view) in tensors.iter() {
                let plain = name.strip_prefix("transformer.").unwrap_or(name);
                // A tied head that is stored all the same is a copy of the embedding: written back, never read.
                let tied_copy = config.tied_head && plain == "lm_head.weight";
                let parameter = wanted.get(if tied_copy { "wte.weight" } else { plain }).copied();
                stored.push(Stored { name: name.to_owned(), dtype: view.dtype(), parameter });
                match parameter {
                    Some(index) if !tied_copy => {
                        let want = &specs[index].shape;
                        let got: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
                        if *want != got {
                            let (want, tensor) = (want.clone(), name.to_owned());
                            return Err(Error::WrongShape { path, tensor, want, got });
                        }
                        let value = to_tensor(&path, name, &view)?;
                        values[index] = Some(value.to_device(device).to_kind(kind));
                        report.n_bytes += view.data().len() as u64;
                        sys::release(&map, view.data());
                    }
                    Some(_) => {}
                    None => report.unused.push(name.to_owned()),
                }
            }
            stored.sort_by(|a, b| a.name.cmp(&b.name));
            shards.push(Shard { file, metadata, tensors: stored });
        }
        report.unused.sort();
        let mut values = values.into_iter();
        let params = Params::collect(&specs, |spec| {
            let missing = || Error::MissingTensor { path: dir.to_owned(), tensor: spec.name.clone() };
            values.next().flatten().ok_or_else(missing)
        })?;
        report.n_applied = specs.len();
        drop(wanted);
        let source = Source::Directory { dir: dir.to_owned(), shards };
        Ok((Self::assemble(config, params, source)?, report))
    }

    /// Writes the model as a checkpoint directory that `transformers` loads unchanged.
    ///
    /// A model that was loaded keeps its files' names, tensor names, types and metadata, and brings its tokenizer and
    /// other small files along. Each file is written aside and renamed; weights come before `config.json`, so a directory
    /// with a config is whole.
    ///
    /// # Errors
    /// File errors; [`Error::MissingFile`] when the directory it was loaded from is gone.
    pub fn save(&self, dir: &Path) -> Result<()> {
        match &self.source {
            Source::None => self.save_fresh(dir)?,
            Source::Directory { dir: from, shards } => {
                for shard in shards {
                    self.save_shard(from, shard, &dir.join(&shard.file))?;
                }
                copy_companions(from, dir)?;
            }
        }
        Ok(write_atomic(&dir.join("config.json"), self.config().to_json().as_bytes())?)
    }

    fn save_fresh(&self, dir: &Path) -> Result<()> {
        let tensors: Vec<(String, Out<'_>)> = self
            .parameters()
            .iter()
            .map(|p| {
                let prefix = if p.name == "lm_head.weight" { "" } else { "transformer." };
                (format!("{prefix}{}", p.name), Out::value(&p.tensor, dtype_of(p.tensor.kind())))
            })
            .collect();
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(&dir.join(WEIGHTS), tensors, Some(metadata))
    }

    fn save_shard(&self, from: &Path, shard: &Shard, to: &Path) -> Result<()> {
        let path = from.join(&shard.file);
        let needs_source = shard.tensors.iter().any(|t| t.parameter.is_none());
        let map = if needs_source {
            Some(sys::map_file(&path).map_err(|_| Error::MissingFile { path: path.clone() })?)
        } else {
            None
        };
        let carried = match &map {
            Some(map) => Some(parse(&path, map)?.0),
            None => None,
        };
        let mut tensors = Vec::with_capacity(shard.tensors.len());
        for stored in &shard.tensors {
            let out = match (stored.parameter, &carried) {
                (Some(index), _) => Out::value(&self.parameters()[index].tensor, stored.dtype),
                (None, Some(source)) => {
                    let view = source.tensor(&stored.name).map_err(|e| unreadable(&path, e))?;
                    Out { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: Bytes::Carried(view.data()) }
                }
                (None, None) => unreachable!("the source is mapped whenever a tensor is carried along"),
            };
            tensors.push((stored.name.clone(), out));
        }
        write_safetensors(to, tensors, shard.metadata.clone())
    }
}

/// The files that hold the weights of a directory.
fn shard_files(dir: &Path) -> Result<Vec<String>> {
    if dir.join(WEIGHTS).exists() {
        return Ok(vec![WEIGHTS.to_owned()]);
    }
    let index = dir.join(INDEX);
    if !index.exists() {
        let pickle = dir.join("pytorch_model.bin");
        if pickle.exists() {
            let reason = "pickle checkpoints can run code when opened and are not read".to_owned();
            return Err(Error::Unreadable { path: pickle, reason });
        }
        return Err(Error::MissingFile { path: dir.join(WEIGHTS) });
    }
    let broken = |reason: String| Error::Unreadable { path: index.clone(), reason };
    let json: serde_json::Value =
        serde_json::from_str(&read_to_string(&index)?).map_err(|e| broken(format!("not JSON: {e}")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| broken("no `weight_map`".into()))?;
    let mut files: Vec<String> = Vec::new();
    for file in map.values() {
        let name = file.as_str().unwrap_or_default();
        // A shard is a file of this directory: anything with a path in it could reach outside.
        if Path::new(name).file_name().is_none_or(|n| n != name) || !name.ends_with(".safetensors") {
            return Err(broken(format!("shard name `{name}` is not a safetensors file of this directory")));
        }
        if !files.iter().any(|f| f == name) {
            files.push(name.to_owned());
        }
    }
    files.sort();
    match files.iter().map(|f| dir.join(f)).find(|f| !f.exists()) {
        Some(path) => Err(Error::MissingFile { path }),
        None if files.is_empty() => Err(broken("`weight_map` is empty".into())),
        None => Ok(files),
    }
}

fn unreadable(path: &Path, error: safetensors::SafeTensorError) -> Error {
    let reason = match error {
        // The library's words for it, "incomplete metadata", point at the wrong half of the file.
        safetensors::SafeTensorError::MetadataIncompleteBuffer => {
            "its size is not what its header says: a copy or download was cut short".to_owned()
        }
        other => format!("not a safetensors file: {other}"),
    };
    Error::Unreadable { path: path.to_owned(), reason }
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<(SafeTensors<'a>, Option<HashMap<String, String>>)> {
    if let Some(reason) = disguise(bytes) {
        return Err(Error::Unreadable { path: path.to_owned(), reason: reason.into() });
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| unreadable(path, e))?;
    let metadata = header.metadata().clone();
    Ok((SafeTensors::deserialize(bytes).map_err(|e| unreadable(path, e))?, metadata))
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

/// A tensor on its way to a file; its bytes are made when the writer asks, one tensor at a time.
struct Out<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    Value(&'a Tensor),
    Carried(&'a [u8]),
}

impl<'a> Out<'a> {
    fn value(tensor: &'a Tensor, dtype: Dtype) -> Self {
        Self { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), bytes: Bytes::Value(tensor) }
    }
}

impl View for &Out<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.bytes {
            Bytes::Carried(bytes) => Cow::Borrowed(bytes),
            Bytes::Value(tensor) => {
                let kind = kind_of(self.dtype).unwrap_or(Kind::Float);
                let flat = no_grad(|| tensor.detach().to_device(Device::Cpu).to_kind(kind).contiguous().view(-1));
                let mut bytes = vec![0; self.data_len()];
                flat.copy_data_u8(&mut bytes, flat.numel());
                Cow::Owned(bytes)
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

fn write_safetensors(
    path: &Path,
    tensors: Vec<(String, Out<'_>)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    replace(path, |aside| {
        let views = tensors.iter().map(|(name, out)| (name, out));
        safetensors::serialize_to_file(views, metadata, aside).map_err(|error| {
            let source = match error {
                safetensors::SafeTensorError::IoError(source) => source,
                other => std::io::Error::other(other.to_string()),
            };
            Error::from(irepair_core::Error::Io { action: "write", path: path.to_owned(), source })
        })
    })
}

/// Writes named tensors and a few strings to one safetensors file, whole or not at all; types are kept.
///
/// # Errors
/// File errors.
pub fn write_tensors(path: &Path, tensors: &[(String, &Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let out = tensors.iter().map(|(name, t)| (name.clone(), Out::value(t, dtype_of(t.kind())))).collect();
    write_safetensors(path, out, Some(metadata))
}

/// Reads what [`write_tensors`] wrote, on the CPU.
///
/// # Errors
/// File errors, [`Error::Unreadable`] and [`Error::WrongDtype`].
pub fn read_tensors(path: &Path) -> Result<(HashMap<String, Tensor>, HashMap<String, String>)> {
    let map = sys::map_file(path).map_err(|source| irepair_core::Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let (views, metadata) = parse(path, &map)?;
    let mut tensors = HashMap::new();
    for (name, view) in views.iter() {
        tensors.insert(name.to_owned(), to_tensor(path, name, &view)?);
    }
    Ok((tensors, metadata.unwrap_or_default()))
}

fn to_tensor(path: &Path, name: &str, view: &safetensors::tensor::TensorView<'_>) -> Result<Tensor> {
    let wrong =
        || Error::WrongDtype { path: path.to_owned(), tensor: name.to_owned(), got: format!("{:?}", view.dtype()) };
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind_of(view.dtype()).ok_or_else(wrong)?)?)
}

/// Copies everything small that belongs to a checkpoint: tokenizer, generation settings, shard index.
fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::from(irepair_core::Error::Io { action: "read", path, source })
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(from).map_err(io(from))? {
        let path = entry.map_err(io(from))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let wanted = [".json", ".txt", ".model", ".jinja", ".md"].iter().any(|end| name.ends_with(end));
        if wanted && name != "config.json" && !name.starts_with('.') && path.is_file() {
            files.insert(name.to_owned(), path);
        }
    }
    for (name, path) in files {
        write_atomic(&to.join(name), &std::fs::read(&path).map_err(io(&path))?)?;
    }
    Ok(())
}
