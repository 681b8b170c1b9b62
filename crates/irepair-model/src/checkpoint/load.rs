//! A checkpoint directory in: every tensor applied, ignored, unused or missing, by name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use irepair_arch::{Architecture, Family, Parameter as Spec, Slot};
use irepair_core::weights::weight_files;
use tch::{Device, Kind, Tensor};

use super::file::{Mapped, Parsed, map};
use super::in_files::InFiles;
use super::{LoadReport, Shard, Source, Stored};
use crate::params::Params;
use crate::{BlockModel, CausalLm, Error, Result};

/// The name of the head in most families. transformers writes it for every family in memory, so that it is read in
/// place of a family's own.
const HEAD: &str = "lm_head.weight";

/// The plain name of a stored tensor; the head has its family's name.
fn plain<'a>(family: &Family, stored: &'a str) -> Cow<'a, str> {
    match family.plain(stored) {
        HEAD => Cow::Owned(head(family)),
        plain => Cow::Borrowed(plain),
    }
}

/// The stored name of a family's head.
pub(super) fn head(family: &Family) -> String {
    format!("{}.weight", family.head)
}

impl CausalLm {
    /// Reads a checkpoint directory: `config.json` and `model.safetensors`, or shards with their index.
    ///
    /// Weights are converted to `kind` and moved to `device` one tensor at a time.
    ///
    /// # Errors
    /// Missing or broken files, unsupported settings, missing or misshapen tensors: each by name.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<(Self, LoadReport)> {
        let (architecture, files) = open(dir)?;
        Self::load_by(dir, architecture, &files, &|file, name| file.tensor(name, device, Some(kind)))
    }

    /// [`CausalLm::load`] on the CPU with weights that stay in their files, for a model that is larger than memory:
    /// those that are stored in `kind`. The system reads them when they are used, and drops them where more than
    /// `most_resident` bytes of this process are in memory. Before a weight changes it must have memory of its own
    /// ([`BlockModel::copy_on_write`]); `irepair_train` sees to that.
    ///
    /// The files must not change while the process runs, and stay mapped until it ends.
    ///
    /// # Errors
    /// As [`CausalLm::load`].
    pub fn load_in_files(dir: &Path, kind: Kind, most_resident: u64) -> Result<(Self, LoadReport)> {
        let (architecture, files) = open(dir)?;
        let files: &'static [OpenFile] = Box::leak(files.into_boxed_slice());
        let (mut model, report) = Self::load_by(dir, architecture, files, &|file: &Parsed<'static>, name| match file
            .in_place(name, kind)?
        {
            Some(tensor) => Ok(tensor),
            None => file.tensor(name, Device::Cpu, Some(kind)),
        })?;
        let maps = files.iter().map(|file| &file.0).collect();
        model.in_files = Some(InFiles::new(maps, model.parameters(), most_resident));
        Ok((model, report))
    }

    fn load_by<'a>(
        dir: &Path,
        mut architecture: Architecture,
        maps: &'a [OpenFile],
        make: &Make<'_, 'a>,
    ) -> Result<(Self, LoadReport)> {
        let settings = dir.join("config.json");
        let config = std::fs::read(&settings).map_err(irepair_core::Error::io("read", &settings))?;
        let family = architecture.family;
        let files = maps.iter().map(|(map, path, name)| Ok(File { name, path, parsed: Parsed::new(path, map)? }));
        let files = files.collect::<Result<Vec<_>>>()?;

        if let Some((path, tensor)) =
            files.iter().find_map(|file| Some((file.path, adapter_tensor(&file.parsed.names)?)))
        {
            return Err(Error::NotMerged { path: path.to_owned(), tensor: tensor.to_owned() });
        }

        let mut report = LoadReport::default();
        let head = if architecture.tied_head { stored_head(&architecture, &files)? } else { StoredHead::Own };
        if head == StoredHead::Differs {
            architecture.tied_head = false;
            report.head_differs = true;
        }
        let specs = architecture.parameters();
        let mut loader = Loader { family, specs: &specs, head, values: specs.iter().map(|_| None).collect(), report };
        let shards = files.iter().map(|file| loader.shard(file, make)).collect::<Result<Vec<_>>>()?;
        let Loader { values, mut report, .. } = loader;
        for names in [&mut report.applied, &mut report.ignored_buffers, &mut report.unused] {
            names.sort();
        }

        let missing: Vec<String> =
            specs.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(spec, _)| spec.name.clone()).collect();
        let lacking = || Error::MissingTensors { path: dir.to_owned(), tensors: missing.clone() };
        let mut values = values.into_iter();
        let params = Params::collect(&specs, |_| values.next().flatten().ok_or_else(lacking))?.on_its_device();
        let source = Source::Directory { dir: dir.to_owned(), config, shards };
        Ok((Self::assemble(architecture, params, source)?, report))
    }
}

/// A weights file of a directory, its path and its name.
type OpenFile = (Mapped, PathBuf, String);

