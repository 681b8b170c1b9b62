//! Keys of windows in the `config.json` of a family that masks none: transformers' cache follows them all the same.

use serde_json::Value;

use crate::Architecture;

/// Families whose classes in transformers have no window of these keys.
const WITHOUT_WINDOW: [&str; 5] = ["gpt2", "gpt_neo", "gpt_neox", "llama", "olmo2"];

/// The keys, and the type of block in `layer_types` that each belongs to.
const KEYS: [(&str, &str); 2] =
    [("sliding_window", "sliding_attention"), ("attention_chunk_size", "chunked_attention")];

impl Architecture {
    /// A key by which transformers, versions 4 and 5, cuts its cache while it generates, and the positions that it
    /// keeps: fewer than the context, though the class masks nothing. Losses do not follow it, nor texts that are
    /// generated without a cache.
    pub fn cut_cache(&self) -> Option<(&'static str, u64)> {
        let types = self.raw.get("layer_types").and_then(Value::as_array);
        let cuts = |kind: &str| types.is_none_or(|types| types.iter().any(|one| one == kind));
        let of = |(key, kind): (&'static str, &str)| Some((key, self.raw.get(key)?.as_u64().filter(|_| cuts(kind))?));
        KEYS.into_iter()
            .find_map(of)
            .filter(|(_, n)| *n < self.n_positions as u64 && WITHOUT_WINDOW.contains(&self.family.model_type))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn cut(model_type: &str, more: &Value) -> Option<(&'static str, u64)> {
        let mut raw = json!({
            "model_type": model_type, "vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "rms_norm_eps": 1e-5,
            "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 512, "rope_theta": 1e4,
            "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512,
        });
        raw.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Architecture::from_json(raw, Path::new("config.json")).unwrap().cut_cache()
    }

    #[test]
    fn a_window_within_the_context_cuts_where_the_class_has_none() {
        for family in ["gpt2", "llama"] {
            assert_eq!(cut(family, &json!({})), None);
            assert_eq!(cut(family, &json!({"sliding_window": null})), None);
            assert_eq!(cut(family, &json!({"sliding_window": 64})), Some(("sliding_window", 64)));
            assert_eq!(cut(family, &json!({"attention_chunk_size": 32})), Some(("attention_chunk_size", 32)));
        }
        assert_eq!(cut("llama", &json!({"sliding_window": 512})), None, "as long as the context");
        let full = ["full_attention", "full_attention"];
        assert_eq!(cut("llama", &json!({"sliding_window": 64, "layer_types": full})), None);
        let one = ["full_attention", "sliding_attention"];
        assert_eq!(cut("llama", &json!({"sliding_window": 64, "layer_types": one})), Some(("sliding_window", 64)));
    }
}
