//! SentencePiece as llama.cpp runs it: characters merge into the token of the highest score, the leftmost first; the
//! rest becomes bytes.
//!
//! As BPE: every way to make a token of two is a merge, ranked by the token's score. Where a token can be made of two
//! in several ways, the one with the longest left part comes first, as in transformers' conversion; in llama.cpp the
//! leftmost would come first. Files in which ranks could not be those of llama.cpp are refused.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    let mut made: Vec<Merge<'_>> = Vec::new();
    for ((token, score), kind) in tokens.iter().zip(scores).zip(types) {
        if token.len() > MAX_TOKEN {
            return Err(refuse("tokens of up to 256 bytes", token));
        }
        // Such a token is cut out of a text before merging, unless a space is written in another way in it.
        if [UNKNOWN, CONTROL, USER_DEFINED].contains(kind) && !token.contains(SPACE) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            let known = |part: &str| ids.contains_key(part);
            if known(left) && known(right) {
                made.push(Merge { score: score + 0.0, token, left, right });
            } else if (known(left) || alone(left)) && (known(right) || alone(right)) {
                // llama.cpp would merge a character that is no token.
                return Err(refuse("a token for every character of a token", token));
            }
        }
    }
    if let Some([one, other]) = tied(&made) {
        return Err(refuse("different scores for tokens that merges make", &format!("{one}` and `{other}")));
    }
    let n_chars = |text: &str| text.chars().count();
    made.sort_by(|a, b| {
        let parts = |merge: &Merge<'_>| Reverse((n_chars(merge.left), n_chars(merge.right)));
        b.score.total_cmp(&a.score).then_with(|| parts(a).cmp(&parts(b)))
    });
    Ok(made.into_iter().map(|merge| (merge.left, merge.right)).collect())
}

/// Two tokens that make a third.
struct Merge<'a> {
    score: f32,
    token: &'a str,
    left: &'a str,
    right: &'a str,
}

/// Two tokens with one score, of which llama.cpp would make the leftmost first and a BPE another one.
///
/// Llama's runs of spaces have one score, the lowest, and are parts of one another alone. They are made last, of runs
/// of single spaces, where both orders lead to the same tokens.
fn tied<'a>(made: &[Merge<'a>]) -> Option<[&'a str; 2]> {
    let mut tokens: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for merge in made {
        let of_score = tokens.entry(merge.score.to_bits()).or_default();
        if of_score.last() != Some(&merge.token) {
            of_score.push(merge.token);
        }
    }
    let lowest = made.iter().map(|merge| merge.score).min_by(f32::total_cmp)?;
    tokens.into_iter().filter(|(_, tokens)| tokens.len() > 1).find_map(|(score, tokens)| {
        let is_run = |token: &&str| token.chars().all(|c| tokens[0].starts_with(c));
        let outside = |merge: &Merge<'_>| {
            merge.score.to_bits() != score && [merge.left, merge.right].iter().any(|part| tokens.contains(part))
        };
        let lengths: BTreeSet<usize> = tokens.iter().map(|token| token.chars().count()).collect();
        let same = score == lowest.to_bits()
            && tokens.iter().all(is_run)
            && !made.iter().any(outside)
            && (2..=3 * MAX_TOKEN / 4).all(|n| run(n, &lengths, false) == run(n, &lengths, true));
        (!same).then(|| [tokens[0], tokens[1]])
    })
}

/// Lengths of the tokens of a run of `n` equal characters, where runs of `lengths` are tokens with one score: the
/// leftmost is made first, or the one with the longest left part.
fn run(n: usize, lengths: &BTreeSet<usize>, longest_first: bool) -> Vec<usize> {
    let mut parts = vec![1; n];
    loop {
        let pairs = parts.windows(2).enumerate().filter(|(_, pair)| lengths.contains(&(pair[0] + pair[1])));
        let first =
            pairs.min_by_key(|(at, pair)| (Reverse(if longest_first { (pair[0], pair[1]) } else { (0, 0) }), *at));
        let Some((at, _)) = first else { return parts };
        parts[at] += parts.remove(at + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(tokens: &[(&'static str, f32)]) -> Vec<Merge<'static>> {
        let split = |(token, score): &(&'static str, f32)| {
            let at = token.chars().next().unwrap().len_utf8();
            Merge { score: *score, token, left: &token[..at], right: &token[at..] }
        };
        tokens.iter().map(split).collect()
    }

    #[test]
    fn runs_of_one_score_are_accepted_where_both_orders_agree() {
        let lengths = |all: &[usize]| all.iter().copied().collect::<BTreeSet<usize>>();
        let all = lengths(&(2..=16).collect::<Vec<_>>());
        for longest_first in [false, true] {
            assert_eq!(run(37, &all, longest_first), [16, 16, 5]);
        }
        // Twos and threes: the leftmost pair makes a two, which becomes a three.
        assert_eq!(run(7, &lengths(&[2, 4]), false), [4, 2, 1]);
        assert_eq!(tied(&merges(&[("aa", -9.0), ("aaa", -9.0), ("ab", -1.0)])), None);
        assert_eq!(tied(&merges(&[("aa", -9.0), ("aaa", -8.0), ("ab", -1.0)])), None);
        // Not the lowest score; a part of another token; other characters.
        assert_eq!(tied(&merges(&[("aa", -9.0), ("aaa", -9.0), ("ab", -10.0)])), Some(["aa", "aaa"]));
        assert_eq!(tied(&merges(&[("aa", -9.0), ("aaa", -9.0), ("baa", -1.0)])), Some(["aa", "aaa"]));
        assert_eq!(tied(&merges(&[("ab", -9.0), ("ac", -9.0)])), Some(["ab", "ac"]));
    }
}
