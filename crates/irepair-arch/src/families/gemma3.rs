//! Gemma 3, its text model: Gemma 2 with norms of each head of queries and keys, other rotary positions in blocks with
//! a window, and no caps.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::gemma2;
use super::llama::{self, FULL, SLIDING};
use crate::rope::RopeForm;
use crate::setting::{Size, settings, unsupported};
use crate::{Architecture, AttentionSpan, Family, Positions, QueryKeyNorm, Result, Rope};

/// The text model of Gemma 3.
pub static GEMMA3: Family = Family {
    name: "gemma3-text",
    model_type: "gemma3_text",
    wrapper: Some("gemma3"),
    read,
    parameters: gemma2::parameters,
    fresh: |shape| {
        let no_caps = json!({
            "attn_logit_softcapping": null, "final_logit_softcapping": null, "rope_local_base_freq": 10000.0,
            "rope_theta": 1e6,
        });
        gemma2::fresh(shape, "Gemma3ForCausalLM", "gemma3_text", no_caps)
    },
    ..llama::FORM
};

/// What a file without these keys means: those that the project publishes lack most of them.
const DEFAULTS: &[(&str, u32)] = &[
    ("vocab_size", 262_208),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
    ("query_pre_attn_scalar", 256),
    ("sliding_window", 4096),
];

/// Bases of rotary positions of blocks without and with a window, in files that name none.
const BASES: [(&str, f64); 2] = [("rope_theta", 1e6), ("rope_local_base_freq", 1e4)];

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Config {
        sliding_window_pattern: Option<Size>,
    }
    let config: Config = settings(&raw, path, &[])?;
    let pattern = config.sliding_window_pattern.map_or(6, |n| n.0);
    let a = gemma2::read_form(&GEMMA3, raw, path, DEFAULTS, pattern)?;
    if a.attention_softcap.is_some() {
        return Err(unsupported(&a.raw, path, "attn_logit_softcapping", "null: transformers does not compute it"));
    }
    let rope = |layer_type, (theta, default): (&str, f64)| {
        let form = RopeForm { theta, layer_type: Some(layer_type), ..RopeForm::llama(a.head_dim, a.n_positions) };
        let inside = a.raw.get("rope_parameters").and_then(|table| table.get(layer_type)?.get("rope_theta"));
        let older = a.raw.get("rope_scaling").filter(|_| layer_type == FULL);
        let inside = inside.or(older.and_then(|table| table.get("rope_theta")));
        let mut whole = a.raw.clone();
        if inside.is_none() {
            whole.entry(theta).or_insert(json!(default));
        }
        Rope::read(&whole, path, form).map(Arc::new)
    };
    let (full, sliding) = (rope(FULL, BASES[0])?, rope(SLIDING, BASES[1])?);
    let of = |span: &AttentionSpan| Some(if *span == AttentionSpan::Global { full.clone() } else { sliding.clone() });
    Ok(Architecture {
        query_key_norm: Some(QueryKeyNorm::Head),
        positions: Positions::Rotary(a.spans.iter().map(of).collect()),
        ..a
    })
}
