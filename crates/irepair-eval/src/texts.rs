//! Log-probabilities of texts in batches of bounded memory: what every likelihood metric is made of.

use irepair_core::PaddedTokens;
use irepair_model::{BlockModel, TextBatch, states_at};
use irepair_objective::{head_greedy, head_log_probs};
use tch::{Kind, no_grad};

use crate::word_perplexity::chunks;
use crate::{Error, Result};

/// The tensors that grow with a batch stay under this; a batch is cut shorter, down to one text, to keep to it.
const MAX_BATCH_BYTES: usize = 512 << 20;

/// A text of which the tokens from `first_scored` on are scored, each given all tokens before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScoredText {
    pub(crate) tokens: Vec<u32>,
    pub(crate) first_scored: usize,
}

impl ScoredText {
    /// A whole text: every token but the first is scored.
    pub(crate) fn whole(tokens: &[u32]) -> Self {
        Self { tokens: tokens.to_vec(), first_scored: 1 }
    }

    /// `target` after `context`, cut on the left to `n_positions` tokens; the flag says whether it was cut.
    ///
    /// An empty context becomes `start_id`, the token that starts texts, and a context that begins with it keeps it
    /// when it is cut. None when the target is empty or leaves no room for a context.
    pub(crate) fn conditional(
        context: &[u32],
        target: &[u32],
        start_id: u32,
        n_positions: usize,
    ) -> Option<(Self, bool)> {
        if target.is_empty() || target.len() >= n_positions {
            return None;
        }
        let context = if context.is_empty() { &[start_id][..] } else { context };
        let n_cut = (context.len() + target.len()).saturating_sub(n_positions);
        let mut kept = context[n_cut..].to_vec();
        if context[0] == start_id {
            kept[0] = start_id;
        }
        let first_scored = kept.len();
        Some((Self { tokens: [kept, target.to_vec()].concat(), first_scored }, n_cut > 0))
    }

    fn n_scored(&self) -> usize {
        self.tokens.len().saturating_sub(self.first_scored)
    }
}

/// What the model says of the scored tokens of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Likelihood {
    /// `log p(token | before)`, nats.
    pub(crate) log_probs: Vec<f64>,
    /// Whether the token is the model's most probable one; empty unless asked for.
    pub(crate) greedy: Vec<bool>,
}

impl Likelihood {
    /// Sum of the log-probabilities, nats.
    pub(crate) fn sum(&self) -> f64 {
        self.log_probs.iter().sum()
    }

    /// [`Self::sum`]; none when nothing was scored or it is not finite.
    pub(crate) fn finite_sum(&self) -> Option<f64> {
        Some(self.sum()).filter(|sum| !self.log_probs.is_empty() && sum.is_finite())
    }
}

/// Checks what every metric relies on: a batch size, and tokens the model knows.
pub(crate) fn check<'a>(
    model: &dyn BlockModel,
    texts: impl IntoIterator<Item = &'a Vec<u32>>,
    batch_size: usize,
) -> Result<()> {
    if batch_size == 0 {
        return Err(Error::BadSetting { key: "batch_size", want: "at least 1".into(), got: 0 });
    }
    let n_vocab = model.n_vocab();
    match texts.into_iter().flatten().find(|&&token| token as usize >= n_vocab) {
        Some(&token) => Err(Error::UnknownToken { token, n_vocab }),
        None => Ok(()),
    }
}

/// Indices of `lengths` in batches: longest first, so that a batch pads little and the first one needs most memory.
///
/// A batch has at most `batch_size` texts, and fewer when `n_per_token` four-byte numbers for each of
/// its tokens, padding included, would take more than [`MAX_BATCH_BYTES`].
pub(crate) fn batches(lengths: &[usize], batch_size: usize, n_per_token: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&longest) = rest.first() {
        let bytes = (lengths[longest].max(1)).saturating_mul(n_per_token).saturating_mul(4);
        let n = (MAX_BATCH_BYTES / bytes.max(1)).clamp(1, batch_size).min(rest.len());
        batches.push(rest[..n].to_vec());
        rest = &rest[n..];
    }
    batches
}

/// What is read of texts besides log-probabilities, and how long they may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Whether each token is what the model would write.
    pub(crate) greedy: bool,
    /// Tokens that a text may have over the context: its last one is predicted, but not read by the model.
    pub(crate) n_over: usize,
}

