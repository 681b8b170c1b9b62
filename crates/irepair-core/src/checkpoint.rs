//! A model directory's tensors by name, whatever files they are in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::tensor_file::{Bytes, Stored, TensorFile};
use crate::weights::{CONFIG, weight_files};
use crate::{Error, Result, printable};

/// An opened model directory: headers only.
#[derive(Debug)]
pub struct Checkpoint {
    /// The directory.
    pub dir: PathBuf,
    /// Weight files, by file name.
    pub files: Vec<TensorFile>,
    /// For each tensor the index of its file.
    place: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens `config.json`'s directory with `model.safetensors`, or the shards its index names.
    ///
    /// # Errors
    /// Missing or broken files; a tensor that is in two shards, or in the index alone.
    pub fn open(dir: &Path) -> Result<Self> {
        let config = dir.join(CONFIG);
        if !config.is_file() {
            return Err(Error::MissingFile { path: config });
        }
        let mut checkpoint = Self { dir: dir.to_owned(), files: Vec::new(), place: BTreeMap::new() };
        for (name, promised) in weight_files(dir)? {
            let file = TensorFile::open(&dir.join(name))?;
            if let Some(tensor) = promised.iter().find(|tensor| !file.tensors.contains_key(*tensor)) {
                let reason = format!("the index says it holds tensor `{}`, and it does not", printable(tensor));
                return Err(Error::unreadable(&file.path, reason));
            }
            for tensor in file.tensors.keys() {
                if checkpoint.place.insert(tensor.clone(), checkpoint.files.len()).is_some() {
                    let reason = format!("tensor `{}` is in another shard too", printable(tensor));
                    return Err(Error::unreadable(&file.path, reason));
                }
            }
            checkpoint.files.push(file);
        }
        Ok(checkpoint)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.place.keys()
    }

    /// A tensor and its file.
    pub fn get(&self, name: &str) -> Option<(&TensorFile, &Stored)> {
        let file = &self.files[*self.place.get(name)?];
        Some((file, file.tensors.get(name)?))
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// `Unreadable` when there is no such tensor; `Io`.
    pub fn bytes(&self, name: &str) -> Result<Bytes> {
        let missing = || Error::unreadable(&self.dir, format!("no tensor `{}`", printable(name)));
        let (file, stored) = self.get(name).ok_or_else(missing)?;
        file.bytes(stored)
    }
}
