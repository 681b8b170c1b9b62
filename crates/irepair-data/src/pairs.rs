//! Pairs as token ids: cut to length, counted, and held out for validation.

use std::path::Path;

use irepair_core::spec::PromptSide;
use serde::{Deserialize, Serialize};

use crate::counts::{Counts, joins_words, repeats_prompt};
use crate::read::not_empty;
use crate::{Error, Pair, Pairs, Result, Sides, TextKind, Tokenizer, each_text};

/// A pair in token ids. `prompt` is never empty; neither are the continuations that [`Sides`] selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The prompt, p.
    pub prompt: Vec<u32>,
    /// The refined continuation, y⁺.
    pub chosen: Vec<u32>,
    /// The error-inducing continuation, y⁻.
    pub rejected: Vec<u32>,
}

/// How pairs become token ids: the longest prompt and continuation (METHOD §2: Pmax, Cmax), and whether they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Pmax.
    pub max_prompt: usize,
    /// Cmax.
    pub max_continuation: usize,
    /// Continuations are whole texts: the end-of-text token follows each one that lacks it (METHOD §2 [O]).
    pub append_eos: bool,
    /// Which end of a longer prompt is kept.
    pub prompt_side: PromptSide,
}

impl Default for Limits {
    /// 64 and 64 (METHOD §17 [L]), nothing appended, the first tokens of a prompt.
    fn default() -> Self {
        Self { max_prompt: 64, max_continuation: 64, append_eos: false, prompt_side: PromptSide::Start }
    }
}

/// Tokenises pairs, prompt and continuations each on its own (METHOD §2 [D]).
///
/// The begin-of-text token, where the tokenizer has one, comes before the prompt and counts towards its limit. A
/// continuation over its limit keeps its FIRST tokens, as the reference code has it [D]; a prompt those of
/// [`Limits::prompt_side`]. The text of a special token is that token, wherever it stands. An empty prompt
/// becomes the start token alone, so that the first token of the continuation is predicted too [O]. A pair whose
/// wanted continuation is empty is dropped and counted; the side that [`Sides`] leaves out is empty in every pair.
/// The end-of-text token of `append_eos` counts towards the limit, so that a continuation that is cut does not end.
///
/// # Errors
/// `Tokenize` when the tokenizer refuses a text.
pub fn tokenize_pairs(
    pairs: &[Pair],
    tokenizer: &Tokenizer,
    limits: Limits,
    sides: Sides,
) -> Result<(Vec<TokenPair>, Counts)> {
    let eos_id = tokenizer.eos_id();
    tokenize(pairs, tokenizer, limits, sides, |chosen| chosen.last() == Some(&eos_id))
}

/// [`tokenize_pairs`] of pairs that a chat template rendered: no begin-of-text token is added, and no end-of-text
/// token, because the template writes both; a pair whose prompt is over its limit is dropped and counted, never cut.
///
/// # Errors
/// `Tokenize` when the tokenizer refuses a text.
pub fn tokenize_chats(
    pairs: &[Pair],
    tokenizer: &Tokenizer,
    limits: Limits,
    sides: Sides,
) -> Result<(Vec<TokenPair>, Counts)> {
    let tokenizer = tokenizer.of_kind(TextKind::Chat);
    let ends = |id: &u32| *id == tokenizer.eos_id() || tokenizer.end_ids().contains(id);
    let whole = Limits { max_prompt: usize::MAX, append_eos: false, ..limits };
    let (mut kept, mut counts) = tokenize(pairs, &tokenizer, whole, sides, |chosen| chosen.iter().any(ends))?;
    let n = kept.len();
    kept.retain(|pair| pair.prompt.len() <= limits.max_prompt);
    (counts.n_chats, counts.n_dropped_long) = (counts.n_total, n - kept.len());
    // A template writes them there.
    counts.n_end_inside = 0;
    Ok((kept, counts))
}

