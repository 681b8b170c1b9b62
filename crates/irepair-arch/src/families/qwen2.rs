//! Qwen2 and Qwen2.5: Llama's form, always with biases on query, key and value, and optionally a window in late blocks.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::rope::RopeForm;
use crate::setting::unsupported;
use crate::{Architecture, Biases, Family, Layout, Positions, Result, Rope};

/// Qwen2 and Qwen2.5.
pub static QWEN2: Family = Family {
    name: "qwen2",
    model_type: "qwen2",
    wrapper: None,
    prefix: "model.",
    head: "lm_head",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters: llama::parameters,
    fresh: |shape| llama::fresh(shape, "Qwen2ForCausalLM", "qwen2", json!({})),
};

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    // The class's default is 32, whatever the number of heads: a file without it is refused.
    if !raw.contains_key("num_key_value_heads") {
        let want = "the number of key and value heads, or null for one each";
        return Err(unsupported(&raw, path, "num_key_value_heads", want));
    }
    let a = llama::read_form(raw, path, &Form { family: &QWEN2, tied: false, eps: 1e-6, head_dim: None })?;
    let rope = Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?;
    Ok(Architecture {
        biases: Biases { qkv: true, ..Biases::default() },
        spans: llama::windows(&a.raw, path, a.n_block)?,
        positions: Positions::Rotary(vec![Some(rope); a.n_block]),
        ..a
    })
}
