//! Tokenizers that a version of transformers rebuilds from the class, leaving out parts of `tokenizer.json`.
//! docs/FILES.md has the rule: where both versions agree, theirs; otherwise `tokenizer.json`, with a warning.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::Result;
use crate::added::{bad, content, optional_json};
use crate::library::guarded;
use crate::parts::{Covered, Flags, Parts};
use crate::sources::{GEMMA, GPT2, LLAMA, MODEL_CONFIG, NEOX, QWEN2, ROBERTA, TOKENIZER_CONFIG, class_of};

/// Qwen2's way to take a text apart.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Classes that transformers 5 rebuilds.
const KNOWN: [&str; 5] = [GPT2, QWEN2, LLAMA, GEMMA, NEOX];
/// Further classes that transformers 5 rebuilds, in a way that is not known here.
const OTHERS: [&str; 12] = [
    "AlbertTokenizer",
    "BertTokenizer",
    "CamembertTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "DebertaV2Tokenizer",
    "Qwen3_5Tokenizer",
    ROBERTA,
    "T5Tokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
];
/// Texts that show a difference, shortest first; `|` stands for a special token.
const SHOWN: [&str; 12] =
    ["12", "2024", " a", "a b", "a", "don't", "caf\u{65}\u{301}", "a  b", "a\n\nb", "(a)!!", "a|b", "a| b 1234 c|\n"];

/// Puts into `inner`, which is the tokenizer of `tokenizer.json`, what both versions of transformers make of it. Where
/// they differ it stays, and the result says what a version does otherwise.
///
/// # Errors
/// `BadTokenizer` where both versions differ from `tokenizer.json` and from one another.
pub(crate) fn settle(inner: &mut Tokenizer, dir: &Path, config: &Value) -> Result<Option<String>> {
    let class = class_in_version_5(inner, dir)?.unwrap_or_default();
    if OTHERS.contains(&class) {
        return Ok(Some(format!(
            "transformers 5 rebuilds tokenizers of class `{class}` in a way that irepair does not know: it follows \
             tokenizer.json, as transformers 4 does"
        )));
    }
    let (covered, stored) = (Covered::of(inner), Parts::of(inner));
    let (four, five) = (in_version_4(dir, config, &stored), parts_of(class, config));
    let same = |a: &Parts, b: &Parts| a.settled(covered) == b.settled(covered);
    let (four_differs, five_differs) = (
        four.as_ref().is_some_and(|four| !same(four, &stored)),
        five.as_ref().is_some_and(|five| !same(five, &stored)),
    );
    let path = dir.join(TOKENIZER_CONFIG);
    match (four.filter(|_| four_differs), five.filter(|_| five_differs)) {
        (None, None) => Ok(left_out(inner, config, class)),
        (Some(four), Some(five)) if same(&four, &five) => {
            five.put_into(inner).map_err(|why| bad(&path, why))?;
            Ok(left_out(inner, config, class))
        }
        (Some(_), Some(_)) => {
            let why = "add_prefix_space is given: transformers 4 rebuilds the tokenizer from tokenizer.model, transformers 5 \
                       from the class, and they differ; take it out, and tokenizer.json is followed";
            Err(bad(&path, why.to_owned()))
        }
        (Some(four), None) => Ok(Some(format!(
            "transformers 4 rebuilds the tokenizer from tokenizer.model, because add_prefix_space is given; irepair \
             follows tokenizer.json, as transformers 5 does{}",
            shown(inner, &four, config)
        ))),
        (None, Some(five)) => {
            // Without tokenizer.model it has nothing to convert.
            let is_unread = class_of(config) == LLAMA && config["add_prefix_space"].is_boolean() && !has_model(dir);
            let four =
                if is_unread { "; transformers 4 does not load the directory" } else { ", as transformers 4 does" };
            Ok(Some(format!(
                "transformers 5 rebuilds tokenizers of class `{class}` and leaves out parts of tokenizer.json; irepair \
                 follows that file{four}{}",
                shown(inner, &five, config)
            )))
        }
    }
}

