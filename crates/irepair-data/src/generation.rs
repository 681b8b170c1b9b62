//! `generation_config.json`: the tokens that end a generated text, and settings that are not read.

use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::added::{bad, optional_json};
use crate::sources::{GENERATION_CONFIG, MODEL_CONFIG};

/// Settings of `generation_config.json` that change transformers' greedy text and are not read here, with the value at
/// which each does nothing.
const CHANGES_GREEDY: [(&str, f64); 8] = [
    ("num_beams", 1.0),
    ("guidance_scale", 1.0),
    ("repetition_penalty", 1.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("min_new_tokens", 0.0),
    ("min_length", 0.0),
    ("exponential_decay_length_penalty", 0.0),
];
const CHANGES_GREEDY_LISTS: [&str; 9] = [
    "token_healing",
    "watermarking_config",
    "dola_layers",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "forced_bos_token_id",
    "forced_eos_token_id",
];

/// Keys of a model directory's `generation_config.json` with which transformers' greedy text is another one.
///
/// # Errors
/// `BadTokenizer` where the file is no JSON; `File`.
pub fn unread_generation(dir: &Path) -> Result<Vec<&'static str>> {
    let config = optional_json(&dir.join(GENERATION_CONFIG))?;
    let number = CHANGES_GREEDY.iter().filter(|(key, none)| {
        let value = &config[*key];
        !value.is_null() && value.as_f64() != Some(*none)
    });
    let list = CHANGES_GREEDY_LISTS.iter().filter(|key| match &config[**key] {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    });
    Ok(number.map(|(key, _)| *key).chain(list.copied()).collect())
}

/// Tokens at which generation stops, as transformers' `generate` has it: `eos_token_id` of `generation_config.json`
/// where that file exists, none when it names none; otherwise that of `config.json`; otherwise `eos_id`.
pub(crate) fn generation_ends(dir: &Path, eos_id: u32) -> Result<Vec<u32>> {
    let path = dir.join(GENERATION_CONFIG);
    if path.exists() {
        return listed_ends(&path, &optional_json(&path)?);
    }
    let path = dir.join(MODEL_CONFIG);
    let ends = listed_ends(&path, &optional_json(&path)?)?;
    Ok(if ends.is_empty() { vec![eos_id] } else { ends })
}

/// `eos_token_id`, a number or a list of numbers; empty when it is null or not there.
pub(crate) fn listed_ends(path: &Path, config: &Value) -> Result<Vec<u32>> {
    let of = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| bad(path, format!("eos_token_id holds {value}, which is no token id")))
    };
    match &config["eos_token_id"] {
        Value::Null => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(of).collect(),
        id => Ok(vec![of(id)?]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Tokenizer;

    /// A directory with a tokenizer of one end token, and these files.
    fn directory(files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::train_bpe(&["the mill by the mill"], 280).unwrap().save(dir.path()).unwrap();
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        dir
    }

    #[test]
    fn generation_ends_where_transformers_ends_it() {
        let config = |eos: Value| (MODEL_CONFIG, json!({"model_type": "gpt2", "eos_token_id": eos}));
        let generation = |eos: Value| (GENERATION_CONFIG, json!({"eos_token_id": eos}));
        for (files, want) in [
            (vec![], vec![0]),
            (vec![config(json!(3))], vec![3]),
            (vec![config(json!([3, 4]))], vec![3, 4]),
            (vec![config(json!(3)), generation(json!(7))], vec![7]),
            (vec![config(json!(3)), generation(json!([7, 9]))], vec![7, 9]),
            (vec![config(json!(3)), generation(Value::Null)], vec![]),
            (vec![config(json!(3)), (GENERATION_CONFIG, json!({}))], vec![]),
        ] {
            let dir = directory(&files);
            assert_eq!(Tokenizer::load(dir.path()).unwrap().end_ids(), want, "{files:?}");
        }
        let dir = directory(&[generation(json!([7, "x"]))]);
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert_eq!(error, "tokenizer file cannot be used: eos_token_id holds \"x\", which is no token id");
    }
}
