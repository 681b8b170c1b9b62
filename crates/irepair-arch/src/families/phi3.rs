//! Phi-3 and Phi-4: Llama's form with joint projections, and rotary positions with a factor per dimension.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::parameter::decoder;
use crate::rope::RopeForm;
use crate::setting::{Size, settings};
use crate::{Architecture, AttentionSpan, Biases, Family, Parameter, Positions, Result, Rope, Slot};

/// Phi-3 and Phi-4.
pub static PHI3: Family = Family {
    name: "phi3",
    model_type: "phi3",
    read,
    parameters,
    fresh: |shape| {
        let window = shape.window_size;
        let more = json!({"sliding_window": window, "original_max_position_embeddings": shape.n_positions});
        llama::fresh(shape, "Phi3ForCausalLM", "phi3", more)
    },
    ..llama::FORM
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Config {
        sliding_window: Option<Size>,
    }
    let config: Config = settings(&raw, path, &[])?;
    let a = llama::read_form(raw, path, &Form { family: &PHI3, tied: false, eps: 1e-5, head_dim: None })?;
    let form = RopeForm {
        share: Some("partial_rotary_factor"),
        kinds: &["default", "longrope"],
        ..RopeForm::llama(a.head_dim, a.n_positions)
    };
    let rope = Rope::read(&a.raw, path, form)?;
    let span = config.sliding_window.map_or(AttentionSpan::Global, |n| AttentionSpan::Local(n.0));
    Ok(Architecture {
        biases: Biases::default(),
        spans: vec![span; a.n_block],
        positions: Positions::rotary(rope, a.n_block),
        ..a
    })
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_tokens", "", "norm"], |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        block.linear(Slot::Qkv, "self_attn.qkv_proj");
        block.linear(Slot::AttentionOut, "self_attn.o_proj");
        block.norm(Slot::MlpNorm, "post_attention_layernorm");
        block.linear(Slot::GateUp, "mlp.gate_up_proj");
        block.linear(Slot::Down, "mlp.down_proj");
    })
}