/// Puts Qwen2's parts into a tokenizer of `vocab.json` and `merges.txt`, which has GPT-2's, where both versions of
/// transformers take the files for Qwen2's.
///
/// # Errors
/// `BadTokenizer` where a settings file is no JSON; `File`.
pub(crate) fn settle_older(inner: &mut Tokenizer, dir: &Path, config: &Value) -> Result<()> {
    let is_qwen2 = class_of(config) == QWEN2 && class_in_version_5(inner, dir)? == Some(QWEN2);
    let parts = parts_of(QWEN2, config).filter(|_| is_qwen2);
    parts.map_or(Ok(()), |parts| parts.put_into(inner).map_err(|why| bad(&dir.join("vocab.json"), why)))
}

/// An added token of `tokenizer.json` alone, which transformers 5 leaves out where it rebuilds the class and the
/// settings list added tokens themselves.
fn left_out(inner: &Tokenizer, config: &Value, class: &str) -> Option<String> {
    let listed = config["added_tokens_decoder"].as_object().filter(|_| parts_of(class, config).is_some())?;
    let is_known = |token: &str| {
        listed.values().any(|listed| content(listed) == Some(token))
            || config.as_object().into_iter().flatten().any(|(key, value)| {
                key.ends_with("_token") && content(value) == Some(token)
                    || key.ends_with("special_tokens") && value.to_string().contains(&json!(token).to_string())
            })
    };
    let mut added: Vec<_> = inner.get_added_tokens_decoder().into_iter().collect();
    added.sort_by_key(|(id, _)| *id);
    let (_, token) = added.into_iter().find(|(_, token)| !is_known(&token.content))?;
    Some(format!(
        "transformers 5 rebuilds tokenizers of class `{class}` with the added tokens of tokenizer_config.json, which lacks \
         `{}`; irepair adds those of tokenizer.json too, as transformers 4 does",
        token.content
    ))
}

/// A text whose ids are others, as the end of a message; empty where none of a few short ones has others.
fn shown(inner: &Tokenizer, parts: &Parts, config: &Value) -> String {
    let mut other = inner.clone();
    if parts.put_into(&mut other).is_err() {
        return String::new();
    }
    let special = content(&config["eos_token"]).unwrap_or_default();
    let ids =
        |tokenizer: &Tokenizer, text: &str| guarded(|| Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec())).ok();
    let differs = |text: &String| {
        let (ours, theirs) = (ids(inner, text)?, ids(&other, text)?);
        (ours != theirs).then(|| format!(": {text:?} has the tokens {ours:?} here and {theirs:?} there"))
    };
    SHOWN.iter().map(|text| text.replace('|', special)).find_map(|text| differs(&text)).unwrap_or_default()
}

/// The class that transformers 5 rebuilds; none where it reads `tokenizer.json` as it is.
///
/// # Errors
/// `BadTokenizer` where a settings file is no JSON; `File`.
pub(crate) fn class_in_version_5(inner: &Tokenizer, dir: &Path) -> Result<Option<&'static str>> {
    let model = optional_json(&dir.join(MODEL_CONFIG))?;
    let given = optional_json(&dir.join(TOKENIZER_CONFIG))?;
    let named = given["tokenizer_class"].as_str().or(model["tokenizer_class"].as_str());
    let named = named.map(|name| name.strip_suffix("Fast").unwrap_or(name));
    let of_type = match model["model_type"].as_str().unwrap_or_default() {
        "gpt2" | "gpt_neo" => Some(GPT2),
        "qwen2" | "qwen3" => Some(QWEN2),
        "gemma2" | "gemma3" | "gemma3_text" => Some(GEMMA),
        "gpt_neox" => Some(NEOX),
        "roberta" => Some(ROBERTA),
        // Whatever class is named.
        "olmo2" | "mistral" | "phi3" => return Ok(None),
        _ => None,
    };
    let class = match named {
        // Its settings are known to name a wrong class.
        Some(_) if model["model_type"] == "qwen2" => of_type,
        Some(LLAMA) if has_byte_level(inner) => None,
        Some(named) => Some(named),
        None => of_type,
    };
    Ok(class.and_then(|class| KNOWN.iter().chain(&OTHERS).find(|known| **known == class)).copied())
}

