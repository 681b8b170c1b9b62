//! Hugging Face checkpoints: read through a memory map, written back with the same names, order, types and metadata.
//!
//! `file` knows one safetensors file, `load`, `round` and `save` a directory of them,
//! `adapter` an adapter, such as a soft prefix, `low_rank` one of a change of projections.

use std::fmt;
use std::path::PathBuf;

use safetensors::Dtype;
use tch::Kind;

mod adapter;
mod file;
mod in_files;
mod load;
mod low_rank;
mod round;
mod save;

pub use adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
pub(crate) use file::{bytes_of, chunks, dtype_of, kind_of};
pub use file::{read_tensors, write_tensors};
pub(crate) use in_files::InFiles;
pub use load::{StoredTensors, read_checkpoint};
pub use low_rank::{LowRank, save_low_rank};
pub use round::Rounded;

/// What loading did with the tensors in the files, by their stored names. Missing tensors are an error, so there are
/// none.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Tensors that a parameter was filled from, sorted.
    pub applied: Vec<String>,
    /// Bytes of weights read.
    pub n_bytes: u64,
    /// Causal-mask buffers that old versions of transformers stored with the weights, sorted. The mask follows from
    /// the settings, so leaving them out is right.
    pub ignored_buffers: Vec<String>,
    /// Tensors that the model has no use for and that are no mask, sorted: a classifier's head, an adapter, more blocks
    /// than `config.json` says. They are written back untouched.
    pub unused: Vec<String>,
    /// True when the settings tie the head to the token embedding, but the file holds a head of other values. It is
    /// then computed untied, as transformers does.
    pub head_differs: bool,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (applied, mib) = (self.applied.len(), self.n_bytes as f64 / f64::from(1 << 20));
        write!(f, "{applied} tensors applied ({mib:.1} MiB), 0 missing, ")?;
        if !self.ignored_buffers.is_empty() {
            write!(f, "{} causal-mask buffers ignored, ", self.ignored_buffers.len())?;
        }
        write!(f, "{} unused", self.unused.len())?;
        if !self.unused.is_empty() {
            write!(f, ": {}", some_of(&self.unused, 5))?;
        }
        if self.head_differs {
            write!(f, "; the stored head is not the token embedding, so they are not tied")?;
        }
        Ok(())
    }
}

/// The first `n` names in backticks, and how many more there are.
pub(crate) fn some_of(names: &[String], n: usize) -> String {
    let shown =
        names.iter().take(n).map(|name| format!("`{}`", irepair_core::printable(name))).collect::<Vec<_>>().join(", ");
    if names.len() > n { format!("{shown} and {} more", names.len() - n) } else { shown }
}

/// Where a model's weights came from, and so how they are written back.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Made here; written as one file with the family's names.
    None,
    /// A checkpoint directory, and its `config.json` as it was.
    Directory { dir: PathBuf, config: Vec<u8>, shards: Vec<Shard> },
}

impl Source {
    /// The type that a file stores a parameter in.
    pub(crate) fn kind_of(&self, parameter: usize) -> Option<Kind> {
        let Self::Directory { shards, .. } = self else { return None };
        let stored =
            shards.iter().flat_map(|shard| &shard.tensors).find(|stored| stored.parameter == Some(parameter))?;
        kind_of(stored.dtype)
    }
}

/// One weights file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    file: String,
    /// Everything before the first tensor: eight bytes of length and the JSON, as stored.
    header: Vec<u8>,
    /// In the order of their bytes.
    tensors: Vec<Stored>,
}

/// One tensor as stored: `parameter` is its index in the model, or none for a tensor that is only carried along.
#[derive(Clone, Debug)]
struct Stored {
    name: String,
    dtype: Dtype,
    parameter: Option<usize>,
}
