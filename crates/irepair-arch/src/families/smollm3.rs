//! SmolLM3: Llama's form, with blocks that do not rotate queries and keys.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::llama::{self, FULL, Form, SLIDING};
use crate::rope::RopeForm;
use crate::setting::{Flag, Size, settings, unsupported};
use crate::{Architecture, Family, Positions, Result, Rope};

/// SmolLM3.
pub static SMOLLM3: Family = Family {
    name: "smollm3",
    model_type: "smollm3",
    read,
    fresh: |shape| llama::fresh(shape, "SmolLM3ForCausalLM", "smollm3", json!({"use_sliding_window": false})),
    ..llama::FORM
};

#[derive(Deserialize)]
struct Config {
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<Size>,
    use_sliding_window: Option<Flag>,
    sliding_window: Option<Size>,
    layer_types: Option<Vec<String>>,
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    llama::need_kv_heads(&raw, path)?;
    let config: Config = settings(&raw, path, &[])?;
    let a = llama::read_form(raw, path, &Form { family: &SMOLLM3, tied: true, eps: 1e-6, head_dim: None })?;
    let wrong = |key: &str, want: &str| Err(unsupported(&a.raw, path, key, want));
    // In spite of its name, 1 is a block that rotates. Without the list every fourth does not.
    let interval = config.no_rope_layer_interval.map_or(4, |n| n.0);
    let rotates = config.no_rope_layers.map(|list| list.iter().map(|&on| on != 0).collect::<Vec<_>>());
    let rotates = rotates.unwrap_or_else(|| (1..=a.n_block).map(|b| !b.is_multiple_of(interval)).collect());
    if rotates.len() < a.n_block {
        return wrong("no_rope_layers", "1 or 0 for every block");
    }
    let window = config.sliding_window.filter(|_| config.use_sliding_window.is_some_and(|on| on.0)).map(|n| n.0);
    let kind = |b: usize| if window.is_some() && !rotates[b] { SLIDING } else { FULL }.to_owned();
    let kinds = config.layer_types.unwrap_or_else(|| (0..a.n_block).map(kind).collect());
    let Some(spans) = llama::spans(&kinds, window, a.n_block) else {
        let want = "full_attention or, where `use_sliding_window` is true, sliding_attention per block";
        return wrong("layer_types", want);
    };
    let rope = Arc::new(Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?);
    let ropes = rotates.into_iter().take(a.n_block).map(|on| on.then(|| rope.clone())).collect();
    Ok(Architecture { spans, positions: Positions::Rotary(ropes), ..a })
}