/// Whether the word stands anywhere in `tokenizer.json`.
fn has_byte_level(inner: &Tokenizer) -> bool {
    let Parts { normalizer, pre_tokenizer, decoder, .. } = Parts::of(inner);
    let last = serde_json::to_value(inner.get_post_processor()).unwrap_or_default();
    let is_part =
        [normalizer, pre_tokenizer, decoder, last].iter().any(|part| part.to_string().contains("\"ByteLevel\""));
    is_part || inner.token_to_id("ByteLevel").is_some()
}

/// What transformers 5 makes of a class.
fn parts_of(class: &str, config: &Value) -> Option<Parts> {
    let given = config["add_prefix_space"].as_bool();
    let byte_level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let bytes = |normalizer: Value, pre_tokenizer: Value| Parts {
        normalizer,
        pre_tokenizer,
        decoder: byte_level(true, true),
        model: Flags::NONE,
    };
    let nfc = json!({"type": "NFC"});
    let prefix = given.unwrap_or(false);
    Some(match class {
        GPT2 => bytes(Value::Null, byte_level(prefix, true)),
        NEOX => bytes(nfc, byte_level(prefix, true)),
        QWEN2 => {
            let words =
                json!({"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false});
            bytes(nfc, json!({"type": "Sequence", "pretokenizers": [words, byte_level(prefix, false)]}))
        }
        LLAMA => {
            let prefix = given.unwrap_or(true);
            let scheme = match (prefix, &config["legacy"]) {
                (false, _) => "never",
                (true, Value::Bool(true)) => "always",
                (true, _) => "first",
            };
            pieces(Value::Null, metaspace(scheme), prefix, None)
        }
        GEMMA => {
            let split =
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
            let unknown = content(&config["unk_token"]).unwrap_or("<unk>");
            pieces(spaces(), split, false, Some(unknown.to_owned()))
        }
        _ => return None,
    })
}

/// What transformers 4 makes of Llama's class where `add_prefix_space` is given: its converter, run on
/// `tokenizer.model`. None where it reads `tokenizer.json` as it is, or cannot load the directory.
fn in_version_4(dir: &Path, config: &Value, stored: &Parts) -> Option<Parts> {
    let prefix = config["add_prefix_space"].as_bool().filter(|_| class_of(config) == LLAMA)?;
    if !has_model(dir) {
        return None;
    }
    let (normalizer, pre_tokenizer) = match config["legacy"].as_bool().unwrap_or(true) {
        true if prefix => {
            let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
            (json!({"type": "Sequence", "normalizers": [prepend, spaces()]}), Value::Null)
        }
        true => (spaces(), Value::Null),
        false => (Value::Null, metaspace(if prefix { "first" } else { "never" })),
    };
    Some(pieces(normalizer, pre_tokenizer, prefix, stored.model.unk_token.clone()))
}

fn has_model(dir: &Path) -> bool {
    dir.join("tokenizer.model").exists()
}

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false})
}

fn spaces() -> Value {
    json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"})
}

/// A tokenizer of SentencePiece's kind.
fn pieces(normalizer: Value, pre_tokenizer: Value, strips: bool, unk_token: Option<String>) -> Parts {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if strips {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Parts {
        normalizer,
        pre_tokenizer,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: Flags { unk_token, fuse_unk: true, byte_fallback: true, ..Flags::NONE },
    }
}
