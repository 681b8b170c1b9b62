//! Qwen3: a norm of each head of queries and keys, no biases.

use serde_json::json;

use super::{Architecture, Bias, Dim, Norms, Row, norm, projection};
use crate::rope;

pub(super) const QWEN3: Architecture = Architecture {
    name: "qwen3",
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    keys: "",
    theta: None,
    partial_rotary: false,
    norms: Norms::Plain,
    tied: false,
    block: &[
        norm("attn_norm", "input_layernorm"),
        projection("attn_q", "self_attn.q_proj", &[Dim::Queries, Dim::Hidden], Bias::Never),
        projection("attn_k", "self_attn.k_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Never),
        projection("attn_v", "self_attn.v_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Never),
        projection("attn_output", "self_attn.o_proj", &[Dim::Hidden, Dim::Queries], Bias::Never),
        Row { from: "attn_q_norm", to: "self_attn.q_norm", shape: &[Dim::Head], bias: Bias::Never },
        Row { from: "attn_k_norm", to: "self_attn.k_norm", shape: &[Dim::Head], bias: Bias::Never },
        norm("ffn_norm", "post_attention_layernorm"),
        projection("ffn_gate", "mlp.gate_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
        projection("ffn_up", "mlp.up_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
        projection("ffn_down", "mlp.down_proj", &[Dim::Hidden, Dim::Inner], Bias::Never),
    ],
    settings: |file, sizes| {
        Ok(json!({
            "attention_bias": false,
            "hidden_act": "silu",
            "max_window_layers": sizes.n_block,
            "rope_scaling": rope::scaling(file, sizes)?,
            // No file states a window.
            "sliding_window": null,
            "use_sliding_window": false,
        }))
    },
};
