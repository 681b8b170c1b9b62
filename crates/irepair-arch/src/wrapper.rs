//! Models of several parts, of which one is a language model of a known family: its `text_config` is read, its other
//! tensors are carried along untouched.

use std::path::Path;

use serde_json::{Map, Value};

use crate::setting::{Ids, refuse_changed_models, settings, unsupported};
use crate::{Architecture, FAMILIES, Family, Result};

/// Reads the text model of `family` in the `config.json` of a model of several parts.
pub(crate) fn read(family: &'static Family, raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let Some(Value::Object(text)) = raw.get("text_config") else {
        return Err(unsupported(&raw, path, "text_config", "the settings of the text model"));
    };
    let named = text.get("model_type").and_then(Value::as_str).unwrap_or(family.model_type);
    if named != family.model_type {
        return Err(unsupported(&raw, path, "text_config.model_type", family.model_type));
    }
    refuse_changed_models(text, path).map_err(|error| error.below("text_config"))?;
    let mut text = text.clone();
    // The whole model's key counts, and the text model's does not.
    let tied = raw.get("tie_word_embeddings").cloned().unwrap_or(Value::Bool(true));
    text.insert("tie_word_embeddings".to_owned(), tied);
    #[derive(serde::Deserialize)]
    struct Outer {
        eos_token_id: Option<Ids>,
    }
    let outer: Outer = settings(&raw, path, &[])?;
    let a = (family.read)(text, path).map_err(|error| error.below("text_config"))?;
    if a.logit_softcap.is_some() {
        let key = "text_config.final_logit_softcapping";
        return Err(unsupported(&raw, path, key, "null: transformers does not compute it in such a model"));
    }
    let eos_ids = outer.eos_token_id.map_or(a.eos_ids.clone(), |ids| ids.0);
    Ok(Architecture { eos_ids, raw, ..a })
}

/// Kinds of models that are not computed, by what their `model_type` says.
const REASONS: &[(&str, &str)] = &[
    ("moe", "a mixture of experts"),
    ("mixtral", "a mixture of experts"),
    ("deepseek", "a mixture of experts with latent attention"),
    ("gpt_oss", "a mixture of experts"),
    ("llama4", "a mixture of experts"),
    ("qwen3_5", "a hybrid of attention and linear attention"),
    ("qwen3_next", "a hybrid of attention and linear attention"),
    ("mamba", "a state space model"),
    ("jamba", "a hybrid of attention and state space blocks"),
    ("bamba", "a hybrid of attention and state space blocks"),
    ("falcon_h1", "a hybrid of attention and state space blocks"),
    ("rwkv", "a recurrent model"),
    ("gemma3n", "a model with embeddings and states of its own in every block"),
    ("gemma4", "a model with embeddings and states of its own in every block"),
    ("_vl", "a model of text and images"),
    ("llava", "a model of text and images"),
    ("mistral3", "a model of text and images"),
    ("t5", "an encoder and a decoder"),
    ("bart", "an encoder and a decoder"),
    ("bert", "an encoder"),
];

/// What a `model_type` may be, and why this one is not computed, where that is known.
pub(crate) fn known(model_type: &str) -> String {
    let names = FAMILIES.iter().flat_map(|family| [Some(family.model_type), family.wrapper]).flatten();
    let known = format!("one of {}", names.collect::<Vec<_>>().join(", "));
    match REASONS.iter().find(|(part, _)| model_type.contains(part)) {
        Some((_, reason)) => format!("{known}; {model_type} is {reason}, which is not computed"),
        None => known,
    }
}
