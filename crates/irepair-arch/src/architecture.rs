//! Everything that decides the mathematics of a decoder, and how it is read from a `config.json`.

use std::path::Path;

use irepair_core::weights::not_json;
use serde_json::{Map, Value};

use crate::setting::{refuse_changed_models, unsupported};
use crate::{Error, FAMILIES, Family, Parameter, Result, Rope};

/// Blocks of the deepest model that is read: a bound that keeps hostile numbers from becoming allocations.
pub(crate) const MAX_BLOCKS: usize = 10_000;

/// The non-linearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU in its tanh approximation (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast` are this function).
    GeluTanh,
    /// Exact GELU.
    Gelu,
    /// ReLU.
    Relu,
    /// SiLU (`swish`).
    Silu,
    /// tanh.
    Tanh,
}

/// How far back a block's attention reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// The whole text so far.
    Global,
    /// The last so many tokens, the current one included.
    Local(usize),
}

/// Which normalisation a model uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with weight and bias.
    LayerNorm,
    /// Root mean square, with a weight.
    RmsNorm,
}

/// The normalisation of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Its kind.
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub eps: f64,
}

/// How a model knows the order of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// A learned embedding for each position.
    Learned,
    /// Rotated queries and keys.
    Rotary(Rope),
}

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value.
    pub qkv: bool,
    /// The attention's output projection.
    pub attention_out: bool,
    /// The projections of the MLP.
    pub mlp: bool,
}

/// Everything the forward pass needs to know, and the original JSON to write back.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// The family that read it.
    pub family: &'static Family,
    /// Number of transformer blocks (METHOD §1: `L`).
    pub n_block: usize,
    /// Width (METHOD §1: `d`).
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Heads of keys and values; fewer than `n_head` under grouped-query attention.
    pub n_kv_head: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width inside the MLP.
    pub n_inner: usize,
    /// Longest text in tokens.
    pub n_positions: usize,
    /// Rows of the token embedding.
    pub n_vocab: usize,
    /// Normalisation.
    pub norm: Norm,
    /// MLP non-linearity.
    pub activation: Activation,
    /// True when the MLP multiplies an activated gate with a second projection.
    pub gated_mlp: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// How positions enter.
    pub positions: Positions,
    /// True when the head is the token embedding.
    pub tied_head: bool,
    /// Per block: attention span.
    pub spans: Vec<AttentionSpan>,
    /// Per block: factor on query-key products.
    pub attention_scales: Vec<f64>,
    /// Tokens that end a text, as `config.json` lists them.
    pub eos_ids: Vec<u32>,
    pub(crate) raw: Map<String, Value>,
}

impl Architecture {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::MissingFile`]; [`Error::Unreadable`] for broken JSON; [`Error::Unsupported`], naming the key, for settings
    /// that are missing or not computed.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::MissingFile { path: path.to_owned() });
        }
        let text = irepair_core::fs::read_to_string(path)?;
        let unreadable = |reason| Error::Unreadable { path: path.to_owned(), reason };
        Self::from_json(serde_json::from_str(&text).map_err(|e| unreadable(not_json(&text, e)))?, path)
    }

    /// [`Architecture::read`] from JSON already in memory; `path` is what errors name.
    ///
    /// # Errors
    /// As [`Architecture::read`].
    pub fn from_json(config: Value, path: &Path) -> Result<Self> {
        let Value::Object(raw) = config else {
            return Err(Error::Unreadable { path: path.to_owned(), reason: "not a JSON object".into() });
        };
        let model_type = raw.get("model_type").and_then(Value::as_str);
        let family = FAMILIES.iter().find(|family| Some(family.model_type) == model_type).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            unsupported(&raw, path, "model_type", &format!("one of {}", known.join(", ")))
        })?;
        refuse_changed_models(&raw, path)?;
        (family.read)(raw, path)
    }

    /// The JSON as read (or as built), for writing back unchanged.
    pub fn to_json(&self) -> String {
        // A map of strings and numbers always serialises.
        serde_json::to_string_pretty(&self.raw).unwrap_or_default() + "\n"
    }

    /// Every parameter of the model, in the order of the forward pass.
    pub fn parameters(&self) -> Vec<Parameter> {
        (self.family.parameters)(self)
    }
}
