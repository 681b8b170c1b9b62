//! Pairs as token ids: cut to length, counted, and held out for validation.

use serde::{Deserialize, Serialize};

use crate::{Error, Pair, Result, Sides, Tokenizer};

/// A pair in token ids. `prompt` is never empty; neither are the continuations that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The prompt, p.
    pub prompt: Vec<u32>,
    /// The refined continuation, y⁺.
    pub chosen: Vec<u32>,
    /// The error-inducing continuation, y⁻.
    pub rejected: Vec<u32>,
}

/// The longest prompt and continuation in tokens (METHOD §2: Pmax, Cmax).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Pmax.
    pub max_prompt: usize,
    /// Cmax.
    pub max_continuation: usize,
}

impl Default for Limits {
    /// 64 and 64 (METHOD §17 [L]).
    fn default() -> Self {
        Self { max_prompt: 64, max_continuation: 64 }
    }
}

/// What [`tokenize_pairs`] cut and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Pairs given.
    pub n_total: usize,
    /// Pairs whose prompt was cut.
    pub n_truncated_prompts: usize,
    /// Pairs of which at least one continuation was cut.
    pub n_truncated_continuations: usize,
    /// Pairs dropped because a continuation has no token.
    pub n_dropped_empty: usize,
}

/// Tokenises pairs, prompt and continuations each on its own (METHOD §2 [D]).
///
/// A prompt or continuation over its limit keeps its FIRST tokens, as the reference code has it [D]. An empty prompt
/// becomes the end-of-text token alone, so that the first token of the continuation is predicted too [O]. A pair whose
/// wanted continuation is empty is dropped and counted; with [`Sides::Rejected`] every chosen continuation is empty.
///
/// # Errors
/// `Tokenize` when the tokenizer refuses a text.
pub fn tokenize_pairs(
    pairs: &[Pair],
    tokenizer: &Tokenizer,
    limits: Limits,
    sides: Sides,
) -> Result<(Vec<TokenPair>, Counts)> {
    let encode = |part: fn(&Pair) -> &str| tokenizer.encode_batch(&pairs.iter().map(part).collect::<Vec<_>>());
    let prompts = encode(|pair| &pair.prompt)?;
    let chosen = encode(|pair| &pair.chosen)?;
    let rejected = encode(|pair| &pair.rejected)?;

    let mut counts = Counts { n_total: pairs.len(), ..Counts::default() };
    let mut kept = Vec::with_capacity(pairs.len());
    for ((mut prompt, mut chosen), mut rejected) in prompts.into_iter().zip(chosen).zip(rejected) {
        if sides == Sides::Rejected {
            chosen.clear();
        }
        if (chosen.is_empty() && sides == Sides::Both) || rejected.is_empty() {
            counts.n_dropped_empty += 1;
            continue;
        }
        counts.n_truncated_prompts += usize::from(prompt.len() > limits.max_prompt);
        counts.n_truncated_continuations += usize::from(chosen.len().max(rejected.len()) > limits.max_continuation);
        prompt.truncate(limits.max_prompt);
        chosen.truncate(limits.max_continuation);
        rejected.truncate(limits.max_continuation);
        if prompt.is_empty() {
            prompt.push(tokenizer.eos_id());
        }
        kept.push(TokenPair { prompt, chosen, rejected });
    }
    Ok((kept, counts))
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
        let limits = Limits { max_prompt: 3, max_continuation: 3 };
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Both).unwrap();
        assert_eq!(kept[0], TokenPair { prompt: ids("abc"), chosen: ids("xy"), rejected: ids("vwx") });
        assert_eq!(kept[1].prompt, [tokenizer.eos_id()]);
        let want = Counts { n_total: 3, n_truncated_prompts: 1, n_truncated_continuations: 1, n_dropped_empty: 1 };
        assert_eq!((kept.len(), counts), (2, want));
        let (kept, counts) = tokenize_pairs(&pairs, &tokenizer, limits, Sides::Rejected).unwrap();
        assert!(kept.iter().all(|pair| pair.chosen.is_empty()) && kept.len() == 3 && counts.n_dropped_empty == 0);
    }

    #[test]
    fn validation_is_the_tail() {
        assert_eq!(split_validation(vec![1, 2, 3], 1).unwrap(), (vec![1, 2], vec![3]));
        let error = split_validation(vec![1, 2], 2).unwrap_err();
        assert!(matches!(error, Error::TooFew { wanted: 3, n: 2 }));
    }
}