/// Log-probability of every scored token, text by text in the order given.
///
/// A text without scored tokens gives an empty [`Likelihood`] and is not run.
///
/// # Errors
/// A bad batch size, a token the model does not know, a text longer than the context.
///
/// # Source
/// METHOD §2 [D]: `logp_t` in float32; sums over them are in float64.
pub(crate) fn likelihoods(
    model: &dyn BlockModel,
    texts: &[ScoredText],
    batch_size: usize,
    reading: Reading,
) -> Result<Vec<Likelihood>> {
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    model.check_length(longest.saturating_sub(reading.n_over))?;
    check(model, texts.iter().map(|t| &t.tokens), batch_size)?;
    let n_positions = model.n_positions();
    let mut found = vec![Likelihood::default(); texts.len()];
    let scored: Vec<usize> = (0..texts.len()).filter(|&i| texts[i].n_scored() > 0).collect();
    let lengths: Vec<usize> = scored.iter().map(|&i| texts[i].tokens.len()).collect();
    for batch in batches(&lengths, batch_size, model.n_vocab()) {
        let batch: Vec<usize> = batch.into_iter().map(|i| scored[i]).collect();
        let rows: Vec<(&[u32], usize)> = batch.iter().map(|&i| (&texts[i].tokens[..], texts[i].first_scored)).collect();
        let text = TextBatch::new(PaddedTokens::with_targets_from(&rows, n_positions, 0)?, model.device());
        let (log_probs, greedy) = no_grad(|| {
            let hidden = states_at(&model.hidden_states(&text), &text.target_positions);
            let log_probs = head_log_probs(&hidden, &model.head(), model.logit_softcap(), &text.target_ids).values;
            (
                log_probs,
                reading.greedy.then(|| head_greedy(&hidden, &model.head(), model.logit_softcap(), &text.target_ids)),
            )
        });
        let torch = irepair_model::Error::from;
        let log_probs = Vec::<f64>::try_from(log_probs.to_kind(Kind::Double)).map_err(torch)?;
        let greedy = greedy.map_or(Ok(Vec::new()), Vec::<bool>::try_from).map_err(torch)?;
        let mut start = 0;
        for &i in &batch {
            let range = start..start + texts[i].n_scored();
            start = range.end;
            found[i] = Likelihood {
                log_probs: log_probs[range.clone()].to_vec(),
                greedy: greedy.get(range).unwrap_or_default().to_vec(),
            };
        }
    }
    Ok(found)
}

/// Log-likelihood of one text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextNll {
    /// Scored tokens: all but the first.
    pub n_tokens: usize,
    /// Negative log-likelihood of those tokens, nats; 0 when there are none, NaN when the model's logits are.
    pub nll_sum: f64,
    /// Windows that the text was read in.
    pub n_windows: usize,
}

/// Negative log-likelihood of every text, in the order given; the first token of a text is not scored.
///
/// # Errors
/// [`Error::UnknownToken`]; a text longer than the model's context; a batch size of 0.
///
/// # Source
/// METHOD §2 [D]: `logp_seq`, a sum over counted tokens.
pub fn text_nlls(model: &dyn BlockModel, texts: &[Vec<u32>], batch_size: usize) -> Result<Vec<TextNll>> {
    let texts: Vec<ScoredText> = texts.iter().map(|t| ScoredText::whole(t)).collect();
    let likelihoods = likelihoods(model, &texts, batch_size, Reading::default())?;
    Ok(likelihoods.iter().map(|l| TextNll { n_tokens: l.log_probs.len(), nll_sum: -l.sum(), n_windows: 1 }).collect())
}

/// [`text_nlls`] of texts that may be longer than the context: such a text is read in windows, every token but the
/// first scored once. A window predicts as many tokens as the context has positions, the last one the rest, given what
/// fills the context before them; where texts begin with the token `begin_id`, so does every window.
///
/// # Errors
/// As [`text_nlls`].
///
/// # Source
/// METHOD §10 [S]: the windows of `WIKI_word`.
pub fn windowed_nlls(
    model: &dyn BlockModel,
    texts: &[Vec<u32>],
    begin_id: Option<u32>,
    batch_size: usize,
) -> Result<Vec<TextNll>> {
    let windows = |text: &Vec<u32>| match text.split_first() {
        Some((&first, rest)) => chunks(rest, first, begin_id == Some(first), model.n_positions()),
        None => Vec::new(),
    };
    let windows: Vec<Vec<ScoredText>> = texts.iter().map(windows).collect();
    let found = likelihoods(model, &windows.concat(), batch_size, Reading { greedy: false, n_over: 1 })?;
    let mut found = found.iter();
    let of = |windows: &Vec<ScoredText>| {
        let mut nll = TextNll { n_tokens: 0, nll_sum: 0.0, n_windows: windows.len().max(1) };
        for likelihood in found.by_ref().take(windows.len()) {
            nll.n_tokens += likelihood.log_probs.len();
            nll.nll_sum -= likelihood.sum();
        }
        nll
    };
    Ok(windows.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_text_once_longest_first() {
        assert_eq!(batches(&[3, 9, 1, 9, 5], 2, 10), [vec![1, 3], vec![4, 0], vec![2]]);
        // 1024 tokens of 50,257 logits are 206 MB: two to a batch.
        let sizes: Vec<usize> = batches(&[1024; 5], 8, 50_257).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        // One text always goes, however long.
        assert_eq!(batches(&[usize::MAX], 8, 50_257), [vec![0]]);
        assert!(batches(&[], 8, 10).is_empty());
    }

    #[test]
    fn a_long_context_loses_its_start() {
        let conditional = |context: &[u32], target: &[u32]| ScoredText::conditional(context, target, 9, 5);
        let text = |tokens: &[u32], first_scored| ScoredText { tokens: tokens.to_vec(), first_scored };
        assert_eq!(conditional(&[1, 2], &[3]), Some((text(&[1, 2, 3], 2), false)));
        assert_eq!(conditional(&[1, 2, 3, 4], &[5, 6]), Some((text(&[2, 3, 4, 5, 6], 3), true)));
        // But not the token that starts texts.
        assert_eq!(conditional(&[9, 2, 3, 4], &[5, 6]), Some((text(&[9, 3, 4, 5, 6], 3), true)));
        assert_eq!(conditional(&[], &[5]), Some((text(&[9, 5], 1), false)));
        assert_eq!(conditional(&[1], &[]), None);
        assert_eq!(conditional(&[1], &[2; 5]), None);
    }
}
