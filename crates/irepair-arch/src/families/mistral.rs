//! Mistral: Llama's form with a window in every block, where a file does not say otherwise.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::llama::{self, Form};
use crate::rope::RopeForm;
use crate::setting::{Size, settings, unsupported};
use crate::{Architecture, AttentionSpan, Biases, Family, Layout, Positions, Result, Rope};

/// Mistral 7B and models of its form.
pub static MISTRAL: Family = Family {
    name: "mistral",
    model_type: "mistral",
    wrapper: None,
    prefix: "model.",
    head: "lm_head",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters: llama::parameters,
    fresh: |shape| {
        let window = shape.window_size;
        llama::fresh(shape, "MistralForCausalLM", "mistral", json!({"sliding_window": window}))
    },
};

/// The window of a file without the key; null means none.
const WINDOW: usize = 4096;

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Config {
        sliding_window: Option<Size>,
    }
    // The class's default is 8, whatever the number of heads: a file without it is refused.
    if !raw.contains_key("num_key_value_heads") {
        let want = "the number of key and value heads, or null for one each";
        return Err(unsupported(&raw, path, "num_key_value_heads", want));
    }
    let config: Config = settings(&raw, path, &[])?;
    let default = (!raw.contains_key("sliding_window")).then_some(WINDOW);
    let span = config.sliding_window.map(|n| n.0).or(default).map_or(AttentionSpan::Global, AttentionSpan::Local);
    let a = llama::read_form(raw, path, &Form { family: &MISTRAL, tied: false, eps: 1e-6, head_dim: None })?;
    let rope = Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?;
    Ok(Architecture {
        biases: Biases::default(),
        spans: vec![span; a.n_block],
        positions: Positions::Rotary(vec![Some(rope); a.n_block]),
        ..a
    })
}
