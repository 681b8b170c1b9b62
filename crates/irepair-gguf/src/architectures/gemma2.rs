//! Gemma 2: norms before and after attention and MLP, soft-caps, a window in every second block.

use serde_json::{Value as Json, json};

use super::{Architecture, Bias, Dim, Norms, Row, Sizes, norm, projection};
use crate::Result;
use crate::file::GgufFile;
use crate::value::Value;

/// Blocks of the model of 27 billion weights, whose scale of attention differs.
const LARGEST: usize = 46;

pub(super) const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    keys: "attention.sliding_window attention.sliding_window_pattern attn_logit_softcapping final_logit_softcapping",
    theta: Some(10000.0),
    partial_rotary: false,
    norms: Norms::PlusOne,
    tied: true,
    block: &BLOCK,
    settings: |file, sizes| {
        unscaled(file, sizes)?;
        check_pattern(file, sizes, 2)?;
        Ok(json!({
            "attention_bias": false,
            "attn_logit_softcapping": file.positive(&sizes.key("attn_logit_softcapping"))?,
            "final_logit_softcapping": file.positive(&sizes.key("final_logit_softcapping"))?,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": layer_types(sizes.n_block, 2),
            "query_pre_attn_scalar": attention_scalar(sizes, LARGEST),
            "sliding_window": file.count(&sizes.key("attention.sliding_window"))?,
        }))
    },
};

pub(super) const BLOCK: [Row; 11] = [
    norm("attn_norm", "input_layernorm"),
    projection("attn_q", "self_attn.q_proj", &[Dim::Queries, Dim::Hidden], Bias::Never),
    projection("attn_k", "self_attn.k_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Never),
    projection("attn_v", "self_attn.v_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Never),
    projection("attn_output", "self_attn.o_proj", &[Dim::Hidden, Dim::Queries], Bias::Never),
    norm("post_attention_norm", "post_attention_layernorm"),
    norm("ffn_norm", "pre_feedforward_layernorm"),
    projection("ffn_gate", "mlp.gate_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
    projection("ffn_up", "mlp.up_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
    projection("ffn_down", "mlp.down_proj", &[Dim::Hidden, Dim::Inner], Bias::Never),
    norm("post_ffw_norm", "post_feedforward_layernorm"),
];

/// The kind of each block: the last of every `pattern` has no window.
pub(super) fn layer_types(n_block: usize, pattern: usize) -> Vec<&'static str> {
    let kind = |i: usize| if (i + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" };
    (0..n_block).map(kind).collect()
}

/// The number whose inverse root scales attention, which no file states: llama.cpp takes the width of a head, and for
/// the largest model, which it knows by its blocks, the width over the heads.
pub(super) fn attention_scalar(sizes: &Sizes, largest: usize) -> usize {
    if sizes.n_block == largest { sizes.hidden / sizes.n_head } else { sizes.head_dim }
}

/// Refuses a file in which the blocks without a window are others.
pub(super) fn check_pattern(file: &GgufFile, sizes: &Sizes, pattern: usize) -> Result<()> {
    let key = sizes.key("attention.sliding_window_pattern");
    let windows = || layer_types(sizes.n_block, pattern).into_iter().map(|kind| kind == "sliding_attention");
    match file.metadata().get(&key) {
        None => Ok(()),
        Some(Value::Integer(n)) if *n == pattern as i128 => Ok(()),
        Some(Value::Bools(stored)) if windows().eq(stored.iter().copied()) => Ok(()),
        Some(_) => Err(file.refuse(&key, format!("{pattern}: one of so many blocks has no window"))),
    }
}

/// Refuses scaled positions.
fn unscaled(file: &GgufFile, sizes: &Sizes) -> Result<()> {
    match crate::rope::scaling(file, sizes)? {
        Json::Null => Ok(()),
        _ => Err(file.refuse(&sizes.key("rope.scaling.type"), "`none`")),
    }
}
