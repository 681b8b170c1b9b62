//! Llama (and SmolLM2, and what else says `model_type = "llama"`): RMS norms, rotary positions, grouped queries, gated MLP.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::ParameterList;
use crate::setting::{Act, Flag, Ids, NotNegative, Size, settings, unsupported};
use crate::{
    Activation, Architecture, AttentionSpan, Biases, Family, Init, Layout, Norm, NormKind, Parameter, Positions,
    Result, Rope, Shape, Slot,
};

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

/// Its `config.json`; rotary positions are read by [`Rope`].
#[derive(Deserialize)]
struct Config {
    hidden_size: Size,
    intermediate_size: Size,
    num_hidden_layers: Size,
    num_attention_heads: Size,
    num_key_value_heads: Option<Size>,
    head_dim: Option<Size>,
    max_position_embeddings: Size,
    vocab_size: Size,
    hidden_act: Option<Act>,
    rms_norm_eps: Option<NotNegative>,
    attention_bias: Option<Flag>,
    mlp_bias: Option<Flag>,
    tie_word_embeddings: Option<Flag>,
    eos_token_id: Option<Ids>,
}

/// Reads a `config.json` with Llama's keys; other families of this form start from it.
pub(super) fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, &[])?;
    let (n_block, n_embd, n_head) = (config.num_hidden_layers.0, config.hidden_size.0, config.num_attention_heads.0);
    let wrong = |key: &str, want: &str| unsupported(&raw, path, key, want);
    if n_block > crate::architecture::MAX_BLOCKS {
        return Err(wrong("num_hidden_layers", "at most 10000 blocks"));
    }
    let n_kv_head = config.num_key_value_heads.map_or(n_head, |n| n.0);
    if !n_head.is_multiple_of(n_kv_head) {
        return Err(wrong("num_key_value_heads", &format!("a divisor of {n_head}")));
    }
    let head_dim = match config.head_dim {
        Some(n) => n.0,
        None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
        None => return Err(wrong("num_attention_heads", &format!("a divisor of {n_embd}"))),
    };
    if n_head.saturating_mul(head_dim) > 1 << 24 {
        return Err(wrong("head_dim", "heads of at most 16777216 values in all"));
    }
    let attention_bias = config.attention_bias.is_some_and(|on| on.0);
    let rope = Rope::read(&raw, path, head_dim, config.max_position_embeddings.0)?;
    Ok(Architecture {
        family: &LLAMA,
        n_block,
        n_embd,
        n_head,
        n_kv_head,
        head_dim,
        n_inner: config.intermediate_size.0,
        n_positions: config.max_position_embeddings.0,
        n_vocab: config.vocab_size.0,
        norm: Norm { kind: NormKind::RmsNorm, eps: config.rms_norm_eps.map_or(1e-6, |eps| eps.0) },
        activation: config.hidden_act.map_or(Activation::Silu, |act| act.0),
        gated_mlp: true,
        biases: Biases {
            qkv: attention_bias,
            attention_out: attention_bias,
            mlp: config.mlp_bias.is_some_and(|on| on.0),
        },
        positions: Positions::Rotary(rope),
        tied_head: config.tie_word_embeddings.is_some_and(|tied| tied.0),
        spans: vec![AttentionSpan::Global; n_block],
        attention_scales: vec![(head_dim as f64).powf(-0.5); n_block],
        eos_ids: config.eos_token_id.unwrap_or_default().0,
        raw,
    })
}

/// Llama's parameter list; other families of this form share it.
pub(super) fn parameters(a: &Architecture) -> Vec<Parameter> {
    let mut list = ParameterList::new(a);
    let normal = Init::Normal(list.sd());
    list.table(Slot::TokenEmbedding, "embed_tokens", a.n_vocab, Init::Normal(4.0 * list.sd()));
    list.blocks("layers", |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        block.linear(Slot::Query, "self_attn.q_proj");
        block.linear(Slot::Key, "self_attn.k_proj");
        block.linear(Slot::Value, "self_attn.v_proj");
        block.linear(Slot::AttentionOut, "self_attn.o_proj");
        block.norm(Slot::MlpNorm, "post_attention_layernorm");
        block.linear(Slot::Gate, "mlp.gate_proj");
        block.linear(Slot::Up, "mlp.up_proj");
        block.linear(Slot::Down, "mlp.down_proj");
    });
    list.norm(Slot::FinalNorm, "norm");
    if !a.tied_head {
        list.table(Slot::Head, "lm_head", a.n_vocab, normal);
    }
    list.into_list()
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
