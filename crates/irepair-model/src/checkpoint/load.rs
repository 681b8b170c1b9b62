//! A checkpoint directory in: every tensor applied, ignored, unused or missing, by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use irepair_core::weights::weight_files;
use tch::{Device, Kind, Tensor};

use super::file::{Mapped, Parsed, map};
use super::{LoadReport, Shard, Source, Stored};
use crate::params::{Params, Spec, specs};
use crate::{CausalLm, Error, ModelConfig, Result};

const EMBEDDING: &str = "wte.weight";
const HEAD: &str = "lm_head.weight";

impl CausalLm {
    /// Reads a checkpoint directory: `config.json` and `model.safetensors`, or shards with their index.
    ///
    /// Weights are converted to `kind` and moved to `device` one tensor at a time.
    ///
    /// # Errors
    /// Missing or broken files, unsupported settings, missing or misshapen tensors: each by name.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<(Self, LoadReport)> {
        let mut config = ModelConfig::read(&dir.join("config.json"))?;
        let mut maps: Vec<(String, PathBuf, Mapped)> = Vec::new();
        for file in weight_files(dir)?.into_keys() {
            let path = dir.join(&file);
            let map = map(&path)?;
            maps.push((file, path, map));
        }
        let mut files: Vec<File<'_>> = Vec::new();
        for (name, path, map) in &maps {
            files.push(File { name, path, parsed: Parsed::new(path, map)? });
        }

        let mut report = LoadReport::default();
        let mut alias = None;
        if config.tied_head {
            match stored_head(&files)? {
                StoredHead::None => {}
                StoredHead::Copy => alias = Some(Alias::Copy),
                StoredHead::Instead => alias = Some(Alias::Value),
                StoredHead::Other => {
                    config.tied_head = false;
                    report.head_differs = true;
                }
            }
        }
        let specs = specs(&config);
        let mut loader = Loader { specs: &specs, alias, values: specs.iter().map(|_| None).collect(), report };
        let shards = files.iter().map(|file| loader.shard(file, device, kind)).collect::<Result<Vec<_>>>()?;
        let Loader { values, mut report, .. } = loader;
        for names in [&mut report.applied, &mut report.ignored_buffers, &mut report.unused] {
            names.sort();
        }

        let missing: Vec<String> =
            specs.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(spec, _)| spec.name.clone()).collect();
        let lacking = || Error::MissingTensors { path: dir.to_owned(), tensors: missing.clone() };
        let mut values = values.into_iter();
        let params = Params::collect(&specs, |_| values.next().flatten().ok_or_else(lacking))?;
        let source = Source::Directory { dir: dir.to_owned(), shards };
        Ok((Self::assemble(config, params, source)?, report))
    }
}

/// Tensors of a checkpoint directory by their stored names, whatever model they belong to.
#[derive(Debug)]
pub struct StoredTensors {
    /// The tensors asked for, in their stored type, on the CPU.
    pub tensors: HashMap<String, Tensor>,
    /// Names of the tensors not asked for, sorted.
    pub unused: Vec<String>,
    /// The weight files of the directory, sorted.
    pub files: Vec<PathBuf>,
}

/// Reads the tensors of a checkpoint directory whose names are `wanted`: `model.safetensors`, or shards with their index.
/// For models of other families than [`CausalLm`]'s; which tensors there must be, and of what shape, is theirs to check.
///
/// # Errors
/// Missing or broken files; a wanted tensor of an unsupported type, or stored twice.
pub fn read_checkpoint(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<StoredTensors> {
    let mut stored = StoredTensors { tensors: HashMap::new(), unused: Vec::new(), files: Vec::new() };
    for name in weight_files(dir)?.into_keys() {
        let path = dir.join(name);
        let map = map(&path)?;
        let parsed = Parsed::new(&path, &map)?;
        for name in &parsed.names {
            if !wanted(name) {
                stored.unused.push(name.clone());
                continue;
            }
            if stored.tensors.insert(name.clone(), parsed.tensor(name, Device::Cpu, None)?).is_some() {
                let path = path.clone();
                return Err(Error::Unreadable { path, reason: format!("tensor `{name}` is stored twice") });
            }
        }
        stored.files.push(path);
    }
    stored.unused.sort();
    Ok(stored)
}

/// One weights file of the directory.
struct File<'a> {
    name: &'a str,
    path: &'a Path,
    parsed: Parsed<'a>,
}

