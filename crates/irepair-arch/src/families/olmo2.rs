//! OLMo 2: Llama's projections with norms on the outputs of attention and MLP instead of their inputs, and norms of
//! whole queries and keys.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::parameter::decoder;
use crate::{
    Architecture, Biases, Family, Norm, NormWeight, Parameter, QueryKeyNorm, Result, Slot,
};

/// OLMo 2.
pub static OLMO2: Family = Family {
    name: "olmo2",
    model_type: "olmo2",
    read,
    parameters,
    fresh: |shape| llama::fresh(shape, "Olmo2ForCausalLM", "olmo2", json!({})),
    ..llama::FORM
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let a = llama::read_rotating(raw, path, &Form { family: &OLMO2, tied: false, eps: 1e-5, head_dim: None })?;
    Ok(Architecture {
        norm: Norm { weight: NormWeight::BeforeRounding, ..a.norm },
        query_key_norm: Some(QueryKeyNorm::Projection),
        biases: Biases { mlp: false, ..a.biases },
        rotated_in_float: true,
        ..a
    })
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_tokens", "", "norm"], |block| {
        llama::attention(block);
        block.norm(Slot::AttentionOutNorm, "post_attention_layernorm");
        llama::mlp(block);
        block.norm(Slot::MlpOutNorm, "post_feedforward_layernorm");
    })
}
