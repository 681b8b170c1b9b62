//! Phi-3 and Phi-4: joint projections, as Hugging Face has them too, and rotary positions with a factor per dimension.

use serde_json::json;

use super::{Architecture, Bias, Dim, Norms, norm, projection};
use crate::rope;
use crate::value::Value;

pub(super) const PHI3: Architecture = Architecture {
    name: "phi3",
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    keys: "attention.sliding_window rope.scaling.attn_factor",
    theta: None,
    partial_rotary: true,
    norms: Norms::Plain,
    tied: false,
    block: &[
        norm("attn_norm", "input_layernorm"),
        projection("attn_qkv", "self_attn.qkv_proj", &[Dim::QueriesKeysValues, Dim::Hidden], Bias::Never),
        projection("attn_output", "self_attn.o_proj", &[Dim::Hidden, Dim::Queries], Bias::Never),
        norm("ffn_norm", "post_attention_layernorm"),
        projection("ffn_up", "mlp.gate_up_proj", &[Dim::TwoInner, Dim::Hidden], Bias::Never),
        projection("ffn_down", "mlp.down_proj", &[Dim::Hidden, Dim::Inner], Bias::Never),
    ],
    settings: |file, sizes| {
        let key = sizes.key("attention.sliding_window");
        // 0 means none; llama.cpp computes none either way.
        let window = match file.metadata().get(&key) {
            Some(Value::Integer(0)) => None,
            _ => Some(file.count(&key)?),
        };
        let rotated = file.optional_count(&sizes.key("rope.dimension_count"))?.unwrap_or(sizes.head_dim);
        let share = rotated as f64 / sizes.head_dim as f64;
        // Rounded down, as transformers computes it.
        if (sizes.head_dim as f64 * share) as usize != rotated {
            let want = format!("a share of the {} dimensions of a head that a float states exactly", sizes.head_dim);
            return Err(file.refuse(&sizes.key("rope.dimension_count"), want));
        }
        let original = file.count(&sizes.key("rope.scaling.original_context_length"))?;
        Ok(json!({
            "attention_bias": false,
            "embd_pdrop": 0.0,
            "hidden_act": "silu",
            "original_max_position_embeddings": original,
            "partial_rotary_factor": share,
            "resid_pdrop": 0.0,
            "rope_scaling": rope::long(file, sizes, rotated, original)?,
            "sliding_window": window,
        }))
    },
};