/// A parameter's name without the prefix that whole models have and bare ones lack.
fn plain(name: &str) -> &str {
    name.strip_prefix("transformer.").unwrap_or(name)
}

/// True for the buffers that old versions of transformers stored: `h.3.attn.bias`, `h.3.attn.attention.masked_bias`.
fn is_mask_buffer(plain: &str) -> bool {
    let Some((block, rest)) = plain.strip_prefix("h.").and_then(|rest| rest.split_once('.')) else { return false };
    block.parse::<usize>().is_ok()
        && ["attn.bias", "attn.masked_bias", "attn.attention.bias", "attn.attention.masked_bias"].contains(&rest)
}

/// What a checkpoint with tied settings stores as its head.
enum StoredHead {
    None,
    /// The embedding once more.
    Copy,
    /// The head alone; the embedding is missing.
    Instead,
    /// Other values than the embedding's.
    Other,
}

/// As transformers decides it: equal values are tied, different ones are not, and one stands for both.
fn stored_head(files: &[File<'_>]) -> Result<StoredHead> {
    let find = |wanted: &str| {
        files.iter().find_map(|file| {
            let name = file.parsed.names.iter().find(|name| plain(name) == wanted)?;
            Some(file.parsed.tensor(name, Device::Cpu, Some(Kind::Float)))
        })
    };
    let Some(head) = find(HEAD).transpose()? else { return Ok(StoredHead::None) };
    Ok(match find(EMBEDDING).transpose()? {
        None => StoredHead::Instead,
        Some(embedding) => {
            let same = embedding.size() == head.size() && embedding.equal(&head);
            if same { StoredHead::Copy } else { StoredHead::Other }
        }
    })
}

/// What a stored head of a tied model is to the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alias {
    /// Written back with the embedding's values, never read.
    Copy,
    /// Read as the embedding.
    Value,
}

struct Loader<'a> {
    specs: &'a [Spec],
    alias: Option<Alias>,
    values: Vec<Option<Tensor>>,
    report: LoadReport,
}

impl Loader<'_> {
    fn shard(&mut self, file: &File<'_>, device: Device, kind: Kind) -> Result<Shard> {
        let wanted: HashMap<&str, usize> = self.specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut tensors = Vec::new();
        for name in &file.parsed.names {
            let view = file.parsed.view(name)?;
            let plain = plain(name);
            let is_alias = self.alias.is_some() && plain == HEAD;
            let parameter = wanted.get(if is_alias { EMBEDDING } else { plain }).copied();
            tensors.push(Stored { name: name.clone(), dtype: view.dtype(), parameter });
            match parameter {
                Some(index) if !(is_alias && self.alias == Some(Alias::Copy)) => {
                    let want = &self.specs[index].shape;
                    let got: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
                    if *want != got {
                        let (path, want, tensor) = (file.path.to_owned(), want.clone(), name.clone());
                        return Err(Error::WrongShape { path, tensor, want, got });
                    }
                    if self.values[index].is_some() {
                        let reason = format!("tensor `{name}` is stored twice");
                        return Err(Error::Unreadable { path: file.path.to_owned(), reason });
                    }
                    self.values[index] = Some(file.parsed.tensor(name, device, Some(kind))?);
                    self.report.n_bytes += view.data().len() as u64;
                    self.report.applied.push(name.clone());
                }
                // A copy of what is applied under the embedding's name.
                Some(_) => {}
                None if is_mask_buffer(plain) => self.report.ignored_buffers.push(name.clone()),
                None => self.report.unused.push(name.clone()),
            }
        }
        Ok(Shard { file: file.name.to_owned(), header: file.parsed.header.to_vec(), tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_told_from_weights_by_name() {
        for name in
            ["h.0.attn.bias", "h.11.attn.masked_bias", "h.3.attn.attention.bias", "h.3.attn.attention.masked_bias"]
        {
            assert!(is_mask_buffer(name), "{name}");
        }
        for name in ["h.0.attn.c_attn.bias", "h.x.attn.bias", "attn.bias", "score.weight", "h.0.crossattention.bias"] {
            assert!(!is_mask_buffer(name), "{name}");
        }
    }
}