/// Makes the tensor of a name.
type Make<'m, 'a> = dyn Fn(&Parsed<'a>, &str) -> Result<Tensor> + 'm;

/// What `config.json` says, and the weights files: in this order, so that a directory without either lacks the first.
fn open(dir: &Path) -> Result<(Architecture, Vec<OpenFile>)> {
    let architecture = Architecture::read(&dir.join("config.json"))?;
    let paths = weight_files(dir)?.into_keys().map(|name| (dir.join(&name), name));
    Ok((architecture, paths.map(|(path, name)| Ok((map(&path)?, path, name))).collect::<Result<_>>()?))
}

/// The first tensor of an adapter, as peft names them: one of its own, or a weight that it wraps.
fn adapter_tensor(names: &[String]) -> Option<&str> {
    let own = ".lora_ .ia3_ .hada_ .lokr_ .oft_ .boft_ .vera_ .hra_ .fourierft_";
    let wrapped = ".modules_to_save. .original_module. .base_layer.";
    let parts = own.split(' ').chain(wrapped.split(' '));
    names.iter().map(String::as_str).find(|name| parts.clone().any(|part| name.contains(part)))
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

/// Reads the tensors of a checkpoint directory whose names are `needed`: `model.safetensors`, or shards with their
/// index. For models of other families than [`CausalLm`]'s; which tensors there must be, and of what shape, is theirs
/// to check.
///
/// # Errors
/// Missing or broken files; a needed tensor of an unsupported type, or stored twice.
pub fn read_checkpoint(dir: &Path, needed: impl Fn(&str) -> bool) -> Result<StoredTensors> {
    let mut stored = StoredTensors { tensors: HashMap::new(), unused: Vec::new(), files: Vec::new() };
    for name in weight_files(dir)?.into_keys() {
        let path = dir.join(name);
        let map = map(&path)?;
        let parsed = Parsed::new(&path, &map)?;
        for name in &parsed.names {
            if !needed(name) {
                stored.unused.push(name.clone());
                continue;
            }
            if stored.tensors.insert(name.clone(), parsed.tensor(name, Device::Cpu, None)?).is_some() {
                return Err(stored_twice(&path, name));
            }
        }
        stored.files.push(path);
    }
    stored.unused.sort();
    Ok(stored)
}

fn stored_twice(path: &Path, name: &str) -> Error {
    irepair_core::Error::unreadable(path, format!("tensor `{name}` is stored twice")).into()
}

/// One weights file of the directory.
struct File<'a> {
    name: &'a str,
    path: &'a Path,
    parsed: Parsed<'a>,
}

/// What the head that a checkpoint stores is to a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoredHead {
    /// A parameter like others, or there is none: the settings do not tie it, or nothing is stored.
    Own,
    /// The embedding once more: written back with its values, never read.
    Copy,
    /// The head alone; the embedding is missing, and the head is read as it.
    Instead,
    /// Tied by the settings, but of other values than the embedding: a parameter of its own.
    Differs,
}

/// As transformers decides it: equal values are tied, different ones are not, and one stands for both.
fn stored_head(of: &Architecture, files: &[File<'_>]) -> Result<StoredHead> {
    let find = |wanted: &str| {
        files.iter().find_map(|file| {
            let name = file.parsed.names.iter().find(|name| self::plain(of.family, name) == wanted)?;
            Some(file.parsed.tensor(name, Device::Cpu, Some(Kind::Float)))
        })
    };
    let Some(head) = find(&head(of.family)).transpose()? else { return Ok(StoredHead::Own) };
    Ok(match find(embedding(&of.parameters())).transpose()? {
        None => StoredHead::Instead,
        Some(embedding) => {
            let same = embedding.size() == head.size() && embedding.equal(&head);
            if same { StoredHead::Copy } else { StoredHead::Differs }
        }
    })
}

/// The name of the token embedding.
fn embedding(specs: &[Spec]) -> &str {
    specs.iter().find(|spec| spec.slot == Slot::TokenEmbedding).map_or("", |spec| &spec.name)
}

struct Loader<'a> {
    family: &'static Family,
    specs: &'a [Spec],
    head: StoredHead,
    values: Vec<Option<Tensor>>,
    report: LoadReport,
}

impl Loader<'_> {
    fn shard<'a>(&mut self, file: &File<'a>, make: &Make<'_, 'a>) -> Result<Shard> {
        let by_name: HashMap<&str, usize> = self.specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut tensors = Vec::new();
        for name in &file.parsed.names {
            let view = file.parsed.view(name)?;
            let plain = plain(self.family, name);
            let is_alias = matches!(self.head, StoredHead::Copy | StoredHead::Instead) && plain == head(self.family);
            let parameter = by_name.get(if is_alias { embedding(self.specs) } else { &*plain }).copied();
            tensors.push(Stored { name: name.clone(), dtype: view.dtype(), parameter });
            match parameter {
                Some(index) if !(is_alias && self.head == StoredHead::Copy) => {
                    let (want, got) = (&self.specs[index].shape, view.shape());
                    if want != got {
                        let (path, tensor) = (file.path.to_owned(), name.clone());
                        return Err(Error::WrongShape { path, tensor, want: want.clone(), got: got.to_vec() });
                    }
                    if self.values[index].is_some() {
                        return Err(stored_twice(file.path, name));
                    }
                    self.values[index] = Some(make(&file.parsed, name)?);
                    self.report.n_bytes += view.data().len() as u64;
                    self.report.applied.push(name.clone());
                }
                // A copy of what is applied under the embedding's name.
                Some(_) => {}
                None if self.family.is_buffer(&plain) => self.report.ignored_buffers.push(name.clone()),
                None => self.report.unused.push(name.clone()),
            }
        }
        Ok(Shard { file: file.name.to_owned(), header: file.parsed.header.to_vec(), tensors })
    }
}
