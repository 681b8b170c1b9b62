//! The begin-of-text token: which one, and whether it is put before a text or written in it.

use std::borrow::Cow;

use super::Tokenizer;
use crate::{Result, TextKind};

impl Tokenizer {
    /// Token ids of a text from its beginning, as transformers' `tokenizer(text)` gives them: [`Self::encode`] after
    /// the begin-of-text token, where the tokenizer has one. No end-of-text token is added.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses the text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.begin_text(self.encode(text)?))
    }

    /// [`Self::encode_text`] of every text, on all cores.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses a text.
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        Ok(self.encode_batch(texts)?.into_iter().map(|ids| self.begin_text(ids)).collect())
    }

    /// Ids from [`Self::encode`], after the begin-of-text token, where the tokenizer has one.
    pub fn begin_text(&self, mut ids: Vec<u32>) -> Vec<u32> {
        ids.splice(0..0, self.begin_id);
        ids
    }

    /// The begin-of-text token: none of GPT-2, Qwen2 and SmolLM2, `<|begin_of_text|>` of Llama 3.
    pub fn begin_id(&self) -> Option<u32> {
        self.begin_id
    }

    /// The token that starts a text without a prompt: the begin-of-text token, or else the end-of-text token.
    pub fn start_id(&self) -> u32 {
        self.begin_id.unwrap_or(self.eos_id)
    }

    /// The rule for the begin-of-text token as one line for users.
    pub fn begin_rule(&self) -> String {
        match self.begin_id {
            Some(id) => {
                let token = self.inner.id_to_token(id).unwrap_or_default();
                format!("begin-of-text token: `{token}` (id {id}) before every text, as tokenizer.json says")
            }
            None => "begin-of-text token: none, as tokenizer.json says".to_owned(),
        }
    }

    /// The tokenizer for texts of a kind. The text of a chat holds its special tokens, which become their ids wherever
    /// they stand, and no begin-of-text token is added to it: where a model has one, the template writes it.
    pub fn of_kind(&self, kind: TextKind) -> Cow<'_, Self> {
        match (kind, self.begin_id) {
            (TextKind::Chat, Some(id)) => {
                Cow::Owned(Self { begin_id: None, written_begin_id: Some(id), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The kind that records of such texts are marked with in files: where a model has no begin-of-text token, rendered
    /// texts become the same ids as plain ones, and need no mark.
    pub fn marked_kind(&self, kind: TextKind) -> TextKind {
        if self.begin_id.or(self.written_begin_id).is_some() { kind } else { TextKind::Plain }
    }

    /// Number of tokens at the beginning of a text that are its begin-of-text token, 0 or 1, whoever wrote it.
    pub fn n_begin(&self, ids: &[u32]) -> usize {
        let begin = self.begin_id.or(self.written_begin_id);
        usize::from(begin.is_some_and(|id| ids.first() == Some(&id)))
    }
}