fn tokenize(
    pairs: &[Pair],
    tokenizer: &Tokenizer,
    limits: Limits,
    sides: Sides,
    has_ended: impl Fn(&[u32]) -> bool,
) -> Result<(Vec<TokenPair>, Counts)> {
    let prompts = tokenizer.encode_texts(&pairs.iter().map(|pair| &pair.prompt).collect::<Vec<_>>())?;
    let encode =
        |part: fn(&Pair) -> &str| tokenizer.encode_after(&prompts, &pairs.iter().map(part).collect::<Vec<_>>());
    let chosen = encode(|pair| &pair.chosen)?;
    let rejected = encode(|pair| &pair.rejected)?;

    let eos_id = tokenizer.eos_id();
    let end = |ids: &mut Vec<u32>| {
        if limits.append_eos && ids.last().is_some_and(|&last| last != eos_id) {
            ids.push(eos_id);
        }
    };
    let mut counts = Counts { n_total: pairs.len(), ..Counts::default() };
    let mut kept = Vec::with_capacity(pairs.len());
    for ((pair, (mut prompt, mut chosen)), mut rejected) in
        pairs.iter().zip(prompts.into_iter().zip(chosen)).zip(rejected)
    {
        if !sides.chosen() {
            chosen.clear();
        }
        if !sides.rejected() {
            rejected.clear();
        }
        if (sides.chosen() && chosen.is_empty()) || (sides.rejected() && rejected.is_empty()) {
            counts.n_dropped_empty += 1;
            continue;
        }
        end(&mut chosen);
        end(&mut rejected);
        counts.n_truncated_prompts += usize::from(prompt.len() > limits.max_prompt);
        counts.n_truncated_continuations += usize::from(chosen.len().max(rejected.len()) > limits.max_continuation);
        limits.prompt_side.cut(&mut prompt, limits.max_prompt, tokenizer.begin_id());
        let mut prompt = cut(&prompt, limits.max_prompt);
        let (chosen, rejected) = (cut(&chosen, limits.max_continuation), cut(&rejected, limits.max_continuation));
        let ends_inside = |ids: &[u32]| ids.split_last().is_some_and(|(_, before)| before.contains(&eos_id));
        counts.n_end_inside += usize::from(prompt.contains(&eos_id) || ends_inside(&chosen) || ends_inside(&rejected));
        if prompt.is_empty() {
            prompt = vec![tokenizer.start_id()];
        }
        counts.n_chosen_ended += usize::from(has_ended(&chosen));
        counts.n_identical += usize::from(sides == Sides::Both && chosen == rejected);
        let wanted = [(sides.chosen(), &pair.chosen), (sides.rejected(), &pair.rejected)];
        let any = |found: fn(&str, &str) -> bool| {
            usize::from(wanted.iter().any(|(wanted, text)| *wanted && found(&pair.prompt, text)))
        };
        counts.n_prompt_repeated += any(repeats_prompt);
        counts.n_words_joined += any(joins_words);
        kept.push(TokenPair { prompt, chosen, rejected });
    }
    Ok((kept, counts))
}

/// The first `n` ids, in memory of their own: cut where they are, ten thousand long texts would leave as many holes,
/// each too small for the next text.
fn cut(ids: &[u32], n: usize) -> Vec<u32> {
    ids[..n.min(ids.len())].to_vec()
}

/// Text in memory at a time while a file becomes token ids, in bytes, and records.
const CHUNK: (usize, usize) = (4 << 20, 1024);

/// [`tokenize_pairs`] or [`tokenize_chats`] of a file that [`RecordFile::pairs`](crate::RecordFile::pairs) opened, of
/// which no more than a chunk of a few MiB is in memory as text.
///
/// # Errors
/// Any of this crate's file and line errors, `NoRecords` when there is no pair, `AllEmpty`, `PromptsTooLong`,
/// `NoTemplate`, `BadTemplate`, `Tokenize`.
pub fn read_token_pairs(
    mut pairs: Pairs<'_>,
    tokenizer: &Tokenizer,
    limits: Limits,
) -> Result<(Vec<TokenPair>, Counts)> {
    let (mut kept, mut counts) = (Vec::new(), Counts::default());
    let n_bytes = |pair: &Pair| pair.prompt.len() + pair.chosen.len() + pair.rejected.len();
    let sides = pairs.sides();
    let tokenizer = &*tokenizer.of_kind(pairs.kind());
    let tokenize = match pairs.kind() {
        TextKind::Plain => tokenize_pairs,
        TextKind::Chat => tokenize_chats,
    };
    by_chunk(&mut pairs, n_bytes, |pairs| {
        let (more, of) = tokenize(pairs, tokenizer, limits, sides)?;
        kept.extend(more);
        counts += of;
        Ok(())
    })?;
    counts.n_implicit = pairs.n_implicit();
    (counts.n_labelled, counts.n_without_partner) = (pairs.n_labelled(), pairs.n_without_partner());
    pairs.refuse_none(counts.n_total)?;
    if counts.n_dropped_empty == counts.n_total {
        let sides = match sides {
            Sides::Both => "`chosen` and `rejected`",
            Sides::Chosen => "`chosen`",
            Sides::Rejected => "`rejected`",
        };
        return Err(Error::AllEmpty { path: pairs.path().to_owned(), n: counts.n_total, sides });
    }
    if kept.is_empty() && counts.n_dropped_long > 0 {
        let (n, max_prompt) = (counts.n_dropped_long, limits.max_prompt);
        return Err(Error::PromptsTooLong { path: pairs.path().to_owned(), n, max_prompt });
    }
    Ok((kept, counts))
}

