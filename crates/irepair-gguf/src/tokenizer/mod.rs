//! The tokenizer of a GGUF file as `tokenizer.json` and `tokenizer_config.json`: byte-level BPE or SentencePiece.

mod byte_level;
mod sentencepiece;

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use self::byte_level::Pre;
use self::sentencepiece::SentencePiece;
use crate::Result;
use crate::file::GgufFile;
use crate::value::Value;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const TEMPLATE: &str = "tokenizer.chat_template";

/// Token types of the format.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// How texts become words and words become tokens.
#[derive(Debug)]
enum Rules {
    ByteLevel(&'static Pre),
    SentencePiece(SentencePiece),
}

/// The parts of `tokenizer.json` that depend on the rules alone.
struct Parts {
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
}

/// A token that is found in texts before they are cut into words.
#[derive(Debug, Serialize)]
struct AddedToken<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    /// White space after it belongs to it.
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// The tokenizer of a file, checked.
#[derive(Debug)]
pub(crate) struct Tokenizer<'a> {
    rules: Rules,
    /// Tokens in use: text and id.
    vocab: Vec<(&'a str, usize)>,
    merges: Vec<(&'a str, &'a str)>,
    added: Vec<AddedToken<'a>>,
    /// Token ids by the name of their role.
    roles: Vec<(&'static str, usize, &'a str)>,
    /// Ids that end a text, the first of them the end-of-text token.
    pub(crate) ends: Vec<usize>,
    pub(crate) adds_bos: bool,
    adds_eos: bool,
    pub(crate) template: Option<&'a str>,
    n_positions: usize,
}

impl<'a> Tokenizer<'a> {
    /// Reads the tokenizer of a model with `n_vocab` embedding rows and `n_positions` positions.
    ///
    /// # Errors
    /// `Metadata` when it is of no known kind, or does not fit together.
    pub(crate) fn of(file: &'a GgufFile, n_vocab: usize, n_positions: usize) -> Result<Self> {
        let rules = match file.optional_text(MODEL)? {
            Some("gpt2") => Rules::ByteLevel(byte_level::pre(file)?),
            Some("llama") => Rules::SentencePiece(SentencePiece::of(file)?),
            _ => return Err(file.refuse(MODEL, "`gpt2` (byte-level BPE) or `llama` (SentencePiece)")),
        };
        let tokens = file.texts(TOKENS)?;
        if tokens.is_empty() || tokens.len() > n_vocab {
            return Err(file.refuse(TOKENS, format!("1 to {n_vocab} tokens, one for each row of the embedding")));
        }
        let types = match file.metadata().get(TYPES) {
            Some(Value::Integers(types)) if types.len() == tokens.len() => types,
            _ => return Err(file.refuse(TYPES, format!("a list of {} integers", tokens.len()))),
        };
        // Rows of the embedding without a token are listed as unused. Of SentencePiece's, merges can lead to one.
        let keeps_unused = matches!(rules, Rules::SentencePiece(_));
        let used = || tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| keeps_unused || **kind != UNUSED);
        let vocab: Vec<(&str, usize)> = used().map(|(id, (text, _))| (text.as_str(), id)).collect();
        let mut ids = HashMap::with_capacity(vocab.len());
        for (text, id) in &vocab {
            if text.is_empty() {
                return Err(file.refuse(TOKENS, format!("a text for token {id}")));
            }
            if let Some(other) = ids.insert(*text, *id) {
                return Err(file.refuse(TOKENS, format!("different texts for tokens {other} and {id}")));
            }
        }
        let added = used()
            .filter(|(_, (_, kind))| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .map(|(id, (content, kind))| {
                let special = *kind != USER_DEFINED;
                let rstrip = matches!(rules, Rules::SentencePiece(_)) && sentencepiece::strips(file, content);
                AddedToken { id, content, single_word: false, lstrip: false, rstrip, normalized: false, special }
            })
            .collect();
        let (merges, adds_bos) = match &rules {
            Rules::ByteLevel(pre) => (byte_level::merges(file, &ids)?, pre.adds_bos),
            Rules::SentencePiece(_) => (sentencepiece::merges(file, tokens, types, &ids)?, true),
        };
        let mut tokenizer = Self {
            rules,
            merges,
            vocab,
            added,
            roles: Vec::new(),
            ends: Vec::new(),
            adds_bos: file.optional_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos),
            adds_eos: file.optional_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            template: file.optional_text(TEMPLATE)?,
            n_positions,
        };
        tokenizer.find_roles(file, tokens)?;
        Ok(tokenizer)
    }

