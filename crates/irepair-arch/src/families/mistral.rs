//! Mistral: Llama's form with a window in every block, where a file does not say otherwise.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::llama::{self, FULL, Form, SLIDING};
use crate::setting::{Size, settings, unsupported};
use crate::{Architecture, AttentionSpan, Biases, Family, Result};

/// Mistral 7B and models of its form.
pub static MISTRAL: Family = Family {
    name: "mistral",
    model_type: "mistral",
    read,
    fresh: |shape| {
        let window = shape.window_size;
        llama::fresh(shape, "MistralForCausalLM", "mistral", json!({"sliding_window": window}))
    },
    ..llama::FORM
};

/// The window of a file without the key; null means none.
const WINDOW: usize = 4096;

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Config {
        sliding_window: Option<Size>,
        layer_types: Option<Vec<String>>,
    }
    llama::need_kv_heads(&raw, path)?;
    let config: Config = settings(&raw, path, &[])?;
    let default = (!raw.contains_key("sliding_window")).then_some(WINDOW);
    let span = config.sliding_window.map(|n| n.0).or(default).map_or(AttentionSpan::Global, AttentionSpan::Local);
    let a = llama::read_rotating(raw, path, &Form { family: &MISTRAL, tied: false, eps: 1e-6, head_dim: None })?;
    // With this key transformers makes another model of the file, whose blocks differ.
    let kind = if matches!(span, AttentionSpan::Local(_)) { SLIDING } else { FULL };
    if config.layer_types.is_some_and(|kinds| kinds.len() != a.n_block || kinds.iter().any(|each| each != kind)) {
        let want = format!("{kind} for every block, as `sliding_window` has it");
        return Err(unsupported(&a.raw, path, "layer_types", &want));
    }
    Ok(Architecture {
        biases: Biases::default(),
        spans: vec![span; a.n_block],
        ..a
    })
}
