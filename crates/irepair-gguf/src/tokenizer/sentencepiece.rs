//! SentencePiece as llama.cpp runs it: characters merge into the token of the highest score, the leftmost first; the
//! rest becomes bytes.
//!
//! As BPE: every way to make a token of two is a merge, ranked by the token's score. Where a token can be made of two
//! in several ways, the one with the longest left part comes first, as in transformers' conversion; in llama.cpp the
//! leftmost would come first. Files in which ranks could not be those of llama.cpp are refused.

use std::cmp::Reverse;
use std::collections::HashMap;

use irepair_core::printable;
use serde_json::{Value as Json, json};

use super::{CONTROL, Parts, TOKENS, UNKNOWN, USER_DEFINED};
use crate::file::GgufFile;
use crate::value::Value;
use crate::{Error, Result};

const SCORES: &str = "tokenizer.ggml.scores";
/// Stands for a space.
const SPACE: char = '\u{2581}';
/// Longest token in bytes: SentencePiece's own limit is 16 characters, runs of spaces are longer.
const MAX_TOKEN: usize = 256;
/// Keys that are understood, besides the ids of tokens with a role.
const KNOWN: &str = "model pre tokens token_type scores merges add_bos_token add_eos_token add_sep_token \
    add_space_prefix precompiled_charsmap remove_extra_whitespaces";

/// What a file says of its SentencePiece rules.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// A space begins every text and what follows a special token.
    prefix: bool,
}

impl SentencePiece {
    /// Reads the rules.
    ///
    /// # Errors
    /// `Metadata` for rules that llama.cpp does not follow, or that are not known.
    pub(super) fn of(file: &GgufFile) -> Result<Self> {
        let known = |key: &str| {
            key.strip_prefix("tokenizer.ggml.")
                .is_none_or(|rest| rest.ends_with("_token_id") || KNOWN.split_whitespace().any(|known| known == rest))
        };
        if let Some(key) = file.metadata().keys().find(|key| !known(key)) {
            return Err(file.refuse(key, "no such key: it may change the token ids"));
        }
        let pre = "tokenizer.ggml.pre";
        if file.optional_text(pre)?.is_some_and(|name| name != "default") {
            return Err(file.refuse(pre, "`default`"));
        }
        for key in ["tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.remove_extra_whitespaces"] {
            match file.metadata().get(key) {
                None | Some(Value::Bool(false)) => {}
                Some(Value::Integers(list)) if list.is_empty() => {}
                Some(_) => return Err(file.refuse(key, "none: texts are not normalised")),
            }
        }
        Ok(Self { prefix: file.optional_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) })
    }

    /// What `tokenizer.json` says of the rules.
    pub(super) fn parts(&self) -> Parts {
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let space = SPACE.to_string();
        let mark = replace(" ", &space);
        let normalizer = match self.prefix {
            true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": space}, mark]}),
            false => mark,
        };
        let mut decoders = vec![replace(&space, " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
        if self.prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Parts { normalizer, pre_tokenizer: Json::Null, decoder: json!({"type": "Sequence", "decoders": decoders}) }
    }
}

/// True where white space after the special token `content` belongs to it: llama.cpp knows the models by their name.
pub(super) fn strips(file: &GgufFile, content: &str) -> bool {
    let name = file.optional_text("general.name").ok().flatten().unwrap_or_default().to_ascii_lowercase();
    (name.contains("phi-3") || name.contains("phi3")) && !["<unk>", "<s>", "<|endoftext|>"].contains(&content)
}

/// Every merge of two tokens into a third, the first to be made first.
///
/// # Errors
/// `Metadata` when the tokens are not such that these merges are llama.cpp's.
pub(super) fn merges<'a>(
    file: &GgufFile,
    tokens: &'a [String],
    types: &[i64],
    ids: &HashMap<&'a str, usize>,
) -> Result<Vec<(&'a str, &'a str)>> {
    let scores = match file.metadata().get(SCORES) {
        Some(Value::Floats(scores)) if scores.len() == tokens.len() && scores.iter().all(|x| !x.is_nan()) => scores,
        _ => return Err(file.refuse(SCORES, format!("a list of {} floats", tokens.len()))),
    };
    let refuse = |want: &str, got: &str| Error::Metadata {
        path: file.path().to_owned(),
        key: TOKENS.to_owned(),
        want: want.to_owned(),
        got: format!("`{}`", printable(got)),
    };
    if let Some(byte) = (0..=255u8).find(|byte| !ids.contains_key(format!("<0x{byte:02X}>").as_str())) {
        return Err(refuse("a token for every byte", &format!("no <0x{byte:02X}>")));
    }
    let alone = |text: &str| text.chars().nth(1).is_none();
    let mut made = Vec::new();
    let mut ranks: HashMap<u32, &str> = HashMap::new();
    for ((token, score), kind) in tokens.iter().zip(scores).zip(types) {
        if token.len() > MAX_TOKEN {
            return Err(refuse("tokens of up to 256 bytes", token));
        }
        // Such a token is cut out of a text before merging, unless a space is written in another way in it.
        if [UNKNOWN, CONTROL, USER_DEFINED].contains(kind) && !token.contains(SPACE) {
            continue;
        }
        let before = made.len();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            match (ids.contains_key(left), ids.contains_key(right)) {
                (true, true) => made.push((*score, left, right)),
                // llama.cpp would merge a character that is no token.
                (true, false) if alone(right) => return Err(refuse("a token for every character of a token", token)),
                (false, true) if alone(left) => return Err(refuse("a token for every character of a token", token)),
                (false, false) if alone(left) && alone(right) => {
                    return Err(refuse("a token for every character of a token", token));
                }
                _ => {}
            }
        }
        if made.len() > before
            && let Some(other) = ranks.insert((score + 0.0).to_bits(), token)
        {
            let both = format!("{other}` and `{token}");
            return Err(refuse("different scores for tokens that merges make", &both));
        }
    }
    let n_chars = |text: &str| text.chars().count();
    made.sort_by(|(a, a_left, a_right), (b, b_left, b_right)| {
        b.total_cmp(a).then_with(|| {
            Reverse((n_chars(a_left), n_chars(a_right))).cmp(&Reverse((n_chars(b_left), n_chars(b_right))))
        })
    });
    Ok(made.into_iter().map(|(_, left, right)| (left, right)).collect())
}
