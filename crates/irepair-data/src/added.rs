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
/// Settings that list tokens, under their newer and their older name. Where the newer one is a list that holds some,
/// transformers 5 reads no other, and transformers 4 none.
const EXTRA: &str = "extra_special_tokens";
const ADDITIONAL: &str = "additional_special_tokens";

/// `tokenizer_config.json`, overwritten by the older `special_tokens_map.json`. A config that lists every added
/// token itself is newer than that file, which is then ignored. A class that is not given is that of `config.json`, or
/// else of the model's type.
pub(crate) fn settings(dir: &Path) -> Result<Value> {
    let mut config = optional_json(&dir.join("tokenizer_config.json"))?;
    if !config.is_object() {
        config = Value::Object(Map::new());
    }
    refuse_other_files(&dir.join("tokenizer_config.json"), &config)?;
    let path = dir.join("special_tokens_map.json");
    if config.get("added_tokens_decoder").is_none()
        && let Value::Object(map) = optional_json(&path)?
    {
        for (key, value) in map {
            let contents = |list: &Value| -> Vec<String> {
                list.as_array().into_iter().flatten().filter_map(content).map(str::to_owned).collect()
            };
            let (given, other) = (contents(&config[ADDITIONAL]), contents(&value));
            if key == ADDITIONAL && !given.is_empty() && given != other {
                let why = "additional_special_tokens are others in tokenizer_config.json: transformers 4 adds those of \
                           this file and transformers 5 those of the other; make the two agree";
                return Err(bad(&path, why));
            }
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

/// Refuses settings that give transformers another file to read than `tokenizer.json`.
fn refuse_other_files(path: &Path, config: &Value) -> Result<()> {
    let is_other = |name: &&str| name.strip_prefix("tokenizer.").is_some_and(|name| name.ends_with(".json"));
    let mut files = config["fast_tokenizer_files"].as_array().into_iter().flatten().filter_map(Value::as_str);
    files.find(is_other).map_or(Ok(()), |name| {
        let why = format!(
            "fast_tokenizer_files names `{}`, which transformers may read in place of tokenizer.json; take the key \
             out, and put that file in its place where it is the right one",
            irepair_core::printable(name)
        );
        Err(bad(path, why))
    })
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
    let known = inner.get_added_tokens_decoder();
    let unlisted = of_models(config).find(|(_, token)| !known.values().any(|known| known.content == *token));
    unlisted.map_or(Ok(()), |(key, token)| {
        let why = format!(
            "`{}` is `{}`, which no file lists as an added token: transformers 5 adds it and transformers 4 does not; \
             list it in tokenizer.json, or take the key out",
            irepair_core::printable(key),
            irepair_core::printable(token)
        );
        Err(bad(&dir.join("tokenizer_config.json"), why))
    })
}

/// Special tokens of models of some kinds, such as `image_token`: any key may name one.
fn of_models(config: &Value) -> impl Iterator<Item = (&str, &str)> {
    let is_one = |key: &str| key.ends_with("_token") && !NAMED.contains(&key);
    let all = config.as_object().into_iter().flatten().filter(move |(key, _)| is_one(key));
    let more = config["model_specific_special_tokens"].as_object().into_iter().flatten();
    let named = all.chain(more).filter_map(|(key, token)| Some((key.as_str(), content(token)?)));
    named.filter(|(_, token)| !token.is_empty())
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
    let list = |key: &str| config[key].as_array().filter(|tokens| !tokens.is_empty());
    // It may also be an object, each token under the name that a template has for it.
    let named = config[EXTRA].as_object().into_iter().flat_map(|tokens| tokens.values());
    for token in list(EXTRA).or_else(|| list(ADDITIONAL)).into_iter().flatten().chain(named) {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::Tokenizer;

    /// The end-of-text token's directory with these files, and how many tokens `a<u>b<v>c` has there.
    fn n_tokens(files: &[(&str, Value)]) -> Result<usize, String> {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
        for (name, value) in files {
            fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        let tokenizer = Tokenizer::load(dir.path()).map_err(|error| error.to_string())?;
        Ok(tokenizer.encode("a<u>b<v>c").unwrap().len())
    }

    fn config(more: Value) -> (&'static str, Value) {
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("tokenizer_config.json", config)
    }

    /// Numbers of tokens that transformers 5.23 gives.
    #[test]
    fn the_newer_list_of_special_tokens_stands_alone() {
        for (more, want) in [
            (json!({}), 9),
            (json!({"additional_special_tokens": ["<u>"]}), 7),
            (json!({"additional_special_tokens": ["<u>"], "extra_special_tokens": []}), 7),
            (json!({"additional_special_tokens": ["<u>"], "extra_special_tokens": ["<v>"]}), 7),
            (json!({"additional_special_tokens": ["<u>"], "extra_special_tokens": ["<u>", "<v>"]}), 5),
            (json!({"additional_special_tokens": ["<u>"], "extra_special_tokens": {"v_token": "<v>"}}), 5),
        ] {
            assert_eq!(n_tokens(&[config(more.clone())]), Ok(want), "{more}");
        }
    }

    #[test]
    fn two_files_with_other_additional_tokens_are_refused() {
        let map = |tokens: Value| ("special_tokens_map.json", json!({"additional_special_tokens": tokens}));
        let given = || config(json!({"additional_special_tokens": ["<u>"]}));
        assert_eq!(n_tokens(&[given(), map(json!(["<u>"]))]), Ok(7));
        assert_eq!(n_tokens(&[config(json!({})), map(json!(["<v>"]))]), Ok(7));
        let said = n_tokens(&[given(), map(json!(["<v>"]))]).unwrap_err();
        assert!(said.contains("additional_special_tokens are others in tokenizer_config.json"), "{said}");
    }

    #[test]
    fn a_token_of_a_model_is_listed_or_refused() {
        for more in [
            json!({"image_token": "<u>"}),
            json!({"audio_token": {"content": "<u>", "special": true}}),
            json!({"model_specific_special_tokens": {"image_token": "<u>"}}),
        ] {
            let said = n_tokens(&[config(more.clone())]).unwrap_err();
            assert!(said.contains("_token` is `<u>`, which no file lists as an added token"), "{said}");
            let mut listed = more.clone();
            listed["additional_special_tokens"] = json!(["<u>"]);
            assert_eq!(n_tokens(&[config(listed)]), Ok(7), "{more}");
        }
        let unread = json!({"add_bos_token": false, "image_token": null, "boi_token": "", "pad_tokens": ["<u>"]});
        assert_eq!(n_tokens(&[config(unread)]), Ok(9));
    }

    #[test]
    fn a_file_of_another_name_is_refused() {
        let files = |names: Value| n_tokens(&[config(json!({"fast_tokenizer_files": names}))]);
        assert_eq!(files(json!(["tokenizer.json"])), Ok(9));
        let said = files(json!(["tokenizer.json", "tokenizer.4.0.0.json"])).unwrap_err();
        assert!(said.contains("fast_tokenizer_files names `tokenizer.4.0.0.json`"), "{said}");
    }
}