    /// Finds the tokens with a role, and those that end a text.
    fn find_roles(&mut self, file: &GgufFile, tokens: &'a [String]) -> Result<()> {
        let of = |role: &str| token_of(file, tokens, &format!("tokenizer.ggml.{role}_token_id"));
        for (name, role) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
            if let Some((id, text)) = of(role)? {
                self.roles.push((name, id, text));
            }
        }
        if self.role("eos").is_none() {
            return Err(file.refuse("tokenizer.ggml.eos_token_id", "the token that ends a text"));
        }
        if self.adds_bos && self.role("bos").is_none() {
            return Err(file.refuse("tokenizer.ggml.bos_token_id", "the token that is added before every text"));
        }
        for role in ["eos", "eot", "eom"] {
            if let Some((id, _)) = of(role)?
                && !self.ends.contains(&id)
            {
                self.ends.push(id);
            }
        }
        Ok(())
    }

    fn role(&self, name: &str) -> Option<(usize, &'a str)> {
        self.roles.iter().find(|(known, ..)| *known == name).map(|(_, id, text)| (*id, *text))
    }

    /// Tokens in use.
    pub(crate) fn n_tokens(&self) -> usize {
        self.vocab.len()
    }

    /// Name of the rule that cuts texts into words.
    pub(crate) fn pre_name(&self) -> &'static str {
        match &self.rules {
            Rules::ByteLevel(pre) => pre.name,
            Rules::SentencePiece(_) => "sentencepiece",
        }
    }

    /// Special token ids, as `config.json` and `generation_config.json` have them.
    pub(crate) fn ids(&self) -> Map<String, Json> {
        let of = |name| self.role(name).map(|(id, _)| id);
        let ends = if let [only] = self.ends[..] { json!(only) } else { json!(self.ends) };
        let ids = [("bos_token_id", json!(of("bos"))), ("eos_token_id", ends), ("pad_token_id", json!(of("pad")))];
        ids.into_iter().map(|(key, id)| (key.to_owned(), id)).collect()
    }

    /// `tokenizer.json`, as the tokenizers library reads it.
    pub(crate) fn json(&self) -> Json {
        let vocab: Map<String, Json> = self.vocab.iter().map(|(text, id)| ((*text).to_owned(), json!(id))).collect();
        let (parts, sentencepiece) = match &self.rules {
            Rules::ByteLevel(pre) => (byte_level::parts(pre), false),
            Rules::SentencePiece(rules) => (rules.parts(), true),
        };
        let ignore_merges = matches!(&self.rules, Rules::ByteLevel(pre) if pre.ignore_merges);
        let unknown = self.role("unk").filter(|_| sentencepiece).map(|(_, text)| text);
        // In the order in which the library writes it.
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added,
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": self.template_of_ends(),
            "decoder": parts.decoder,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": unknown,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": sentencepiece,
                "byte_fallback": sentencepiece,
                "ignore_merges": ignore_merges,
                "vocab": vocab,
                "merges": self.merges,
            },
        })
    }

    /// The post-processor that adds tokens before and after a text; null where none are added.
    fn template_of_ends(&self) -> Json {
        let before = self.role("bos").filter(|_| self.adds_bos);
        let after = self.role("eos").filter(|_| self.adds_eos);
        if before.is_none() && after.is_none() {
            return Json::Null;
        }
        let segment = |name: &str, type_id: u8| {
            let special = |token: Option<(usize, &str)>| {
                token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": type_id}}))
            };
            let text = json!({"Sequence": {"id": name, "type_id": type_id}});
            [special(before), Some(text), special(after)].into_iter().flatten().collect::<Vec<Json>>()
        };
        let tokens: Map<String, Json> = [before, after]
            .into_iter()
            .flatten()
            .map(|(id, text)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .collect();
        let pair = [segment("A", 0), segment("B", 1)].concat();
        json!({"type": "TemplateProcessing", "single": segment("A", 0), "pair": pair, "special_tokens": tokens})
    }

    /// `tokenizer_config.json`.
    pub(crate) fn config(&self) -> Json {
        let added = self.added.iter().map(|token| {
            let mut flags = json!(token);
            flags.as_object_mut().and_then(|flags| flags.remove("id"));
            (token.id.to_string(), flags)
        });
        let mut config = json!({
            "add_bos_token": self.adds_bos,
            "add_eos_token": self.adds_eos,
            "added_tokens_decoder": added.collect::<Map<String, Json>>(),
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.n_positions,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        if matches!(self.rules, Rules::ByteLevel(_)) {
            config["add_prefix_space"] = json!(false);
        }
        for (name, _, text) in &self.roles {
            config[format!("{name}_token")] = json!(text);
        }
        if let Some(template) = self.template {
            config["chat_template"] = json!(template);
        }
        config
    }
}

/// Id and text of the token that `key` names, if it is given.
fn token_of<'a>(file: &GgufFile, tokens: &'a [String], key: &str) -> Result<Option<(usize, &'a str)>> {
    match file.metadata().get(key) {
        None => Ok(None),
        Some(Value::Integer(id)) => match usize::try_from(*id).ok().and_then(|id| Some((id, tokens.get(id)?))) {
            Some((id, text)) => Ok(Some((id, text))),
            None => Err(file.refuse(key, format!("an id below {}", tokens.len()))),
        },
        Some(_) => Err(file.refuse(key, "an id")),
    }
}
