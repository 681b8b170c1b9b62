//! Qwen2 and Qwen2.5: Llama's form, always with biases on query, key and value, and optionally a window in late blocks.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::llama;
use crate::setting::{Flag, Size, settings, unsupported};
use crate::{Architecture, AttentionSpan, Biases, Family, Layout, Result};

/// Qwen2 and Qwen2.5.
pub static QWEN2: Family = Family {
    name: "qwen2",
    model_type: "qwen2",
    prefix: "model.",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters: llama::parameters,
    fresh: |shape| llama::fresh(shape, "Qwen2ForCausalLM", "qwen2"),
};

/// What its `config.json` has beyond Llama's. `sliding_window` counts only where `use_sliding_window` is true.
#[derive(Deserialize)]
struct Config {
    // The class's default is 32, whatever the number of heads: a file without it is refused.
    #[serde(rename = "num_key_value_heads")]
    _n_kv_head: Option<Size>,
    use_sliding_window: Option<Flag>,
    sliding_window: Option<Size>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, &[])?;
    let wrong = |key: &str, want: &str| Err(unsupported(&raw, path, key, want));
    if !raw.contains_key("num_key_value_heads") {
        return wrong("num_key_value_heads", "the number of key and value heads, or null for one each");
    }
    let slides = config.use_sliding_window.is_some_and(|on| on.0);
    let (window, from) = match (slides, config.sliding_window, config.max_window_layers) {
        (false, ..) => (None, 0),
        (true, None, _) => {
            return wrong("sliding_window", "the width of the window that `use_sliding_window` asks for");
        }
        (true, Some(window), from) if from.is_some() || config.layer_types.is_some() => {
            (Some(window.0), from.unwrap_or(0))
        }
        (true, _, _) => return wrong("max_window_layers", "the first block with a window"),
    };
    let base = llama::read(raw.clone(), path)?;
    let (full, sliding) = ("full_attention", "sliding_attention");
    let default = |b| if window.is_some() && b >= from { sliding } else { full }.to_owned();
    let kinds = config.layer_types.unwrap_or_else(|| (0..base.n_block).map(default).collect());
    let span = |kind: &String| match window {
        _ if kind == full => Some(AttentionSpan::Global),
        Some(window) if kind == sliding => Some(AttentionSpan::Local(window)),
        _ => None,
    };
    let Some(spans) = kinds.iter().map(span).collect::<Option<Vec<_>>>().filter(|s| s.len() == base.n_block) else {
        return wrong(
            "layer_types",
            "full_attention or, where `use_sliding_window` is true, sliding_attention per block",
        );
    };
    Ok(Architecture { family: &QWEN2, biases: Biases { qkv: true, ..Biases::default() }, spans, ..base })
}
