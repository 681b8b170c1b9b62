//! Architectures that are converted: one file each, with its metadata keys, its settings and its tensors.

mod gemma2;
mod gemma3;
mod llama;
mod model;
mod phi3;
mod qwen2;
mod qwen3;

pub(crate) use model::{Model, Target};

use serde_json::Value as Json;

use crate::Result;
use crate::file::GgufFile;

/// Every architecture that is converted.
pub(crate) const ARCHITECTURES: [&Architecture; 6] =
    [&llama::LLAMA, &qwen2::QWEN2, &qwen3::QWEN3, &gemma2::GEMMA2, &gemma3::GEMMA3, &phi3::PHI3];

/// What is particular to an architecture.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// Name in `general.architecture`, which begins its metadata keys.
    pub(crate) name: &'static str,
    /// `model_type` of `config.json`.
    model_type: &'static str,
    /// The model's class in transformers.
    class: &'static str,
    /// Keys that are understood besides [`model::KNOWN`]. Any other may change the model.
    keys: &'static str,
    /// Base of the rotary positions where the file states none: converters write none for it.
    theta: Option<f64>,
    /// True when rotary positions may take a part of a head.
    partial_rotary: bool,
    /// How norms are stored.
    norms: Norms,
    /// True when the output head is always the embedding.
    tied: bool,
    /// Tensors of a block.
    block: &'static [Row],
    /// Its own settings of `config.json`.
    settings: fn(&GgufFile, &Sizes) -> Result<Json>,
}

/// How a file stores the weights of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Norms {
    /// As Hugging Face does.
    Plain,
    /// With 1 added: Hugging Face's models add it when they compute.
    PlusOne,
}

/// A tensor of a block: its name in the file, its name as Hugging Face has it, its shape and its bias.
#[derive(Debug)]
struct Row {
    from: &'static str,
    to: &'static str,
    shape: &'static [Dim],
    bias: Bias,
}

/// Whether a tensor has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bias {
    Never,
    Always,
    /// Where the file has one for the attention's query.
    Attention,
    /// Where the file has one for the projection up.
    Mlp,
}

/// A size of a tensor, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dim {
    Hidden,
    Inner,
    /// Gate and up projection, one after the other.
    TwoInner,
    Head,
    /// Heads times their width.
    Queries,
    /// The same, whose rows llama files have in pairs.
    PairedQueries,
    /// Heads of keys and values times their width.
    KeysValues,
    /// The same, whose rows llama files have in pairs.
    PairedKeys,
    /// Queries, keys and values, one after the other.
    QueriesKeysValues,
}

/// Sizes of a model, from its metadata.
#[derive(Debug)]
pub(crate) struct Sizes {
    architecture: &'static Architecture,
    n_block: usize,
    hidden: usize,
    inner: usize,
    n_head: usize,
    n_kv_head: usize,
    head_dim: usize,
    n_positions: usize,
    n_vocab: usize,
    /// Base of the rotary positions.
    theta: f64,
    attention_bias: bool,
    mlp_bias: bool,
}

impl Sizes {
    /// The full name of a key of the architecture.
    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.architecture.name)
    }

    pub(crate) fn n_positions(&self) -> usize {
        self.n_positions
    }

    pub(crate) fn theta(&self) -> f64 {
        self.theta
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    fn of(&self, dim: Dim) -> usize {
        match dim {
            Dim::Hidden => self.hidden,
            Dim::Inner => self.inner,
            Dim::TwoInner => 2 * self.inner,
            Dim::Head => self.head_dim,
            Dim::Queries | Dim::PairedQueries => self.n_head * self.head_dim,
            Dim::KeysValues | Dim::PairedKeys => self.n_kv_head * self.head_dim,
            Dim::QueriesKeysValues => (self.n_head + 2 * self.n_kv_head) * self.head_dim,
        }
    }
}

/// A norm of a block.
const fn norm(from: &'static str, to: &'static str) -> Row {
    Row { from, to, shape: &[Dim::Hidden], bias: Bias::Never }
}

/// A projection of a block, with output and input size.
const fn projection(from: &'static str, to: &'static str, shape: &'static [Dim; 2], bias: Bias) -> Row {
    Row { from, to, shape, bias }
}
