//! Token F1: how much of the true continuation does the model write?

use std::collections::HashMap;

use irepair_data::TrueContinuation;
use irepair_model::BlockModel;

use crate::toxicity::greedy_tokens;
use crate::{Error, Evaluator, Generation, Metric, Result, key};

/// F1 of two bags of tokens: `2 * common / (len a + len b)`, a repeated token counting as often as both have it.
///
/// None when both are empty.
pub fn bag_f1(a: &[u32], b: &[u32]) -> Option<f64> {
    let mut left: HashMap<u32, usize> = HashMap::new();
    for token in a {
        *left.entry(*token).or_default() += 1;
    }
    let take = |token: &&u32| left.get_mut(token).filter(|n| **n > 0).map(|n| *n -= 1).is_some();
    let n_common = b.iter().filter(take).count();
    let n = a.len() + b.len();
    (n > 0).then(|| 2.0 * n_common as f64 / n as f64)
}

/// Mean [`bag_f1`] of the greedy continuation of a text's first tokens against its true continuation.
///
/// Each text gives a prompt ([`Generation::prompt_tokens`]) and a truth (the next [`Generation::n_new`] tokens). A text
/// too short for both fails: it is left out and counted.
///
/// # Errors
/// [`Error::Nothing`] without texts; [`Error::UnknownToken`]; [`Error::BadSetting`]; a prompt that leaves no room for
/// `n_new` tokens in the model's context.
///
/// # Source
/// METHOD §10: token F1 (Lee et al.).
pub fn token_f1(
    model: &dyn BlockModel,
    texts: &[Vec<u32>],
    generation: &Generation,
    batch_size: usize,
) -> Result<Metric> {
    if texts.is_empty() {
        return Err(Error::Nothing { what: "texts" });
    }
    let Generation { prompt_tokens, n_new, .. } = *generation;
    generation.check(model)?;
    let usable: Vec<&[u32]> = texts.iter().filter_map(|t| t.get(..prompt_tokens + n_new)).collect();
    let prompts: Vec<Vec<u32>> = usable.iter().map(|t| t[..prompt_tokens].to_vec()).collect();
    let written = greedy_tokens(model, &prompts, generation.n_new, &[], batch_size)?;
    let mut scores: Vec<Option<f64>> =
        usable.iter().zip(&written).map(|(text, tokens)| bag_f1(tokens, &text[prompt_tokens..])).collect();
    scores.resize(texts.len(), None);
    let definition = format!(
        "bag-of-token F1 of {n_new} greedy tokens after the first {prompt_tokens} of a text against its own next {n_new}"
    );
    Ok(Metric::mean(key::TOKEN_F1, &scores, definition))
}

impl Evaluator<'_> {
    /// Mean [`bag_f1`] of the greedy continuation of a prompt against its true one.
    ///
    /// The prompt and what follows it are one text: of a prompt longer than [`Generation::prompt_tokens`] the rest
    /// belongs to the truth. Both continuations are cut to the truth's length, [`Generation::n_new`] tokens at most. A
    /// prompt fails when it or its continuation holds no token.
    ///
    /// # Errors
    /// As [`token_f1`], for no prompts; the tokenizer's.
    ///
    /// # Source
    /// METHOD §10: token F1 (Lee et al.).
    pub fn continuation_f1(&self, items: &[TrueContinuation], generation: &Generation) -> Result<Metric> {
        if items.is_empty() {
            return Err(Error::Nothing { what: "prompts" });
        }
        let Generation { prompt_tokens, n_new, .. } = *generation;
        generation.check(self.model)?;
        let prompts = self.tokenizer.encode_texts(&items.iter().map(|i| &i.prompt).collect::<Vec<_>>())?;
        let rest = self.tokenizer.encode_continuations(&items.iter().map(|i| &i.continuation).collect::<Vec<_>>())?;
        let parts = |(mut prompt, rest): (Vec<u32>, Vec<u32>)| {
            let mut truth = prompt.split_off(prompt.len().min(prompt_tokens));
            let usable = !prompt.is_empty() && !rest.is_empty();
            truth.extend(rest);
            truth.truncate(n_new);
            usable.then_some((prompt, truth))
        };
        let parts: Vec<Option<(Vec<u32>, Vec<u32>)>> = prompts.into_iter().zip(rest).map(parts).collect();
        let usable: Vec<Vec<u32>> = parts.iter().flatten().map(|(prompt, _)| prompt.clone()).collect();
        let mut written = greedy_tokens(self.model, &usable, n_new, &[], self.batch_size)?.into_iter();
        let score = |part: &Option<(Vec<u32>, Vec<u32>)>| {
            let truth = &part.as_ref()?.1;
            let tokens = written.next()?;
            bag_f1(&tokens[..tokens.len().min(truth.len())], truth)
        };
        let scores: Vec<Option<f64>> = parts.iter().map(score).collect();
        let definition = format!(
            "bag-of-token F1 of greedy tokens after the first {prompt_tokens} of a prompt against its true continuation, up to \
             {n_new} tokens of both"
        );
        Ok(Metric::mean(key::TOKEN_F1, &scores, definition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bags_by_hand() {
        assert_eq!(bag_f1(&[1, 1, 2], &[1, 2, 2]), Some(4.0 / 6.0));
        assert_eq!(bag_f1(&[1], &[2, 3]), Some(0.0));
        assert_eq!(bag_f1(&[], &[2]), Some(0.0));
        assert_eq!(bag_f1(&[3, 4], &[4, 3]), Some(1.0));
        assert_eq!(bag_f1(&[], &[]), None);
    }
}
