//! The files of a model directory that decide leading space, end-of-text token and end of generation (docs/FILES.md).

use std::path::Path;

use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;

use crate::added::{bad, content, optional_json};
use crate::generation::listed_ends;
use crate::library::guarded;
use crate::read::END_OF_TEXT;
use crate::rebuilt::class_in_version_5;
use crate::{Error, Result};

pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
pub(crate) const MODEL_CONFIG: &str = "config.json";
pub(crate) const GPT2: &str = "GPT2Tokenizer";
pub(crate) const QWEN2: &str = "Qwen2Tokenizer";
pub(crate) const ROBERTA: &str = "RobertaTokenizer";
pub(crate) const LLAMA: &str = "LlamaTokenizer";
pub(crate) const GEMMA: &str = "GemmaTokenizer";
pub(crate) const NEOX: &str = "GPTNeoXTokenizer";

/// Sets `add_prefix_space` of a byte-level tokenizer as transformers does; true when that differs from
/// `tokenizer.json`.
///
/// Transformers 4 takes it from `tokenizer_config.json`, false when it is not there, whatever `tokenizer.json` says;
/// transformers 5 does so for the classes that it rebuilds. Where ByteLevel stands in a series with other parts, see
/// [`crate::rebuilt`].
///
/// # Errors
/// `BadTokenizer` when transformers 4 and 5 would give other ids.
pub(crate) fn settle_prefix_space(inner: &mut tokenizers::Tokenizer, dir: &Path, config: &Value) -> Result<bool> {
    let Some(PreTokenizerWrapper::ByteLevel(mut stored)) = inner.get_pre_tokenizer().cloned() else { return Ok(false) };
    let given = config["add_prefix_space"].as_bool();
    let in_version_4 = match class_of(config) {
        GPT2 | ROBERTA | QWEN2 | NEOX | GEMMA | "PreTrainedTokenizer" => given.unwrap_or(false),
        // The class is of version 5 alone.
        "TokenizersBackend" => stored.add_prefix_space,
        _ => given.unwrap_or(stored.add_prefix_space),
    };
    let in_version_5 = match class_in_version_5(inner, dir)? {
        Some(GPT2 | ROBERTA | QWEN2 | NEOX) => given.unwrap_or(false),
        _ => stored.add_prefix_space,
    };
    if in_version_4 != in_version_5 {
        let why = format!(
            "add_prefix_space is {in_version_4} here and {in_version_5} in tokenizer.json: transformers 4 follows this file \
             and transformers 5 the other; give both the same value"
        );
        return Err(bad(&dir.join(TOKENIZER_CONFIG), why));
    }
    let changes = stored.add_prefix_space != in_version_4;
    stored.add_prefix_space = in_version_4;
    inner.with_pre_tokenizer(Some(stored));
    Ok(changes)
}

/// Class that transformers gives the tokenizer, without `Fast`; empty where neither the settings nor the model's type
/// says it.
pub(crate) fn class_of(config: &Value) -> &str {
    config["tokenizer_class"].as_str().unwrap_or_default().trim_end_matches("Fast")
}

/// The token that transformers 5 puts before every text: the one that the post-processor of `tokenizer.json` puts
/// there. Transformers 4 does the same but for the classes of Llama and Gemma, which follow `add_bos_token`, true when
/// it is not given, and class `GPTNeoXTokenizer`, which puts none there; version 5 neither, but for some model types.
///
/// # Errors
/// `BadTokenizer` when transformers 4 and 5 would differ, and when there are several such tokens.
pub(crate) fn begin_of(inner: &tokenizers::Tokenizer, dir: &Path, config: &Value) -> Result<Option<u32>> {
    let path = dir.join(TOKENIZER_CONFIG);
    if config["split_special_tokens"] == true {
        let why = "split_special_tokens is true: special tokens inside a text would be taken apart; irepair reads them as one \
                   token each";
        return Err(bad(&path, why.to_owned()));
    }
    let encoded = guarded(|| inner.encode("a", true)).map_err(|why| bad(&path, why))?;
    let special = encoded.get_special_tokens_mask();
    let n = special.iter().take_while(|&&special| special == 1).count();
    if special.iter().filter(|&&special| special == 1).count() > n
        || [LLAMA, GEMMA, NEOX].contains(&class_of(config)) && config["add_eos_token"] == true
    {
        let why = "a token comes after every text; irepair adds one only where `--append-eos` asks for it: take it out of \
                   post_processor and add_eos_token";
        return Err(bad(&dir.join("tokenizer.json"), why.to_owned()));
    }
    let ids = &encoded.get_ids()[..n];
    if n > 1 {
        return Err(bad(
            &dir.join("tokenizer.json"),
            format!("{n} tokens come before every text; irepair handles one"),
        ));
    }
    if let Some(id) = ids.first().filter(|id| inner.id_to_token(**id).is_none()) {
        return Err(bad(
            &dir.join("tokenizer.json"),
            format!("the token before every text has id {id}, not in the vocabulary"),
        ));
    }
    if class_of(config) == NEOX {
        if config["add_bos_token"] == true {
            let why = "add_bos_token is true: for this class transformers 4 follows it and transformers 5 does not; take it out";
            return Err(bad(&path, why.to_owned()));
        }
        if n == 1 && class_in_version_5(inner, dir)? != Some(NEOX) {
            let why = "tokenizer.json puts a token before texts: transformers 4 does not for this class, transformers 5 does for \
                       this model_type; take it out of post_processor";
            return Err(bad(&path, why.to_owned()));
        }
        // Both versions put a post-processor of their own in the place of this one, without a token.
        return Ok(None);
    }
    let in_version_4 = config["add_bos_token"].as_bool().unwrap_or(true);
    if [LLAMA, GEMMA].contains(&class_of(config)) && in_version_4 != (n == 1) {
        let why = format!(
            "add_bos_token is {in_version_4} here, and tokenizer.json puts {} before texts: transformers 4 follows this file \
             and transformers 5 the other; make the two agree",
            if n == 1 { "a token" } else { "no token" }
        );
        return Err(bad(&path, why));
    }
    Ok(ids.first().copied())
}

