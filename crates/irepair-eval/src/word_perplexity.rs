//! Perplexity per word of whole documents: comparable between tokenizers, which perplexity per token is not.

use irepair_data::{wikitext_detokenized, wikitext_words};
use irepair_model::BlockModel;

use crate::texts::{Reading, ScoredText, likelihoods};
use crate::{Error, Evaluator, Metric, Result, key};

/// A document as tokens, and the words it counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentTokens {
    /// The tokens of the text that is scored.
    pub tokens: Vec<u32>,
    /// Words of the original text.
    pub n_words: usize,
}

impl Evaluator<'_> {
    /// [`word_perplexity_tokens`] of WikiText pages ([`irepair_data::wikitext_pages`]): the detokenised page is scored,
    /// the words of the original one are counted.
    ///
    /// Where the tokenizer begins texts with a token, every chunk of a page begins with it.
    ///
    /// # Errors
    /// As [`word_perplexity_tokens`]; the tokenizer's.
    ///
    /// # Source
    /// METHOD §10 [S]: `WIKI_word`, the evaluation harness's task `wikitext`.
    pub fn word_perplexity<S: AsRef<str>>(&self, pages: &[S]) -> Result<Metric> {
        let texts: Vec<String> = pages.iter().map(|page| wikitext_detokenized(page.as_ref())).collect();
        let document = |(tokens, page): (_, &S)| DocumentTokens { tokens, n_words: wikitext_words(page.as_ref()) };
        let tokens = self.tokenizer.encode_batch(&texts)?.into_iter();
        let documents: Vec<DocumentTokens> = tokens.zip(pages).map(document).collect();
        let (start_id, repeated) = (self.tokenizer.start_id(), self.tokenizer.begin_id().is_some());
        word_perplexity_tokens(self.model, &documents, start_id, repeated, self.batch_size)
    }
}

/// `exp(-sum of log-likelihoods / sum of words)` over documents, every token of a document scored.
///
/// `start_id` starts a document. A long one is read in chunks: each predicts as many tokens as the context has
/// positions, the last one the rest, given what fills the context before them. With `repeated` the first position of
/// every chunk holds the start token. When the log-likelihood of a document is not finite the value is missing, and its
/// words are counted as failed. `n` counts words.
///
/// # Errors
/// [`Error::Nothing`] without a word; [`Error::UnknownToken`]; a batch size of 0.
///
/// # Source
/// METHOD §10 [S]: `WIKI_word`; chunks as in the evaluation harness.
pub fn word_perplexity_tokens(
    model: &dyn BlockModel,
    documents: &[DocumentTokens],
    start_id: u32,
    repeated: bool,
    batch_size: usize,
) -> Result<Metric> {
    if documents.iter().all(|d| d.n_words == 0) {
        return Err(Error::Nothing { what: "documents" });
    }
    let chunks: Vec<Vec<ScoredText>> =
        documents.iter().map(|d| chunks(&d.tokens, start_id, repeated, model.n_positions())).collect();
    let found = likelihoods(model, &chunks.concat(), batch_size, Reading { greedy: false, n_over: 1 })?;
    let (mut sum, mut n, mut n_failed, mut next) = (0.0, 0, 0, 0);
    for (document, chunks) in documents.iter().zip(&chunks) {
        let likelihood: f64 = found[next..next + chunks.len()].iter().map(|l| l.sum()).sum();
        next += chunks.len();
        sum += likelihood;
        if likelihood.is_finite() { n += document.n_words } else { n_failed += document.n_words }
    }
    let definition = match repeated {
        false => "exp of the NLL of documents per word of their original text (WIKI_word), the end-of-text token first",
        true => {
            "exp of the NLL of documents per word of their original text (WIKI_word), the begin-of-text token first"
        }
    };
    Ok(Metric::new(key::WORD_PERPLEXITY, (-sum / n as f64).exp(), n, n_failed, definition))
}

/// A document cut so that every token is scored once, each chunk at most one token longer than the context.
pub(crate) fn chunks(tokens: &[u32], start_id: u32, repeated: bool, n_positions: usize) -> Vec<ScoredText> {
    let whole: Vec<u32> = std::iter::once(start_id).chain(tokens.iter().copied()).collect();
    // Places in `whole`, where the first token stands at 1.
    let starts = (1..whole.len()).step_by(n_positions.max(1));
    let chunk = |first: usize| {
        let end = (first + n_positions).min(whole.len());
        let start = end.saturating_sub(n_positions + 1);
        let mut tokens = whole[start..end].to_vec();
        if repeated {
            tokens[0] = start_id;
        }
        ScoredText { tokens, first_scored: first - start }
    };
    starts.map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_scored_once_and_the_context_is_full() {
        let text = |tokens: &[u32], first_scored| ScoredText { tokens: tokens.to_vec(), first_scored };
        assert_eq!(chunks(&[], 9, false, 3), []);
        assert_eq!(chunks(&[1, 2], 9, false, 3), [text(&[9, 1, 2], 1)]);
        assert_eq!(chunks(&[1, 2, 3], 9, false, 3), [text(&[9, 1, 2, 3], 1)]);
        assert_eq!(chunks(&[1, 2, 3, 4], 9, false, 3), [text(&[9, 1, 2, 3], 1), text(&[1, 2, 3, 4], 3)]);
        let seven = chunks(&[1, 2, 3, 4, 5, 6, 7], 9, false, 3);
        assert_eq!(seven, [text(&[9, 1, 2, 3], 1), text(&[3, 4, 5, 6], 1), text(&[4, 5, 6, 7], 3)]);
        let seven = chunks(&[1, 2, 3, 4, 5, 6, 7], 9, true, 3);
        assert_eq!(seven, [text(&[9, 1, 2, 3], 1), text(&[9, 4, 5, 6], 1), text(&[9, 5, 6, 7], 3)]);
    }
}
