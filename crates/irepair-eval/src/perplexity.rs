//! Perplexity: of running text in windows, and of continuations under the reference.

use irepair_data::{RunningText, Tokenizer};
use irepair_model::BlockModel;

use crate::texts::{Reading, ScoredText, likelihoods};
use crate::{Continuations, Error, Evaluator, Metric, Result, key};

/// Texts joined with a blank line between them and tokenised once, as [`token_perplexity`] wants them (METHOD §10:
/// WIKI). No begin-of-text token is added.
///
/// # Errors
/// The tokenizer's.
pub fn joined_tokens<S: AsRef<str>>(tokenizer: &Tokenizer, texts: &[S]) -> Result<Vec<u32>> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    Ok(tokenizer.encode(&texts.join("\n\n"))?)
}

impl Evaluator<'_> {
    /// [`strided_perplexity`] of a file's text: its parts joined with a blank line and tokenised once.
    ///
    /// Of rows this is WIKI as published: a raw file without [`irepair_data::END_OF_TEXT`] lines and the Hub's WikiText
    /// rows give the same tokens. Where the tokenizer begins texts with a token, every window begins with it.
    ///
    /// # Errors
    /// As [`strided_perplexity`]; the tokenizer's.
    ///
    /// # Source
    /// METHOD §10 [L,S].
    pub fn text_perplexity(&self, text: &RunningText, window: usize, stride: usize) -> Result<Metric> {
        let what = match text {
            RunningText::Documents(_) => RUNNING_TEXT,
            RunningText::Rows(_) => "rows of raw text joined by blank lines (WIKI)",
        };
        self.windowed(&joined_tokens(self.tokenizer, text.parts())?, window, stride, what)
    }

    /// WIKI's formula on last-word texts: joined with a blank line, tokenised once, every token scored.
    ///
    /// Not comparable with [`crate::key::LAST_WORD_PERPLEXITY`], which scores last words alone.
    ///
    /// # Errors
    /// As [`Self::text_perplexity`].
    ///
    /// # Source
    /// METHOD §10: `LAMBADA_corpus`.
    pub fn cloze_corpus_perplexity<S: AsRef<str>>(&self, texts: &[S], window: usize) -> Result<Metric> {
        let what = "last-word texts joined by blank lines (LAMBADA_corpus)";
        self.windowed(&joined_tokens(self.tokenizer, texts)?, window, window, what)
    }

    /// [`Self::text_perplexity`] of a text that is [`joined_tokens`] already, in windows that do not overlap.
    ///
    /// # Errors
    /// As [`strided_perplexity`].
    pub fn token_perplexity(&self, tokens: &[u32], window: usize) -> Result<Metric> {
        self.windowed(tokens, window, window, RUNNING_TEXT)
    }

    fn windowed(&self, tokens: &[u32], window: usize, stride: usize, what: &str) -> Result<Metric> {
        windowed(self.model, tokens, self.tokenizer.begin_id(), window, stride, self.batch_size, what)
    }
}

const RUNNING_TEXT: &str = "running text";

/// Perplexity per token of running text, cut into windows that do not overlap.
///
/// `exp(sum_w T_w m_w / sum_w T_w)`, with `T_w` the tokens of window `w` and `m_w` the mean NLL of the `T_w - 1` it
/// predicts. The last window may be shorter; when it is a single token it predicts nothing and is left out of both
/// sums. `n` is `sum_w T_w`. When the NLL of a window is not finite the value is missing: without that window it would
/// flatter a broken model.
///
/// # Errors
/// [`Error::BadSetting`] for a window of under 2 tokens or longer than the model's context, or a batch size of 0;
/// [`Error::Nothing`] for under 2 tokens; [`Error::UnknownToken`].
///
/// # Source
/// METHOD §10 [L,S]: WIKI, stride = window.
pub fn token_perplexity(model: &dyn BlockModel, tokens: &[u32], window: usize, batch_size: usize) -> Result<Metric> {
    strided_perplexity(model, tokens, window, window, batch_size)
}

/// [`token_perplexity`] with windows that start every `stride` tokens; each scores only the tokens no window before it
/// had.
///
/// `T_w` is then the number of those new tokens. The smaller the stride, the longer the context of a token, the lower
/// the perplexity: numbers of different strides do not compare.
///
/// # Errors
/// As [`token_perplexity`]; [`Error::BadSetting`] for a stride of 0 or over the window.
///
/// # Source
/// METHOD §10 [S]: stride 512 scores only the new 512.
pub fn strided_perplexity(
    model: &dyn BlockModel,
    tokens: &[u32],
    window: usize,
    stride: usize,
    batch_size: usize,
) -> Result<Metric> {
    windowed(model, tokens, None, window, stride, batch_size, RUNNING_TEXT)
}