/// The end-of-text token: `eos_token` of the tokenizer's settings, `eos_token_id` of `config.json`, the same of
/// `generation_config.json`, the token `<|endoftext|>`; the first of these that is given.
pub(crate) fn eos_of(dir: &Path, inner: &tokenizers::Tokenizer, config: &Value) -> Result<u32> {
    if let Some(token) = content(&config["eos_token"]) {
        let unknown = || bad(&dir.join(TOKENIZER_CONFIG), format!("eos_token `{token}` is not in the vocabulary"));
        return inner.token_to_id(token).ok_or_else(unknown);
    }
    for name in [MODEL_CONFIG, GENERATION_CONFIG] {
        let path = dir.join(name);
        // Where several are listed, the first one ends a text.
        if let Some(&id) = listed_ends(&path, &optional_json(&path)?)?.first() {
            let n_tokens = inner.get_vocab_size(true);
            let unknown = || Error::EndNotThere { path: path.clone(), id, n_tokens };
            return inner.id_to_token(id).map(|_| id).ok_or_else(unknown);
        }
    }
    inner.token_to_id(END_OF_TEXT).ok_or_else(|| Error::NoEos { dir: dir.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::Tokenizer;

    /// A directory with a tokenizer of one end token and a second special one, and these files.
    fn directory(stored: bool, files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::train_bpe(&["the mill by the mill"], 280).unwrap().save(dir.path()).unwrap();
        let path = dir.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        json["pre_tokenizer"]["add_prefix_space"] = stored.into();
        fs::write(&path, json.to_string()).unwrap();
        fs::remove_file(dir.path().join(TOKENIZER_CONFIG)).unwrap();
        for (name, value) in files {
            fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        dir
    }

    /// Every combination as transformers 4.57 and 5.24 have it: `AutoTokenizer` of such a directory, compared on
    /// whether `mill` and ` mill` have the same ids. None: the two versions differ.
    #[test]
    fn the_leading_space_is_that_of_both_versions_of_transformers() {
        let (gpt2, generic) = (Some("GPT2TokenizerFast"), Some("PreTrainedTokenizerFast"));
        for (model, class, given, stored, want) in [
            ("gpt2", None, None, false, Some(false)),
            ("gpt2", None, None, true, Some(false)),
            ("gpt_neo", None, Some(false), true, Some(false)),
            ("gpt_neo", None, Some(true), false, Some(true)),
            ("qwen2", None, None, true, Some(false)),
            ("qwen2", None, Some(true), false, Some(true)),
            ("roberta", None, None, true, Some(false)),
            ("roberta", None, Some(true), false, Some(true)),
            ("gpt2", gpt2, None, true, Some(false)),
            ("llama", gpt2, Some(true), false, Some(true)),
            ("llama", gpt2, Some(true), true, Some(true)),
            ("llama", None, None, false, Some(false)),
            ("llama", None, None, true, Some(true)),
            ("gpt2", generic, None, false, Some(false)),
            ("gpt2", generic, Some(false), false, Some(false)),
            ("gpt2", generic, Some(true), true, Some(true)),
            ("gpt2", generic, None, true, None),
            ("gpt2", generic, Some(false), true, None),
            ("gpt2", generic, Some(true), false, None),
        ] {
            let mut config = json!({"eos_token": END_OF_TEXT, "add_bos_token": false});
            class.iter().for_each(|class| config["tokenizer_class"] = json!(class));
            given.iter().for_each(|given| config["add_prefix_space"] = json!(given));
            let dir = directory(stored, &[(MODEL_CONFIG, json!({"model_type": model})), (TOKENIZER_CONFIG, config)]);
            let prefixed = Tokenizer::load(dir.path())
                .map(|tokenizer| tokenizer.encode("mill").unwrap() == tokenizer.encode(" mill").unwrap());
            let case = format!("{model} {class:?} {given:?} {stored}");
            match want {
                Some(want) => assert_eq!(prefixed.unwrap(), want, "{case}"),
                None => assert!(prefixed.unwrap_err().to_string().contains("give both the same value"), "{case}"),
            }
        }
    }

    /// As transformers 4.57 and 5.23 have it: `AutoTokenizer` of such a directory, asked for the ids of a text. None:
    /// the two versions differ.
    #[test]
    fn the_begin_of_text_token_is_that_of_both_versions_of_transformers() {
        let (llama, generic) = (Some("LlamaTokenizerFast"), Some("PreTrainedTokenizerFast"));
        for (model, class, add, stored, want) in [
            ("gpt2", None, None, false, Some(None)),
            ("gpt2", None, Some(true), false, Some(None)),
            ("gpt2", None, Some(false), true, Some(Some(0))),
            ("qwen2", None, None, true, Some(Some(0))),
            ("llama", generic, Some(true), false, Some(None)),
            ("llama", generic, Some(false), true, Some(Some(0))),
            ("llama", llama, None, true, Some(Some(0))),
            ("llama", llama, Some(true), true, Some(Some(0))),
            ("llama", llama, Some(false), false, Some(None)),
            ("llama", None, Some(true), true, Some(Some(0))),
            ("llama", llama, None, false, None),
            ("llama", llama, Some(true), false, None),
            ("llama", llama, Some(false), true, None),
            ("llama", None, None, false, None),
            ("gpt_neox", None, None, true, Some(None)),
            ("llama", Some("GPTNeoXTokenizerFast"), Some(false), true, Some(None)),
            ("gpt_neox", generic, None, true, Some(Some(0))),
            ("gemma2", Some("GemmaTokenizerFast"), None, true, Some(Some(0))),
            ("gemma2", Some("GemmaTokenizerFast"), None, false, None),
            ("gemma2", Some("GemmaTokenizerFast"), Some(false), true, None),
            ("mistral", None, None, false, None),
            ("phi3", None, Some(true), true, Some(Some(0))),
        ] {
            let mut config = json!({"eos_token": END_OF_TEXT});
            class.iter().for_each(|class| config["tokenizer_class"] = json!(class));
            add.iter().for_each(|add| config["add_bos_token"] = json!(add));
            let dir = directory(false, &[(MODEL_CONFIG, json!({"model_type": model})), (TOKENIZER_CONFIG, config)]);
            if stored {
                begin(dir.path(), &[0]);
            }
            let loaded = Tokenizer::load(dir.path());
            let case = format!("{model} {class:?} {add:?} {stored}");
            let Some(want) = want else {
                assert!(loaded.unwrap_err().to_string().contains("make the two agree"), "{case}");
                continue;
            };
            let loaded = loaded.unwrap();
            assert_eq!(loaded.begin_id(), want, "{case}");
            let (piece, text) = (loaded.encode("the mill").unwrap(), loaded.encode_text("the mill").unwrap());
            assert_eq!(text, [want.into_iter().collect(), piece].concat(), "{case}");
            assert_eq!(loaded.encode_texts(&["the mill"]).unwrap(), [text], "{case}");
        }
        let dir = directory(false, &[]);
        begin(dir.path(), &[0, 1]);
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert_eq!(error, "tokenizer file cannot be used: 2 tokens come before every text; irepair handles one");
    }

    #[test]
    fn a_token_after_every_text_is_refused() {
        let ends =
            |dir: &Path| Tokenizer::load(dir).unwrap_err().to_string().contains("a token comes after every text");
        let dir = directory(false, &[]);
        begin(dir.path(), &[0]);
        assert!(Tokenizer::load(dir.path()).is_ok());
        let path = dir.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        json["post_processor"]["single"].as_array_mut().unwrap().reverse();
        fs::write(&path, json.to_string()).unwrap();
        assert!(ends(dir.path()));
        let class = |class: &str| json!({"eos_token": END_OF_TEXT, "tokenizer_class": class, "add_bos_token": false, "add_eos_token": true});
        assert!(ends(directory(false, &[(TOKENIZER_CONFIG, class("LlamaTokenizer"))]).path()));
        assert!(Tokenizer::load(directory(false, &[(TOKENIZER_CONFIG, class("GPT2Tokenizer"))]).path()).is_ok());
    }

    /// Makes the post-processor put these tokens before texts.
    fn begin(dir: &Path, ids: &[u32]) {
        let path = dir.join("tokenizer.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let named: serde_json::Map<String, Value> = ids
            .iter()
            .map(|id| (format!("t{id}"), json!({"id": format!("t{id}"), "ids": [id], "tokens": ["t"]})))
            .collect();
        let before = named.keys().map(|name| json!({"SpecialToken": {"id": name, "type_id": 0}}));
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": before.chain([sequence("A")]).collect::<Vec<_>>(),
            "pair": [sequence("A"), sequence("B")],
            "special_tokens": named,
        });
        fs::write(&path, json.to_string()).unwrap();
    }
}
