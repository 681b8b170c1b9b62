//! Everything that decides the mathematics of a decoder, and how it is read from a `config.json`.

use std::path::Path;
use std::sync::Arc;

use irepair_core::weights::read_object;
use irepair_core::{Error, MAX_BLOCKS};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::setting::{Act, Flag, Ids, NotNegative, Size, refuse_changed_models, settings, unsupported};
use crate::{FAMILIES, Family, Parameter, Result, Rope, Slot, wrapper};

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

/// How the weight of an RMS norm multiplies its normalised input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormWeight {
    /// `w * x`, where `x` was rounded to the model's type before.
    AfterRounding,
    /// `w * x` in float32, then rounded (OLMo 2).
    BeforeRounding,
    /// `(1 + w) * x` in float32, then rounded (Gemma).
    OnePlus,
}

/// The normalisation of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Its kind.
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub eps: f64,
    /// What its weight does; layer norms know one way.
    pub weight: NormWeight,
}

/// What the norms of queries and keys normalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// Each head by itself, all with one weight (Qwen3, Gemma 3).
    Head,
    /// The whole projection, before it is split into heads (OLMo 2).
    Projection,
}

/// How a model encodes the order of its tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned embedding for each position.
    Learned,
    /// Rotated queries and keys, per block; none in a block that does not rotate them (SmolLM3).
    Rotary(Vec<Option<Arc<Rope>>>),
}

impl Positions {
    /// The same rotation in every block.
    pub(crate) fn rotary(rope: Rope, n_block: usize) -> Self {
        Self::Rotary(vec![Some(Arc::new(rope)); n_block])
    }

    /// The rotation of a block, if it has one.
    pub fn rope(&self, block: usize) -> Option<&Rope> {
        match self {
            Self::Learned => None,
            Self::Rotary(ropes) => ropes.get(block)?.as_deref(),
        }
    }
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

/// All settings of the forward pass, and the original JSON to write back.
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
    /// Norms of queries and keys, where there are any.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// True when attention and MLP both read a block's input; otherwise the MLP reads what attention left.
    pub parallel: bool,
    /// True when the rows of a joint projection are query, key and value of the first head, then of the second, and so
    /// on; otherwise all queries, all keys, all values.
    pub interleaved_qkv: bool,
    /// MLP non-linearity.
    pub activation: Activation,
    /// True when the MLP multiplies an activated gate with a second projection.
    pub gated_mlp: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// How positions are encoded.
    pub positions: Positions,
    /// True when queries and keys are rotated in float32 and then rounded, whatever type the model computes in; other
    /// families round cosines and sines first.
    pub rotated_in_float: bool,
    /// True when the head is the token embedding.
    pub tied_head: bool,
    /// Per block: attention span.
    pub spans: Vec<AttentionSpan>,
    /// Per block: factor on query-key products.
    pub attention_scales: Vec<f64>,
    /// Scaled query-key products `s` become `c tanh(s / c)`, where this is `c`.
    pub attention_softcap: Option<f64>,
    /// Logits `z` become `c tanh(z / c)`, where this is `c`.
    pub logit_softcap: Option<f64>,
    /// Factor on token embeddings.
    pub embedding_scale: Option<f64>,
    /// Tokens that end a text, as `config.json` lists them.
    pub eos_ids: Vec<u32>,
    pub(crate) raw: Map<String, Value>,
}

