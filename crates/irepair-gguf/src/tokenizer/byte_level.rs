//! Byte-level BPE: how texts are cut into words, and the stored merges.

use std::collections::HashMap;

use irepair_core::printable;
use serde_json::{Value as Json, json};

use super::Parts;
use crate::file::GgufFile;
use crate::{Error, Result};

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// How a text is cut into words before merging, by the name that the file gives.
#[derive(Debug)]
pub(super) struct Pre {
    pub(super) name: &'static str,
    /// Numbers are split off first, digit by digit.
    digits: bool,
    /// Pattern of a word; none for GPT-2's own.
    words: Option<&'static str>,
    /// A word that is a token is taken whole, even if the merges do not lead to it.
    pub(super) ignore_merges: bool,
    /// Texts are first normalised to Unicode's composed form.
    composes: bool,
    /// Whether a begin-of-text token is added when the file has no such setting.
    pub(super) adds_bos: bool,
}

/// The patterns are those that the models' publishers ship.
const GPT2: Pre =
    Pre { name: "gpt-2", digits: false, words: None, ignore_merges: false, composes: false, adds_bos: false };
const PRES: [Pre; 4] = [
    GPT2,
    Pre { name: "smollm", digits: true, ..GPT2 },
    Pre {
        name: "llama-bpe",
        words: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        ignore_merges: true,
        adds_bos: true,
        ..GPT2
    },
    Pre {
        name: "qwen2",
        words: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        composes: true,
        ..GPT2
    },
];

/// The rule that the file names.
///
/// # Errors
/// `Metadata`.
pub(super) fn pre(file: &GgufFile) -> Result<&'static Pre> {
    let name = file.optional_text(PRE)?;
    PRES.iter().find(|known| Some(known.name) == name).ok_or_else(|| {
        let names: Vec<String> = PRES.iter().map(|known| format!("`{}`", known.name)).collect();
        file.refuse(PRE, format!("one of {}", names.join(", ")))
    })
}

/// What `tokenizer.json` says of the rule.
pub(super) fn parts(pre: &Pre) -> Parts {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let words = byte_level(pre.words.is_none());
    let after = |cut: Json| json!({"type": "Sequence", "pretokenizers": [cut, words]});
    let pre_tokenizer = match (pre.digits, pre.words) {
        (true, _) => after(json!({"type": "Digits", "individual_digits": true})),
        (false, Some(pattern)) => after(json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
        })),
        (false, None) => words.clone(),
    };
    let normalizer = json!(pre.composes.then(|| json!({"type": "NFC"})));
    Parts { normalizer, pre_tokenizer, decoder: byte_level(true) }
}

/// Merges as pairs of tokens that joined are a token too.
pub(super) fn merges<'a>(file: &'a GgufFile, ids: &HashMap<&str, usize>) -> Result<Vec<(&'a str, &'a str)>> {
    let mut whole = String::new();
    let pair = |(i, merge): (usize, &'a String)| {
        // The space between the two is the first that does not begin the merge: tokens themselves have none.
        let parts = merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let known = parts.filter(|(left, right)| {
            whole.clear();
            whole.extend([*left, *right]);
            [*left, *right, whole.as_str()].iter().all(|token| ids.contains_key(token))
        });
        known.ok_or_else(|| Error::Metadata {
            path: file.path().to_owned(),
            key: MERGES.to_owned(),
            want: "two tokens that make a third".into(),
            got: format!("`{}` as merge {i}", printable(merge)),
        })
    };
    file.texts(MERGES)?.iter().enumerate().map(pair).collect()
}
