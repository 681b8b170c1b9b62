//! Qwen3 (dense): Llama's form with heads of a width of their own, norms of each head of queries and keys, and
//! optionally a window in late blocks.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::rope::RopeForm;
use crate::{Architecture, Biases, Family, Layout, Positions, QueryKeyNorm, Result, Rope};

/// Qwen3.
pub static QWEN3: Family = Family {
    name: "qwen3",
    model_type: "qwen3",
    wrapper: None,
    prefix: "model.",
    head: "lm_head",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters: llama::parameters,
    fresh: |shape| {
        let head_dim = shape.n_embd / shape.n_head;
        llama::fresh(shape, "Qwen3ForCausalLM", "qwen3", json!({"head_dim": head_dim}))
    },
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let a = llama::read_form(raw, path, &Form { family: &QWEN3, tied: false, eps: 1e-6, head_dim: Some(128) })?;
    let rope = Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?;
    Ok(Architecture {
        query_key_norm: Some(QueryKeyNorm::Head),
        biases: Biases { mlp: false, ..a.biases },
        spans: llama::windows(&a.raw, path, a.n_block)?,
        positions: Positions::Rotary(vec![Some(rope); a.n_block]),
        ..a
    })
}
