//! A model directory: its weight files, its other files, and its tensors by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use irepair_core::fs::list;
use irepair_core::weights::weight_files;
use irepair_core::{Error, printable};

use crate::Result;
use crate::tensors::{Bytes, Stored, TensorFile};

pub(crate) const CONFIG: &str = "config.json";
/// Files of our own that are no part of a model: states, marks, temporary files.
pub(crate) const OWN: &str = ".irepair-";

/// Endings of files that hold weights in a form no patch is applied to.
const OTHER_WEIGHTS: [&str; 11] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "ot", "onnx", "gguf", "npz"];

/// An opened model directory: headers only.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) dir: PathBuf,
    /// Weight files, by file name.
    pub(crate) files: Vec<TensorFile>,
    /// For each tensor the index of its file.
    place: BTreeMap<String, usize>,
}

/// The other files of a model directory.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    /// Copied along, `config.json` last.
    pub(crate) files: Vec<String>,
    /// Not copied: weights in other forms, which a patch does not reach, and folders.
    pub(crate) left_out: Vec<String>,
}

impl Checkpoint {
    /// Opens `config.json`'s directory with `model.safetensors`, or the shards its index names.
    ///
    /// # Errors
    /// Missing or broken files; a tensor that is in two shards, or in the index alone.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let config = dir.join(CONFIG);
        if !config.is_file() {
            return Err(Error::MissingFile { path: config }.into());
        }
        let mut checkpoint = Self { dir: dir.to_owned(), files: Vec::new(), place: BTreeMap::new() };
        for (name, promised) in weight_files(dir)? {
            let file = TensorFile::open(&dir.join(name))?;
            if let Some(tensor) = promised.iter().find(|tensor| !file.tensors.contains_key(*tensor)) {
                let reason = format!("the index says it holds tensor `{}`, and it does not", printable(tensor));
                return Err(Error::unreadable(&file.path, reason).into());
            }
            for tensor in file.tensors.keys() {
                if checkpoint.place.insert(tensor.clone(), checkpoint.files.len()).is_some() {
                    let reason = format!("tensor `{}` is in another shard too", printable(tensor));
                    return Err(Error::unreadable(&file.path, reason).into());
                }
            }
            checkpoint.files.push(file);
        }
        Ok(checkpoint)
    }

    /// Names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.place.keys()
    }

    /// A tensor and its file.
    pub(crate) fn get(&self, name: &str) -> Option<(&TensorFile, &Stored)> {
        let file = &self.files[*self.place.get(name)?];
        Some((file, file.tensors.get(name)?))
    }

    /// The bytes of a tensor.
    pub(crate) fn bytes(&self, name: &str) -> Result<Bytes> {
        let missing = || Error::unreadable(&self.dir, format!("no tensor `{}`", printable(name)));
        let (file, stored) = self.get(name).ok_or_else(missing)?;
        file.bytes(stored)
    }

    /// Everything in the directory that is not its weights.
    pub(crate) fn companions(&self) -> Result<Companions> {
        let mut found = Companions::default();
        for path in list(&self.dir)? {
            let Some(name) = path.file_name() else { continue };
            let weights = self.files.iter().any(|file| file.path.file_name() == Some(name));
            let shown = name.to_string_lossy();
            if weights || shown.starts_with(OWN) || shown == CONFIG {
                continue;
            }
            let ending = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
            // Links to files count as files: that is how download caches keep them.
            match name.to_str() {
                Some(name) if path.is_file() && !OTHER_WEIGHTS.contains(&ending.as_str()) => {
                    found.files.push(name.to_owned());
                }
                _ => found.left_out.push(shown.into_owned()),
            }
        }
        found.files.push(CONFIG.to_owned());
        Ok(found)
    }
}