impl Architecture {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// `MissingFile`; `Unreadable` for broken JSON; [`crate::Error::Unsupported`], naming the key, for settings that
    /// are missing or not computed.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_object(read_object(path)?, path)
    }

    /// [`Architecture::read`] from JSON already in memory; `path` is what errors name.
    ///
    /// # Errors
    /// As [`Architecture::read`].
    pub fn from_json(config: Value, path: &Path) -> Result<Self> {
        match config {
            Value::Object(raw) => Self::from_object(raw, path),
            _ => Err(Error::unreadable(path, "not a JSON object").into()),
        }
    }

    fn from_object(raw: Map<String, Value>, path: &Path) -> Result<Self> {
        let model_type = raw.get("model_type").and_then(Value::as_str).unwrap_or("");
        refuse_changed_models(&raw, path)?;
        if let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) {
            return (family.read)(raw, path);
        }
        if let Some(family) = FAMILIES.iter().find(|family| family.wrapper == Some(model_type)) {
            return wrapper::read(family, raw, path);
        }
        Err(unsupported(&raw, path, "model_type", &wrapper::known(model_type)))
    }

    /// An architecture of `[blocks, width, heads, positions]` with what most families share: layer norms, learned
    /// positions, biases, an MLP of four widths, global attention. A family file overwrites what it has otherwise.
    /// `keys` are its names of the numbers of blocks and heads; without `head_dim` the heads divide the width; `tied`
    /// is its default.
    pub(crate) fn base(
        family: &'static Family,
        raw: Map<String, Value>,
        path: &Path,
        keys: [&str; 2],
        sizes: [Size; 4],
        head_dim: Option<Size>,
        tied: bool,
    ) -> Result<Self> {
        #[derive(Deserialize)]
        struct Shared {
            vocab_size: Size,
            activation_function: Option<Act>,
            layer_norm_epsilon: Option<NotNegative>,
            tie_word_embeddings: Option<Flag>,
            eos_token_id: Option<Ids>,
        }
        let shared: Shared = settings(&raw, path, &[])?;
        let [n_block, n_embd, n_head, n_positions] = sizes.map(|size| size.0);
        if n_block > MAX_BLOCKS {
            return Err(unsupported(&raw, path, keys[0], &format!("at most {MAX_BLOCKS} blocks")));
        }
        let head_dim = match head_dim {
            Some(width) => width.0,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => return Err(unsupported(&raw, path, keys[1], &format!("a divisor of {n_embd}"))),
        };
        let tied_head = match shared.tie_word_embeddings {
            Some(tied) => tied.0,
            // transformers takes null for false.
            None => tied && !raw.contains_key("tie_word_embeddings"),
        };
        Ok(Self {
            family,
            n_block,
            n_embd,
            n_head,
            n_kv_head: n_head,
            head_dim,
            n_inner: 4 * n_embd,
            n_positions,
            n_vocab: shared.vocab_size.0,
            norm: Norm {
                kind: NormKind::LayerNorm,
                eps: shared.layer_norm_epsilon.map_or(1e-5, |eps| eps.0),
                weight: NormWeight::AfterRounding,
            },
            query_key_norm: None,
            parallel: false,
            interleaved_qkv: false,
            activation: shared.activation_function.map_or(Activation::GeluTanh, |act| act.0),
            gated_mlp: false,
            biases: Biases { qkv: true, attention_out: true, mlp: true },
            positions: Positions::Learned,
            rotated_in_float: false,
            tied_head,
            spans: vec![AttentionSpan::Global; n_block],
            attention_scales: vec![(head_dim as f64).powf(-0.5); n_block],
            attention_softcap: None,
            logit_softcap: None,
            embedding_scale: None,
            eos_ids: shared.eos_token_id.unwrap_or_default().0,
            raw,
        })
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

    /// The parameters that write to the residual stream and to nothing else: index in [`Architecture::parameters`], and
    /// the dimension of the stored tensor that runs along the stream. A token embedding that is the head as well is
    /// left out: changing it would change the head. None where a norm stands between projections and the stream.
    pub fn residual_writers(&self) -> Vec<(usize, usize)> {
        let parameters = self.parameters();
        if parameters.iter().any(|p| matches!(p.slot, Slot::AttentionOutNorm | Slot::MlpOutNorm)) {
            return Vec::new();
        }
        let parameters = parameters.into_iter().enumerate();
        let alone = parameters.filter(|(_, p)| !(self.tied_head && p.slot == Slot::TokenEmbedding));
        alone.filter_map(|(index, p)| Some((index, p.residual_dim(self.family.layout)?))).collect()
    }
}
