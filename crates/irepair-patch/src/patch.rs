//! A patch file: opened and checked against itself, or written.

use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::{replace, sha256_file};
use irepair_core::printable;
use irepair_core::tensor_file::{TensorFile, layout};
use irepair_core::weights::write_header;
use safetensors::Dtype;
use serde_json::json;

use crate::manifest::FORMAT;
use crate::rows::Change;
use crate::{Error, Manifest, Result};

/// An opened patch: its header only.
#[derive(Clone, Debug)]
pub struct Patch {
    file: TensorFile,
    manifest: Manifest,
}

impl Patch {
    /// Opens a patch and checks that its metadata and its tensors agree.
    ///
    /// # Errors
    /// File errors, [`Error::MissingPatch`], [`Error::NotAPatch`], [`Error::BadMetadata`].
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::MissingPatch { path: path.to_owned() });
        }
        let file = TensorFile::open(path)?;
        if file.metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(Error::NotAPatch { path: path.to_owned() });
        }
        let wrong = |(key, reason)| Error::BadMetadata { path: path.to_owned(), key, reason };
        let manifest = Manifest::from_metadata(&file.metadata).map_err(wrong)?;
        let at = |name: &String, what: String| wrong(("tensors", format!("tensor `{}` {what}", printable(name))));
        if let Some(name) = file.tensors.keys().find(|n| manifest.tensors.get(*n).is_none_or(|r| r.result.is_none())) {
            return Err(at(name, "is stored and not listed as changed".into()));
        }
        for (name, record) in manifest.changed() {
            let Some(stored) = file.tensors.get(name) else {
                return Err(at(name, "is listed as changed and not stored".into()));
            };
            let want = manifest.kind.stored_dtype(record.dtype).map(|dtype| layout(dtype, &record.stored_shape()));
            if want.as_ref() != Some(&stored.layout()) {
                let want = want.unwrap_or_else(|| format!("no {:?}", record.dtype));
                return Err(at(name, format!("is stored as {}, wanted {want}", stored.layout())));
            }
        }
        Ok(Self { file, manifest })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Its metadata.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its id: the SHA-256 of the file.
    ///
    /// # Errors
    /// File errors.
    pub fn id(&self) -> Result<String> {
        Ok(sha256_file(&self.file.path)?)
    }

    /// Bytes of its changed tensors, as stored.
    pub fn n_bytes(&self) -> u64 {
        self.file.tensors.values().map(|stored| stored.n_bytes).sum()
    }

    /// What is stored for a changed tensor.
    pub(crate) fn change(&self, name: &str) -> Result<Change> {
        let missing = || irepair_core::Error::unreadable(&self.file.path, format!("no tensor `{}`", printable(name)));
        let bytes = self.file.bytes(self.file.tensors.get(name).ok_or_else(missing)?)?;
        Ok(Change { bytes, walk: self.manifest.tensors.get(name).and_then(|record| record.walk()) })
    }
}

/// Takes the bytes of a tensor, a chunk at a time.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Refuses to overwrite a file, and a place where none could be written.
///
/// # Errors
/// `OutExists`; a file error.
pub fn refuse_existing(path: &Path) -> Result<()> {
    let used = || irepair_core::Error::OutExists { path: path.to_owned() }.into();
    if path.symlink_metadata().is_ok() { Err(used()) } else { Ok(irepair_core::fs::check_place(path)?) }
}

/// Writes a patch; `fill` gives each changed tensor's stored bytes, in the order of the file.
///
/// The same manifest and bytes give the same file: keys are sorted, tensors are ordered by type and name, as by the
/// safetensors libraries.
pub(crate) fn write(
    path: &Path,
    manifest: &Manifest,
    mut fill: impl FnMut(&str, Sink<'_>) -> Result<()>,
) -> Result<Patch> {
    refuse_existing(path)?;
    let mut stored: Vec<(&String, Dtype, Vec<usize>)> = Vec::new();
    for (name, record) in manifest.changed() {
        let not_float =
            || Error::NotFloat { path: path.to_owned(), tensor: name.clone(), got: format!("{:?}", record.dtype) };
        stored.push((name, manifest.kind.stored_dtype(record.dtype).ok_or_else(not_float)?, record.stored_shape()));
    }
    stored.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
    let tensors = stored.iter().map(|(name, dtype, shape)| {
        let n_bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.as_str(), format!("{dtype:?}"), shape.as_slice(), n_bytes as u64)
    });
    let io = irepair_core::Error::io("write", path);
    replace(path, |new| -> Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(new).map_err(io)?);
        write_header(&mut file, json!(manifest.to_metadata()), tensors).map_err(io)?;
        for (name, ..) in &stored {
            fill(name, &mut |chunk| Ok(file.write_all(chunk).map_err(io)?))?;
        }
        Ok(file.flush().map_err(io)?)
    })?;
    Patch::open(path)
}
