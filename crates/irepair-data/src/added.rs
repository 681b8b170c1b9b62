//! Tokens added to the vocabulary, and the files that name them: the rules of transformers' GPT-2 tokenizer.

use std::path::Path;

use irepair_core::fs::read_to_string;
use irepair_core::weights::not_json;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::read::END_OF_TEXT;
use crate::sources::{GEMMA, GPT2, LLAMA, MODEL_CONFIG, NEOX, QWEN2, ROBERTA};
use crate::{Error, Result};

/// Settings that name one token each.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Those that GPT-2's tokenizer fills with the end-of-text token when nothing is said.
const FILLED: [&str; 3] = ["bos_token", "eos_token", "unk_token"];
/// Settings that list tokens, under their newer and their older name.
const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// `tokenizer_config.json`, overwritten by the older `special_tokens_map.json`. A config that lists every added
/// token itself is newer than that file, which is then ignored. A class that is not given is that of `config.json`, or
/// else of the model's type.
pub(crate) fn settings(dir: &Path) -> Result<Value> {
    let mut config = optional_json(&dir.join("tokenizer_config.json"))?;
    if !config.is_object() {
        config = Value::Object(Map::new());
    }
    if config.get("added_tokens_decoder").is_none()
        && let Value::Object(map) = optional_json(&dir.join("special_tokens_map.json"))?
    {
        for (key, value) in map {
            config[key] = value;
        }
    }
    if !config["tokenizer_class"].is_string() {
        let model = optional_json(&dir.join(MODEL_CONFIG))?;
        config["tokenizer_class"] = match (model["tokenizer_class"].as_str(), model["model_type"].as_str()) {
            (Some(class), _) => class.into(),
            (None, Some("gpt2" | "gpt_neo")) => GPT2.into(),
            (None, Some("roberta")) => ROBERTA.into(),
            (None, Some("qwen2" | "qwen3")) => QWEN2.into(),
            (None, Some("llama" | "mistral" | "phi3")) => LLAMA.into(),
            (None, Some("gemma2" | "gemma3" | "gemma3_text")) => GEMMA.into(),
            (None, Some("gpt_neox" | "olmo2")) => NEOX.into(),
            (None, Some("smollm3")) => "PreTrainedTokenizerFast".into(),
            _ => Value::Null,
        };
    }
    Ok(config)
}

/// Text of a token that is given as a string, or as an object with flags.
pub(crate) fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// Adds to a tokenizer what its directory lists and names: first the listed tokens by id, then special tokens that are
/// named and not yet known. `older` is the form without `tokenizer.json`, in which all of them are still to be added.
///
/// # Errors
/// `BadTokenizer` when an id is no number, or a listed token would come to another id than the one it was listed with.
pub(crate) fn add(inner: &mut tokenizers::Tokenizer, dir: &Path, config: &Value, older: bool) -> Result<()> {
    let named = named(config, older);
    for (path, id, token) in listed(dir, config, &named)? {
        let content = token.content.clone();
        inner.add_tokens(&[token]);
        if inner.token_to_id(&content) != Some(id) {
            let is = inner.token_to_id(&content).map_or_else(|| "none".to_owned(), |is| is.to_string());
            return Err(bad(&path, format!("added token `{content}` is listed with id {id} and comes to {is}")));
        }
    }
    for token in named {
        if !inner.get_added_tokens_decoder().values().any(|known| known.content == token.content) {
            inner.add_tokens(&[token]);
        }
    }
    Ok(())
}

/// Listed tokens in the order of their ids, each with the file that lists it.
fn listed(dir: &Path, config: &Value, named: &[AddedToken]) -> Result<Vec<(std::path::PathBuf, u32, AddedToken)>> {
    let mut found = Vec::new();
    let id_of = |path: &Path, id: Option<u64>| {
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| bad(path, "the id of an added token is no number"))
    };
    if let Some(decoder) = config["added_tokens_decoder"].as_object() {
        let path = dir.join("tokenizer_config.json");
        for (id, token) in decoder {
            let id = id_of(&path, id.parse().ok())?;
            let content = content(token).ok_or_else(|| bad(&path, format!("added token {id} has no content")))?;
            let special = token["special"].as_bool().unwrap_or(false);
            let special = special || named.iter().any(|named| named.content == content);
            found.push((path.clone(), id, with_flags(content, token, special)));
        }
    } else {
        let path = dir.join("added_tokens.json");
        for (content, id) in optional_json(&path)?.as_object().into_iter().flatten() {
            let id = id_of(&path, id.as_u64())?;
            let special = named.iter().any(|token| token.content == *content);
            found.push((path.clone(), id, AddedToken::from(content, special)));
        }
    }
    found.sort_by_key(|(_, id, _)| *id);
    Ok(found)
}

/// Special tokens that the settings name, with GPT-2's own defaults in the older form.
fn named(config: &Value, older: bool) -> Vec<AddedToken> {
    let mut found: Vec<AddedToken> = Vec::new();
    let mut add = |token: AddedToken| {
        if !found.iter().any(|known| known.content == token.content) {
            found.push(token);
        }
    };
    for key in NAMED {
        match content(&config[key]) {
            Some(text) => add(with_flags(text, &config[key], true)),
            None if older && FILLED.contains(&key) => add(AddedToken::from(END_OF_TEXT, true)),
            None => {}
        }
    }
    // `extra_special_tokens` may also be an object, each token under the name that a template has for it.
    let named = config["extra_special_tokens"].as_object().into_iter().flat_map(|tokens| tokens.values());
    for token in LISTS.iter().filter_map(|key| config[*key].as_array()).flatten().chain(named) {
        if let Some(text) = content(token) {
            add(with_flags(text, token, true));
        }
    }
    found
}

/// A token with the flags of its object; a plain string has none, and then special tokens alone skip normalising.
fn with_flags(content: &str, object: &Value, special: bool) -> AddedToken {
    let flag = |key: &str| object[key].as_bool();
    let token = AddedToken::from(content, special)
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .single_word(flag("single_word").unwrap_or(false));
    match flag("normalized") {
        Some(normalized) => token.normalized(normalized),
        None => token,
    }
}

/// A JSON file that need not be there; null then.
pub(crate) fn optional_json(path: &Path) -> Result<Value> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = read_to_string(path)?;
    serde_json::from_str(&text).map_err(|e| bad(path, not_json(&text, e)))
}

/// A tokenizer file that cannot be used.
pub(crate) fn bad(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::BadTokenizer { path: path.to_owned(), why: why.to_string() }
}