/// [`strided_perplexity`] where `begin`, if there is one, is the first token of every window, which then has room for
/// one token less of the text.
fn windowed(
    model: &dyn BlockModel,
    tokens: &[u32],
    begin: Option<u32>,
    window: usize,
    stride: usize,
    batch_size: usize,
    what: &str,
) -> Result<Metric> {
    let n_positions = model.n_positions();
    if !(2..=n_positions).contains(&window) {
        return Err(Error::BadSetting { key: "window", want: format!("2 to {n_positions} tokens"), got: window });
    }
    if !(1..=window).contains(&stride) {
        return Err(Error::BadSetting { key: "stride", want: format!("1 to {window} tokens"), got: stride });
    }
    if tokens.len() < 2 {
        return Err(Error::Nothing { what: "text of two tokens or more" });
    }
    let begin = Vec::from_iter(begin);
    let (room, stride) = (window - begin.len(), stride.min(window - begin.len()));
    let windows = windows(tokens.len(), room, stride);
    let text = |w: &Window| ScoredText {
        tokens: [&begin, &tokens[w.start..w.end]].concat(),
        first_scored: (begin.len() + w.n_seen).max(1),
    };
    let texts: Vec<ScoredText> = windows.iter().map(text).collect();
    let (mut weighted, mut n, mut n_failed) = (0.0, 0, 0);
    for (w, likelihood) in windows.iter().zip(likelihoods(model, &texts, batch_size, Reading::default())?) {
        if likelihood.log_probs.is_empty() {
            continue;
        }
        let n_new = w.end - w.start - w.n_seen;
        let nll_mean = -likelihood.sum() / likelihood.log_probs.len() as f64;
        weighted += n_new as f64 * nll_mean;
        if nll_mean.is_finite() { n += n_new } else { n_failed += n_new }
    }
    let begins = if begin.is_empty() { "" } else { ", each begun by the begin-of-text token" };
    let definition = format!("exp of the mean NLL of {what}, windows of {window} tokens, stride {stride}{begins}");
    Ok(Metric::new(key::TOKEN_PERPLEXITY, (weighted / n as f64).exp(), n, n_failed, definition))
}

/// Tokens `start..end`, the first `n_seen` of which were scored by windows before.
struct Window {
    start: usize,
    end: usize,
    n_seen: usize,
}

fn windows(n_tokens: usize, window: usize, stride: usize) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let mut n_scored = 0;
    for start in (0..n_tokens).step_by(stride) {
        let end = (start + window).min(n_tokens);
        windows.push(Window { start, end, n_seen: n_scored - start });
        n_scored = end;
        if end == n_tokens {
            break;
        }
    }
    windows
}

/// Perplexity of texts, each read on its own: one mean over all their tokens but the first of each.
///
/// `n` counts those tokens. A token whose probability is not finite makes the value missing, and is counted.
///
/// # Errors
/// [`Error::Nothing`] without a text of two tokens; [`Error::UnknownToken`]; a text longer than the model's context; a
/// batch size of 0.
///
/// # Source
/// METHOD §22 [O]: neutral texts of a fix.
pub fn texts_perplexity(model: &dyn BlockModel, texts: &[Vec<u32>], batch_size: usize) -> Result<Metric> {
    if texts.iter().all(|text| text.len() < 2) {
        return Err(Error::Nothing { what: "texts of two tokens" });
    }
    let texts: Vec<ScoredText> = texts.iter().map(|text| ScoredText::whole(text)).collect();
    let definition = "exp of the mean NLL per token of texts, each read on its own";
    of_scored(model, &texts, batch_size, key::TOKEN_PERPLEXITY, definition)
}

/// `exp` of the mean NLL over the scored tokens of all texts.
fn of_scored(
    model: &dyn BlockModel,
    texts: &[ScoredText],
    batch_size: usize,
    key: key::MetricId,
    definition: &str,
) -> Result<Metric> {
    let log_probs: Vec<f64> =
        likelihoods(model, texts, batch_size, Reading::default())?.into_iter().flat_map(|l| l.log_probs).collect();
    let n = log_probs.iter().filter(|p| p.is_finite()).count();
    let nll_mean = -log_probs.iter().sum::<f64>() / n as f64;
    Ok(Metric::new(key, nll_mean.exp(), n, log_probs.len() - n, definition))
}

/// Perplexity of continuations under the reference, each given its prompt: does the text still read as the language
/// did?
///
/// One mean over all tokens of all continuations; empty ones add nothing. `n` counts tokens. A token whose probability
/// is not finite makes the value missing, and is counted.
///
/// # Errors
/// [`Error::UnknownToken`]; a prompt and continuation longer than the reference's context; a batch size of 0.
///
/// # Source
/// METHOD §9 [O]: degeneration guard.
pub fn continuation_perplexity(
    reference: &dyn BlockModel,
    continuations: &Continuations,
    batch_size: usize,
) -> Result<Metric> {
    let texts: Vec<ScoredText> = continuations
        .prompts
        .iter()
        .zip(&continuations.tokens)
        .map(|(prompt, tokens)| ScoredText {
            tokens: [&prompt[..], tokens].concat(),
            first_scored: prompt.len().max(1),
        })
        .collect();
    let definition = "exp of the mean NLL per token of the continuations under the reference, given their prompts";
    of_scored(reference, &texts, batch_size, key::CONTINUATION_PERPLEXITY, definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_new_in_exactly_one_window() {
        for (n, window, stride) in [(10, 4, 4), (9, 4, 4), (10, 4, 2), (3, 8, 8), (11, 5, 3), (2, 2, 1)] {
            let windows = windows(n, window, stride);
            let new: Vec<usize> = windows.iter().flat_map(|w| w.start + w.n_seen..w.end).collect();
            assert_eq!(new, (0..n).collect::<Vec<_>>(), "{n} {window} {stride}");
            assert!(windows.iter().all(|w| w.end - w.start <= window));
        }
    }
}
