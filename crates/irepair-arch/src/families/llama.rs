//! Llama (and SmolLM2, and other models with `model_type = "llama"`): RMS norms, rotary positions, grouped queries,
//! gated MLP.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::decoder;
use crate::setting::{Act, Flag, NotNegative, Size, settings, unsupported};
use crate::{Activation, Architecture, Biases, Family, Layout, Norm, NormKind, Parameter, Positions, Result, Rope, Shape, Slot};

/// Llama.
pub static LLAMA: Family = Family {
    name: "llama",
    model_type: "llama",
    prefix: "model.",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters,
    fresh: |shape| fresh(shape, "LlamaForCausalLM", "llama"),
};

/// The keys of its `config.json` that [`Architecture::base`] and [`Rope`] do not read.
#[derive(Deserialize)]
struct Config {
    hidden_size: Size,
    intermediate_size: Size,
    num_hidden_layers: Size,
    num_attention_heads: Size,
    num_key_value_heads: Option<Size>,
    head_dim: Option<Size>,
    max_position_embeddings: Size,
    hidden_act: Option<Act>,
    rms_norm_eps: Option<NotNegative>,
    attention_bias: Option<Flag>,
    mlp_bias: Option<Flag>,
}

/// Reads a `config.json` with Llama's keys; other families of this form start from it.
pub(super) fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, &[])?;
    let sizes =
        [config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.max_position_embeddings];
    let keys = ["num_hidden_layers", "num_attention_heads"];
    let base = Architecture::base(&LLAMA, raw, path, keys, sizes, config.head_dim, false)?;
    let (n_head, head_dim) = (base.n_head, base.head_dim);
    let wrong = |key: &str, want: &str| unsupported(&base.raw, path, key, want);
    let n_kv_head = config.num_key_value_heads.map_or(n_head, |n| n.0);
    if !n_head.is_multiple_of(n_kv_head) {
        return Err(wrong("num_key_value_heads", &format!("a divisor of {n_head}")));
    }
    if n_head.saturating_mul(head_dim) > 1 << 24 {
        return Err(wrong("head_dim", "heads of at most 16777216 values in all"));
    }
    let on = |flag: Option<Flag>| flag.is_some_and(|on| on.0);
    let attention_bias = on(config.attention_bias);
    Ok(Architecture {
        n_kv_head,
        n_inner: config.intermediate_size.0,
        norm: Norm { kind: NormKind::RmsNorm, eps: config.rms_norm_eps.map_or(1e-6, |eps| eps.0) },
        activation: config.hidden_act.map_or(Activation::Silu, |act| act.0),
        gated_mlp: true,
        biases: Biases { qkv: attention_bias, attention_out: attention_bias, mlp: on(config.mlp_bias) },
        positions: Positions::Rotary(Rope::read(&base.raw, path, head_dim, base.n_positions)?),
        ..base
    })
}

/// Llama's parameter list; other families of this form share it.
pub(super) fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_tokens", "", "norm"], |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        block.linear(Slot::Query, "self_attn.q_proj");
        block.linear(Slot::Key, "self_attn.k_proj");
        block.linear(Slot::Value, "self_attn.v_proj");
        block.linear(Slot::AttentionOut, "self_attn.o_proj");
        block.norm(Slot::MlpNorm, "post_attention_layernorm");
        block.linear(Slot::Gate, "mlp.gate_proj");
        block.linear(Slot::Up, "mlp.up_proj");
        block.linear(Slot::Down, "mlp.down_proj");
    })
}

/// The `config.json` of a new model of Llama's form.
pub(super) fn fresh(shape: &Shape, class: &str, model_type: &str) -> Value {
    json!({
        "architectures": [class], "model_type": model_type, "hidden_act": "silu",
        "num_hidden_layers": shape.n_layer, "hidden_size": shape.n_embd, "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head.unwrap_or(shape.n_head),
        "intermediate_size": shape.n_inner.unwrap_or(4 * shape.n_embd), "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.n_positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true,
        "initializer_range": 0.02, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "dtype": "float32",
    })
}
