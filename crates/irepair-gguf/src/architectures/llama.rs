//! Llama, Mistral, SmolLM2: the rows of queries and keys are in pairs.

use serde_json::json;

use super::{Architecture, Bias, Dim, Norms, norm, projection};
use crate::rope;

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    class: "LlamaForCausalLM",
    keys: "expert_count expert_used_count tensor_data_layout",
    theta: None,
    partial_rotary: false,
    norms: Norms::Plain,
    tied: false,
    block: &[
        norm("attn_norm", "input_layernorm"),
        projection("attn_q", "self_attn.q_proj", &[Dim::PairedQueries, Dim::Hidden], Bias::Attention),
        projection("attn_k", "self_attn.k_proj", &[Dim::PairedKeys, Dim::Hidden], Bias::Attention),
        projection("attn_v", "self_attn.v_proj", &[Dim::KeysValues, Dim::Hidden], Bias::Attention),
        projection("attn_output", "self_attn.o_proj", &[Dim::Hidden, Dim::Queries], Bias::Attention),
        norm("ffn_norm", "post_attention_layernorm"),
        projection("ffn_gate", "mlp.gate_proj", &[Dim::Inner, Dim::Hidden], Bias::Mlp),
        projection("ffn_up", "mlp.up_proj", &[Dim::Inner, Dim::Hidden], Bias::Mlp),
        projection("ffn_down", "mlp.down_proj", &[Dim::Hidden, Dim::Inner], Bias::Mlp),
    ],
    settings: |file, sizes| {
        Ok(json!({
            "attention_bias": sizes.attention_bias,
            "hidden_act": "silu",
            "mlp_bias": sizes.mlp_bias,
            "pretraining_tp": 1,
            "rope_scaling": rope::scaling(file, sizes)?,
        }))
    },
};
