//! Qwen2 and Qwen2.5: Llama's form, always with biases on query, key and value, and optionally a window in late blocks.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::{Architecture, Biases, Family, Result};

/// Qwen2 and Qwen2.5.
pub static QWEN2: Family = Family {
    name: "qwen2",
    model_type: "qwen2",
    read,
    fresh: |shape| llama::fresh(shape, "Qwen2ForCausalLM", "qwen2", json!({})),
    ..llama::FORM
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    llama::need_kv_heads(&raw, path)?;
    let a = llama::read_rotating(raw, path, &Form { family: &QWEN2, tied: false, eps: 1e-6, head_dim: None })?;
    Ok(Architecture {
        biases: Biases { qkv: true, ..Biases::default() },
        spans: llama::windows(&a.raw, path, a.n_block)?,
        ..a
    })
}
