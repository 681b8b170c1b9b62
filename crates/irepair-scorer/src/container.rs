//! The file of any scorer: one safetensors file whose metadata key `irepair_scorer` holds JSON: `format`, `kind` and a
//! manifest. Equal scorers are equal bytes, and nothing but those bytes is read.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use irepair_core::fs::open;
use irepair_core::weights::disguise;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, LinearScorer, Result, Scorer, TfidfScorer};

/// Version of the format.
pub const FORMAT: u32 = 1;

const KEY: &str = "irepair_scorer";

/// Opens a scorer's file, whatever its kind.
///
/// # Errors
/// File errors, [`Error::Unreadable`] and [`Error::OtherVersion`].
pub fn read_scorer(path: &Path) -> Result<Box<dyn Scorer>> {
    let bytes = read(path)?;
    if Container::open(path, &bytes)?.kind == crate::tfidf::KIND {
        return Ok(Box::new(TfidfScorer::from_bytes(path, &bytes)?));
    }
    Ok(Box::new(LinearScorer::from_bytes(path, &bytes)?))
}

/// A name, a type, a shape and the bytes.
pub(crate) type Part = (&'static str, Dtype, Vec<usize>, Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<M> {
    format: u32,
    kind: String,
    manifest: M,
}

/// The bytes of a file.
pub(crate) fn bytes(kind: &str, manifest: &impl Serialize, parts: &[Part]) -> Vec<u8> {
    // Numbers and strings always serialise, and the views fit their bytes by construction.
    let header = Header { format: FORMAT, kind: kind.to_owned(), manifest };
    let header = serde_json::to_string(&header).unwrap_or_default();
    let views = parts.iter().filter_map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).ok().map(|view| (*name, view))
    });
    // One key alone: a map of several would be written in any order.
    safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), header)]))).unwrap_or_default()
}

/// The bytes of a file on disk.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(irepair_core::Error::io("read", path))?;
    Ok(bytes)
}

/// A file, read as far as all kinds agree.
pub(crate) struct Container<'a> {
    pub(crate) kind: String,
    manifest: Value,
    path: &'a Path,
    bytes: &'a [u8],
    tensors: SafeTensors<'a>,
}

impl<'a> Container<'a> {
    pub(crate) fn open(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let broken = |reason: String| Error::Unreadable { path: path.to_owned(), reason };
        let not_ours = |error| match error {
            SafeTensorError::MetadataIncompleteBuffer => {
                broken("its size is not what its header says: a copy was cut short".to_owned())
            }
            _ => broken(disguise(bytes).unwrap_or("not a scorer").to_owned()),
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let header = header.ok_or_else(|| broken("a safetensors file, but no scorer".to_owned()))?;
        let wrong = |e: serde_json::Error| broken(format!("its header is wrong: {e}"));
        let raw: Value = serde_json::from_str(header).map_err(wrong)?;
        let got = raw["format"].as_u64().unwrap_or_default();
        if got != u64::from(FORMAT) {
            return Err(Error::OtherVersion { path: path.to_owned(), want: FORMAT, got });
        }
        let Header { kind, manifest, .. } = serde_json::from_value(raw).map_err(wrong)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        Ok(Self { kind, manifest, path, bytes, tensors })
    }

    pub(crate) fn manifest<M: DeserializeOwned>(&self) -> Result<M> {
        serde_json::from_value(self.manifest.clone()).map_err(|e| self.broken(format!("its header is wrong: {e}")))
    }

    /// Shape and bytes of a tensor of `n_dims` dimensions.
    pub(crate) fn tensor(&self, name: &str, dtype: Dtype, n_dims: usize) -> Result<(Vec<usize>, &'a [u8])> {
        let view = self.tensors.tensor(name).map_err(|_| self.broken(format!("tensor `{name}` is missing")))?;
        if view.dtype() != dtype || view.shape().len() != n_dims {
            let form = if n_dims == 1 { "list" } else { "table" };
            return Err(self.broken(format!("tensor `{name}` is not a {form} of {dtype:?}")));
        }
        Ok((view.shape().to_vec(), view.data()))
    }

    /// A scorer's name is that of the file in hand: a file written another way must not go by it.
    pub(crate) fn must_equal(&self, written: &[u8]) -> Result<()> {
        if written == self.bytes {
            Ok(())
        } else {
            Err(self.broken("not the bytes this program writes for this scorer"))
        }
    }

    pub(crate) fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Unreadable { path: self.path.to_owned(), reason: reason.into() }
    }
}
