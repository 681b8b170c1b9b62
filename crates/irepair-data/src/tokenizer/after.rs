//! Texts that follow a prompt. Added tokens part a text: what comes after one is a part of its own, before which some
//! tokenizers of SentencePiece's kind put a space as they do before a whole text.

use std::collections::HashMap;

use super::Tokenizer;
use crate::Result;

impl Tokenizer {
    /// Token ids of texts that follow these prompts: those of [`Self::encode_continuations`], or, where a prompt ends
    /// with an added token, such as the one that begins an answer in a chat, those that the text has after that token.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses a text.
    pub fn encode_after<S: AsRef<str>>(&self, prompts: &[Vec<u32>], texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let mut made = self.encode_continuations(texts)?;
        let parting = self.parting();
        let after = |i: usize| Some((i, self.last_of(prompts.get(i)?)?));
        let places: Vec<(usize, u32)> = (0..texts.len())
            .filter_map(after)
            .filter(|(i, last)| parting.contains_key(last) && !texts[*i].as_ref().is_empty())
            .collect();
        let wholes: Vec<String> =
            places.iter().map(|(i, last)| format!("{}{}", parting[last], texts[*i].as_ref())).collect();
        for ((i, last), ids) in places.into_iter().zip(self.encode_batch(&wholes)?) {
            if let Some((_, rest)) = ids.split_first().filter(|(first, _)| **first == last) {
                made[i] = rest.to_vec();
            }
        }
        Ok(made)
    }

    /// The text that [`Self::encode_after`] turns into such ids: after an added token it has no space that the
    /// tokenizer would put there.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses.
    pub fn decode_after(&self, prompt: &[u32], ids: &[u32]) -> Result<String> {
        let parting = self.parting();
        let is_part = |last: &u32| parting.contains_key(last);
        if self.last_of(prompt).is_some_and(|last| is_part(&last)) {
            let text = self.decode(ids)?;
            if self.encode_after(&[prompt.to_vec()], &[&text])?[0] == ids {
                return Ok(text);
            }
        }
        self.decode_continuation(ids)
    }

    /// The last token of a prompt; none of one that is the begin-of-text token alone, which no text holds.
    fn last_of(&self, prompt: &[u32]) -> Option<u32> {
        let is_begun_alone = prompt.len() == 1 && self.begin_id.is_some();
        prompt.last().copied().filter(|_| !is_begun_alone)
    }

    /// The added tokens and their texts; none where the tokenizer puts no space before texts.
    fn parting(&self) -> HashMap<u32, String> {
        if self.continuations.is_none() {
            return HashMap::new();
        }
        self.inner.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.content)).collect()
    }
}
