//! Qwen3 (dense): Llama's form with heads of a width of their own, norms of each head of queries and keys, and
//! optionally a window in late blocks.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::{Architecture, Biases, Family, QueryKeyNorm, Result};

/// Qwen3.
pub static QWEN3: Family = Family {
    name: "qwen3",
    model_type: "qwen3",
    read,
    fresh: |shape| {
        let head_dim = shape.n_embd / shape.n_head;
        llama::fresh(shape, "Qwen3ForCausalLM", "qwen3", json!({"head_dim": head_dim}))
    },
    ..llama::FORM
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    llama::need_kv_heads(&raw, path)?;
    let a = llama::read_rotating(raw, path, &Form { family: &QWEN3, tied: false, eps: 1e-6, head_dim: Some(128) })?;
    Ok(Architecture {
        query_key_norm: Some(QueryKeyNorm::Head),
        biases: Biases { mlp: false, ..a.biases },
        spans: llama::windows(&a.raw, path, a.n_block)?,
        ..a
    })
}