/// Token ids of the texts of a file ([`each_text`]), of which no more than a chunk of a few MiB is in memory as text.
///
/// # Errors
/// Any of this crate's file and line errors, `NoRecords` when there is no text, `Tokenize`.
pub fn read_token_texts(path: &Path, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    by_chunk(each_text(path)?, String::len, |texts| {
        all.extend(tokenizer.encode_batch(texts)?);
        Ok(())
    })?;
    not_empty(all, path, "texts")
}

/// Hands over records chunk by chunk, in their order.
fn by_chunk<T>(
    records: impl Iterator<Item = Result<T>>,
    n_bytes: impl Fn(&T) -> usize,
    mut take: impl FnMut(&[T]) -> Result<()>,
) -> Result<()> {
    let (mut chunk, mut n) = (Vec::new(), 0);
    for record in records {
        let record = record?;
        n += n_bytes(&record);
        chunk.push(record);
        if n >= CHUNK.0 || chunk.len() >= CHUNK.1 {
            take(&chunk)?;
            chunk.clear();
            n = 0;
        }
    }
    if chunk.is_empty() { Ok(()) } else { take(&chunk) }
}

/// Splits pairs into those to train on and the last `n_validation`, never trained on (METHOD §2 [L,D]).
///
/// # Errors
/// `TooFew` when nothing would be left to train on.
pub fn split_validation<T>(mut pairs: Vec<T>, n_validation: usize) -> Result<(Vec<T>, Vec<T>)> {
    if pairs.len() <= n_validation {
        return Err(Error::TooFew { wanted: n_validation + 1, n: pairs.len() });
    }
    let validation = pairs.split_off(pairs.len() - n_validation);
    Ok((pairs, validation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Pair {
        Pair { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
    }

    #[test]
    fn long_texts_keep_their_first_tokens_and_are_counted() {
        let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
        let ids = |text: &str| tokenizer.encode(text).unwrap();
        let pairs = [pair("abcd", "xy", "vwxyz"), pair("", "x", "y"), pair("a", "", "y")];
        let limits = Limits { max_prompt: 3, max_continuation: 3, ..Limits::default() };
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Both).unwrap();
        assert_eq!(kept[0], TokenPair { prompt: ids("abc"), chosen: ids("xy"), rejected: ids("vwx") });
        assert_eq!(kept[1].prompt, [tokenizer.eos_id()]);
        let want = Counts {
            n_total: 3,
            n_truncated_prompts: 1,
            n_truncated_continuations: 1,
            n_dropped_empty: 1,
            n_words_joined: 1,
            ..Counts::default()
        };
        assert_eq!((kept.len(), counts), (2, want));
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Rejected).unwrap();
        assert!(kept.iter().all(|pair| pair.chosen.is_empty()) && kept.len() == 3 && counts.n_dropped_empty == 0);
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Chosen).unwrap();
        assert!(kept.iter().all(|pair| pair.rejected.is_empty()) && kept.len() == 2 && counts.n_dropped_empty == 1);
    }

    #[test]
    fn whole_texts_end_once_and_cut_ones_do_not() {
        let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
        let eos = tokenizer.eos_id();
        let pairs =
            [pair("a", "xy", "vwxyz"), pair("a", "x<|endoftext|>", "y"), pair("a", "xyz", "y"), pair("a", "", "y")];
        let limits = Limits { max_prompt: 3, max_continuation: 3, append_eos: true, ..Limits::default() };
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Both).unwrap();
        let ids = |text: &str| tokenizer.encode(text).unwrap();
        let ended = |text: &str| [ids(text), vec![eos]].concat();
        assert_eq!(kept[0], TokenPair { prompt: ids("a"), chosen: ended("xy"), rejected: ids("vwx") });
        assert_eq!(kept[1].chosen, ended("x"));
        // A text of just the longest length has no room for its end; an empty one is dropped all the same.
        assert_eq!((kept[2].chosen.clone(), kept.len()), (ids("xyz"), 3));
        assert_eq!((counts.n_chosen_ended, counts.n_truncated_continuations, counts.n_dropped_empty), (2, 2, 1));
        let (_, bare) =
            tokenize_pairs(&pairs, &tokenizer, Limits { append_eos: false, ..limits }, Sides::Both).unwrap();
        assert_eq!(bare.n_chosen_ended, 1);
    }

    fn open(path: &Path, sides: Sides) -> Pairs<'_> {
        crate::RecordFile::plain(path).pairs(None, sides).unwrap()
    }

    #[test]
    fn the_end_of_a_long_prompt_can_be_kept() {
        let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
        let ids = |text: &str| tokenizer.encode(text).unwrap();
        let pairs = [pair("abcdef", "xyz", "vwxyz"), pair("ab", "x", "y")];
        let limits = Limits { max_prompt: 3, max_continuation: 2, prompt_side: PromptSide::End, ..Limits::default() };
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Both).unwrap();
        // A continuation keeps its first tokens all the same.
        assert_eq!(kept[0], TokenPair { prompt: ids("def"), chosen: ids("xy"), rejected: ids("vw") });
        assert_eq!(kept[1].prompt, ids("ab"));
        assert_eq!((counts.n_truncated_prompts, counts.n_truncated_continuations), (1, 1));
    }

    #[test]
    fn a_file_read_by_the_piece_is_the_file_read_whole() {
        let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let [pairs, texts, blank] = ["pairs.jsonl", "texts.txt", "blank.jsonl"].map(|name| dir.path().join(name));
        // More records than a chunk has, and two that are one each.
        let long = "x".repeat(CHUNK.0 + 1);
        let mut all: Vec<Pair> =
            (0..2 * CHUNK.1 + 3).map(|i| pair(&"p".repeat(i % 5), &"c".repeat(i % 3), "r")).collect();
        all[7].prompt.clone_from(&long);
        all[8].rejected.clone_from(&long);
        crate::write_jsonl(&pairs, &all).unwrap();
        let limits = Limits { max_prompt: 3, max_continuation: 2, ..Limits::default() };
        for sides in [Sides::Both, Sides::Rejected] {
            let whole = tokenize_pairs(&crate::read_pairs(&pairs, sides).unwrap(), &tokenizer, limits, sides).unwrap();
            assert_eq!(read_token_pairs(open(&pairs, sides), &tokenizer, limits).unwrap(), whole);
            assert!(whole.1.n_total == all.len() && whole.1.n_truncated_prompts > 1);
            assert!(whole.0.iter().all(|pair| pair.prompt.capacity() <= 3 && pair.rejected.capacity() <= 2));
        }
        let all: Vec<String> = all.into_iter().map(|pair| pair.prompt + "q").collect();
        crate::write_texts(&texts, &all).unwrap();
        assert_eq!(read_token_texts(&texts, &tokenizer).unwrap(), tokenizer.encode_batch(&all).unwrap());
        std::fs::write(&blank, " \n\n").unwrap();
        let none = [
            read_token_pairs(open(&blank, Sides::Both), &tokenizer, limits).unwrap_err(),
            read_token_texts(&blank, &tokenizer).unwrap_err(),
        ];
        assert!(none.iter().all(|error| matches!(error, Error::NoRecords { .. })), "{none:?}");
    }

    #[test]
    fn validation_is_the_tail() {
        assert_eq!(split_validation(vec![1, 2, 3], 1).unwrap(), (vec![1, 2], vec![3]));
        let error = split_validation(vec![1, 2], 2).unwrap_err();
        assert!(matches!(error, Error::TooFew { wanted: 3, n: 2 }));
    }
}
