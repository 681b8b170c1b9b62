//! What was cut and dropped when pairs became token ids, and what in them teaches something else than meant.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What [`crate::tokenize_pairs`] cut, dropped and noticed.
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
    /// Pairs whose chosen continuation ends with the end-of-text token; of chats, those that hold a token that ends a
    /// text.
    pub n_chosen_ended: usize,
    /// Pairs whose continuations are the same tokens, as they are trained on: cut and ended.
    pub n_identical: usize,
    /// Pairs with a continuation that begins with the whole prompt.
    pub n_prompt_repeated: usize,
    /// Pairs in which the prompt's last word and a continuation's first one meet without a space.
    pub n_words_joined: usize,
    /// Pairs with the end-of-text token inside a text: in the prompt, or before the end of a continuation.
    pub n_end_inside: usize,
    /// Pairs whose prompt is what both sides begin with.
    pub n_implicit: usize,
    /// Pairs that a chat template rendered.
    pub n_chats: usize,
    /// Of these, pairs dropped because the prompt is over its limit: its end, which is the beginning of the answer,
    /// cannot be cut off.
    pub n_dropped_long: usize,
    /// Pairs of two labelled completions.
    pub n_labelled: usize,
    /// Labelled completions without a partner: desirable and undesirable ones.
    pub n_without_partner: [usize; 2],
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.n_total += other.n_total;
        self.n_truncated_prompts += other.n_truncated_prompts;
        self.n_truncated_continuations += other.n_truncated_continuations;
        self.n_dropped_empty += other.n_dropped_empty;
        self.n_chosen_ended += other.n_chosen_ended;
        self.n_identical += other.n_identical;
        self.n_prompt_repeated += other.n_prompt_repeated;
        self.n_words_joined += other.n_words_joined;
        self.n_end_inside += other.n_end_inside;
        self.n_implicit += other.n_implicit;
        self.n_chats += other.n_chats;
        self.n_dropped_long += other.n_dropped_long;
        self.n_labelled += other.n_labelled;
        for (mine, other) in self.n_without_partner.iter_mut().zip(other.n_without_partner) {
            *mine += other;
        }
    }
}

/// True when a continuation repeats the whole prompt before it continues it, as exports of whole texts do.
pub(crate) fn repeats_prompt(prompt: &str, continuation: &str) -> bool {
    let prompt = prompt.trim();
    !prompt.is_empty() && continuation.trim_start().starts_with(prompt)
}

/// True when two words become one where prompt and continuation meet. Letters without case are left out: their scripts
/// may write no spaces.
pub(crate) fn joins_words(prompt: &str, continuation: &str) -> bool {
    let in_word = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_ascii_digit();
    prompt.chars().next_back().is_some_and(in_word) && continuation.chars().next().is_some_and(in_word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Pair, Sides, Tokenizer, tokenize_pairs};

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Pair {
        Pair { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
    }

    #[test]
    fn pairs_that_teach_something_else_are_counted() {
        let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
        let counts = |pairs: &[Pair], sides| tokenize_pairs(pairs, &tokenizer, Limits::default(), sides).unwrap().1;
        let of = |prompt, chosen, rejected| counts(&[pair(prompt, chosen, rejected)], Sides::Both);
        let numbers = |c: Counts| [c.n_identical, c.n_prompt_repeated, c.n_words_joined, c.n_end_inside];
        assert_eq!(numbers(of("The city was", " nice.", " a dump.")), [0; 4]);
        assert_eq!(numbers(of("The city was", " nice.", " nice.")), [1, 0, 0, 0]);
        assert_eq!(numbers(of("The city was", " The city was nice.", " a dump.")), [0, 1, 0, 0]);
        assert_eq!(numbers(of("The city was", "nice.", " a dump.")), [0, 0, 1, 0]);
        assert_eq!(numbers(of("The city was ", "nice.", "a dump.")), [0; 4]);
        assert_eq!(numbers(of("Say:", "nice.", "")), [0; 4], "dropped");
        assert_eq!(numbers(of("東京は", "大きい", "小さい")), [0; 4], "a script without spaces");
        // The text of the token is the token: at the end of a continuation it is its end, elsewhere it is counted.
        assert_eq!(numbers(of("a", " b<|endoftext|>", " c<|endoftext|>")), [0; 4]);
        assert_eq!(numbers(of("a<|endoftext|>b", " c", " d")), [0, 0, 0, 1]);
        assert_eq!(numbers(of("a", " b<|endoftext|> c", " d")), [0, 0, 0, 1]);
        // What differs behind the limit is not trained on.
        let long = "x".repeat(64);
        assert_eq!(numbers(of("a:", &(long.clone() + "b"), &(long + "c"))), [1, 0, 0, 0]);
        // One side alone is compared with nothing.
        let alone = counts(&[pair("was", "nice", "a dump")], Sides::Chosen);
        assert_eq!((numbers(alone), alone.n_dropped_empty), ([0, 0, 1, 0], 0));
    }
}
