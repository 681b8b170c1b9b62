//! A patch file: opened and checked against itself, or written.

use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::{replace, sha256_file};
use irepair_core::printable;
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::manifest::FORMAT;
use crate::tensors::{Bytes, TensorFile, layout, writing};
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
    /// File errors, [`Error::Unreadable`], [`Error::NotAPatch`], [`Error::BadMetadata`].
    pub fn open(path: &Path) -> Result<Self> {
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
            let want = manifest.kind.stored_dtype(record.dtype).map(|dtype| layout(dtype, &record.shape));
            if want.as_ref() != Some(&stored.layout()) {
                let want = want.unwrap_or_else(|| format!("no {:?}", record.dtype));
                return Err(at(name, format!("is stored as {}, wanted {want}", stored.layout())));
            }
        }
        Ok(Self { file, manifest })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// What it says about itself.
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
    pub(crate) fn bytes(&self, name: &str) -> Result<Bytes> {
        let stored = self.file.tensors.get(name).ok_or_else(|| Error::Unreadable {
            path: self.file.path.clone(),
            reason: format!("no tensor `{}`", printable(name)),
        })?;
        self.file.bytes(stored)
    }
}

/// Where the bytes of a tensor go, a piece at a time.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Refuses to write over a file.
///
/// # Errors
/// [`Error::OutExists`].
pub fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() { Err(Error::OutExists { path: path.to_owned() }) } else { Ok(()) }
}

/// Writes a patch; `fill` is asked for each changed tensor's stored bytes, in the order of the file.
///
/// The same manifest and bytes give the same file: keys are sorted, tensors lie by type and name, as the safetensors
/// libraries lay them.
pub(crate) fn write(
    path: &Path,
    manifest: &Manifest,
    mut fill: impl FnMut(&str, Sink<'_>) -> Result<()>,
) -> Result<Patch> {
    refuse_existing(path)?;
    let mut stored: Vec<(&String, Dtype, &Vec<usize>)> = Vec::new();
    for (name, record) in manifest.changed() {
        let not_float =
            || Error::NotFloat { path: path.to_owned(), tensor: name.clone(), got: format!("{:?}", record.dtype) };
        stored.push((name, manifest.kind.stored_dtype(record.dtype).ok_or_else(not_float)?, &record.shape));
    }
    stored.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!(manifest.to_metadata()))]);
    let mut end = 0;
    for (name, dtype, shape) in &stored {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let entry = json!({ "dtype": format!("{dtype:?}"), "shape": shape, "data_offsets": [start, end] });
        header.insert((*name).clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    replace(path, |aside| fill_file(aside, path, &header, &stored, &mut fill))?;
    Patch::open(path)
}

fn fill_file(
    aside: &Path,
    path: &Path,
    header: &[u8],
    stored: &[(&String, Dtype, &Vec<usize>)],
    fill: &mut impl FnMut(&str, Sink<'_>) -> Result<()>,
) -> Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(aside).map_err(writing(path))?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(writing(path))?;
    file.write_all(header).map_err(writing(path))?;
    for (name, ..) in stored {
        fill(name, &mut |piece| file.write_all(piece).map_err(writing(path)))?;
    }
    file.flush().map_err(writing(path))
}
