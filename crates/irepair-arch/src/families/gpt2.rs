//! GPT-2: layer norms before each half, learned positions, projections stored `[in, out]`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::decoder;
use crate::setting::{Flag, Size, settings};
use crate::{Architecture, Family, Layout, Parameter, Result, Shape, Slot};

/// GPT-2.
pub static GPT2: Family = Family {
    name: "gpt2",
    model_type: "gpt2",
    wrapper: None,
    prefix: "transformer.",
    head: "lm_head",
    block_prefix: "h",
    layout: Layout::InOut,
    buffers: &["attn.bias", "attn.masked_bias", "attn.attention.bias", "attn.attention.masked_bias"],
    read,
    parameters,
    fresh,
};

/// The keys of its `config.json` that [`Architecture::base`] does not read.
#[derive(Deserialize)]
struct Config {
    n_layer: Size,
    n_embd: Size,
    n_head: Size,
    n_positions: Size,
    n_inner: Option<Size>,
    scale_attn_weights: Option<Flag>,
    scale_attn_by_inverse_layer_idx: Option<Flag>,
    // Moves the scaling and the float32 cast; in float32 the value is the same.
    #[serde(rename = "reorder_and_upcast_attn")]
    _upcast: Option<Flag>,
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
    /// When `n_head` does not divide `n_embd`, or a size is 0; [`Shape::architecture`] returns an error instead.
    pub fn gpt2(n_layer: usize, n_embd: usize, n_head: usize, n_positions: usize, n_vocab: usize) -> Self {
        let shape = Shape::new(GPT2.name, [n_layer, n_embd, n_head], n_positions, n_vocab);
        shape.architecture().unwrap_or_else(|e| panic!("{e}: {shape:?}"))
    }
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, ALIASES)?;
    let sizes = [config.n_layer, config.n_embd, config.n_head, config.n_positions];
    let base = Architecture::base(&GPT2, raw, path, ["n_layer", "n_head"], sizes, None, true)?;
    let scale = if config.scale_attn_weights.is_none_or(|on| on.0) { (base.head_dim as f64).powf(-0.5) } else { 1.0 };
    let by_block = config.scale_attn_by_inverse_layer_idx.is_some_and(|on| on.0);
    let attention_scales = (0..base.n_block).map(|b| if by_block { scale / (b + 1) as f64 } else { scale }).collect();
    Ok(Architecture { n_inner: config.n_inner.map_or(base.n_inner, |n| n.0), attention_scales, ..base })
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["wte", "wpe", "ln_f"], |block| {
        block.norm(Slot::AttentionNorm, "ln_1");
        block.norm(Slot::MlpNorm, "ln_2");
        block.linear(Slot::Qkv, "attn.c_attn");
        block.linear(Slot::AttentionOut, "attn.c_proj");
        block.linear(Slot::Up, "mlp.c_fc");
        block.linear(Slot::Down, "mlp.c_proj");
    })
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
