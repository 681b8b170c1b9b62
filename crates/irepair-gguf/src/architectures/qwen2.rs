//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use serde_json::json;

use super::{Architecture, Bias, Dim, Norms, norm, projection};
use crate::rope;

pub(super) const QWEN2: Architecture = Architecture {
    name: "qwen2",
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    keys: "",
    theta: None,
    partial_rotary: false,
    norms: Norms::Plain,
    tied: false,
    block: &[
        norm("attn_norm", "input_layernorm"),
        projection("attn_q", "self_attn.q_proj", &[Dim::Queries, Dim::Hidden], Bias::Always),
        projection("attn_k", "self_attn.k_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Always),
        projection("attn_v", "self_attn.v_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Always),
        projection("attn_output", "self_attn.o_proj", &[Dim::Hidden, Dim::Queries], Bias::Never),
        norm("ffn_norm", "post_attention_layernorm"),
        projection("ffn_gate", "mlp.gate_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
        projection("ffn_up", "mlp.up_proj", &[Dim::Inner, Dim::Hidden], Bias::Never),
        projection("ffn_down", "mlp.down_proj", &[Dim::Hidden, Dim::Inner], Bias::Never),
    ],
    settings: |file, sizes| {
        Ok(json!({
            "hidden_act": "silu",
            "max_window_layers": sizes.n_block,
            "rope_scaling": rope::scaling(file, sizes)?,
            // No file states a window.
            "sliding_window": null,
            "use_sliding_window": false,
        }))
    },
};
