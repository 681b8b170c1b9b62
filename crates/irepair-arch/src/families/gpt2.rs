//! GPT-2: layer norms before each half, learned positions, projections stored `[in, out]`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::ParameterList;
use crate::setting::{Act, Flag, Ids, NotNegative, Size, settings, unsupported};
use crate::{
    Activation, Architecture, AttentionSpan, Biases, Family, Init, Layout, Norm, NormKind, Parameter, Positions,
    Result, Shape, Slot,
};

/// GPT-2.
pub static GPT2: Family = Family {
    name: "gpt2",
    model_type: "gpt2",
    prefix: "transformer.",
    block_prefix: "h",
    layout: Layout::InOut,
    buffers: &["attn.bias", "attn.masked_bias", "attn.attention.bias", "attn.attention.masked_bias"],
    read,
    parameters,
    fresh,
};

/// Its `config.json`.
#[derive(Deserialize)]
struct Config {
    n_layer: Size,
    n_embd: Size,
    n_head: Size,
    n_positions: Size,
    vocab_size: Size,
    n_inner: Option<Size>,
    activation_function: Option<Act>,
    layer_norm_epsilon: Option<NotNegative>,
    scale_attn_weights: Option<Flag>,
    scale_attn_by_inverse_layer_idx: Option<Flag>,
    // Moves the scaling and the float32 cast; in float32 the value is the same.
    #[serde(rename = "reorder_and_upcast_attn")]
    _upcast: Option<Flag>,
    tie_word_embeddings: Option<Flag>,
    eos_token_id: Option<Ids>,
}

const ALIASES: &[(&str, &str)] = &[
    ("num_hidden_layers", "n_layer"),
    ("hidden_size", "n_embd"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
];

impl Architecture {
    /// A GPT-2 of these sizes with standard settings.
    ///
    /// # Panics
    /// When `n_head` does not divide `n_embd`, or a size is 0; [`Shape::architecture`] says which instead.
    pub fn gpt2(n_layer: usize, n_embd: usize, n_head: usize, n_positions: usize, n_vocab: usize) -> Self {
        let shape = Shape::new(GPT2.name, [n_layer, n_embd, n_head], n_positions, n_vocab);
        shape.architecture().unwrap_or_else(|e| panic!("{e}: {shape:?}"))
    }
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, ALIASES)?;
    let (n_block, n_embd, n_head) = (config.n_layer.0, config.n_embd.0, config.n_head.0);
    if n_block > crate::architecture::MAX_BLOCKS {
        return Err(unsupported(&raw, path, "n_layer", "at most 10000 blocks"));
    }
    if n_embd % n_head != 0 {
        return Err(unsupported(&raw, path, "n_head", &format!("a divisor of {n_embd}")));
    }
    let head_dim = n_embd / n_head;
    let base = if config.scale_attn_weights.is_none_or(|on| on.0) { (head_dim as f64).powf(-0.5) } else { 1.0 };
    let by_block = config.scale_attn_by_inverse_layer_idx.is_some_and(|on| on.0);
    Ok(Architecture {
        family: &GPT2,
        n_block,
        n_embd,
        n_head,
        n_kv_head: n_head,
        head_dim,
        n_inner: config.n_inner.map_or(4 * n_embd, |n| n.0),
        n_positions: config.n_positions.0,
        n_vocab: config.vocab_size.0,
        norm: Norm { kind: NormKind::LayerNorm, eps: config.layer_norm_epsilon.map_or(1e-5, |eps| eps.0) },
        activation: config.activation_function.map_or(Activation::GeluTanh, |act| act.0),
        gated_mlp: false,
        biases: Biases { qkv: true, attention_out: true, mlp: true },
        positions: Positions::Learned,
        tied_head: config.tie_word_embeddings.is_none_or(|tied| tied.0),
        spans: vec![AttentionSpan::Global; n_block],
        attention_scales: (0..n_block).map(|b| if by_block { base / (b + 1) as f64 } else { base }).collect(),
        eos_ids: config.eos_token_id.unwrap_or_default().0,
        raw,
    })
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    let mut list = ParameterList::new(a);
    let normal = Init::Normal(list.sd());
    // Tokens start further apart than positions: a small model finds what to copy sooner.
    list.table(Slot::TokenEmbedding, "wte", a.n_vocab, Init::Normal(4.0 * list.sd()));
    list.table(Slot::PositionEmbedding, "wpe", a.n_positions, normal);
    list.blocks("h", |block| {
        block.norm(Slot::AttentionNorm, "ln_1");
        block.norm(Slot::MlpNorm, "ln_2");
        block.linear(Slot::Qkv, "attn.c_attn");
        block.linear(Slot::AttentionOut, "attn.c_proj");
        block.linear(Slot::Up, "mlp.c_fc");
        block.linear(Slot::Down, "mlp.c_proj");
    });
    list.norm(Slot::FinalNorm, "ln_f");
    if !a.tied_head {
        list.table(Slot::Head, "lm_head", a.n_vocab, normal);
    }
    list.into_list()
}

fn fresh(shape: &Shape) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "n_layer": shape.n_layer, "n_embd": shape.n_embd, "n_head": shape.n_head, "n_positions": shape.n_positions,
        "n_inner": shape.n_inner, "vocab_size": shape.vocab_size, "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false, "reorder_and_upcast_attn": false, "tie_word_embeddings": true,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
        "dtype": "float32",
    })
}
