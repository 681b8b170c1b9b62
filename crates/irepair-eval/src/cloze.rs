//! The last word: does the model know how a passage ends?

use irepair_data::ClozeItem;
use irepair_model::BlockModel;

use crate::evaluator::conditional;
use crate::texts::Likelihood;
use crate::{Error, Evaluator, Metric, Metrics, Result, key};

/// A passage as tokens: all but the last word, and the last word with the space before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClozeTokens {
    /// The context; empty means the end-of-text token, which starts texts.
    pub context: Vec<u32>,
    /// The last word.
    pub target: Vec<u32>,
}

/// Accuracy and perplexity of last words.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloze {
    /// Whether every token of the target was the greedy choice, in the order of the items; none where it failed.
    pub correct: Vec<Option<bool>>,
    /// Log-probability of each target, nats; none where it failed.
    pub log_probs: Vec<Option<f64>>,
    /// Contexts that lost their start because they did not fit.
    pub n_truncated: usize,
    /// [`key::LAST_WORD_ACCURACY`] and [`key::LAST_WORD_PERPLEXITY`].
    pub metrics: Metrics,
}

impl Evaluator<'_> {
    /// [`cloze_tokens`] of passages as text; context and target are tokenised apart, the target with its leading space.
    ///
    /// # Errors
    /// As [`cloze_tokens`]; the tokenizer's.
    pub fn cloze(&self, items: &[ClozeItem]) -> Result<Cloze> {
        let contexts = self.tokenizer.encode_texts(&items.iter().map(|i| &i.context).collect::<Vec<_>>())?;
        let targets = self.tokenizer.encode_continuations(&items.iter().map(|i| &i.target).collect::<Vec<_>>())?;
        let tokens: Vec<_> =
            contexts.into_iter().zip(targets).map(|(context, target)| ClozeTokens { context, target }).collect();
        cloze_tokens(self.model, &tokens, self.tokenizer.start_id(), self.batch_size)
    }
}

/// Accuracy (every token of the target is the greedy choice) and perplexity `exp(-mean log p(target))` of last words.
///
/// A context too long for the model loses its start; such items are counted. An item fails when its target is empty,
/// leaves no room for a context, or has a probability that is not finite.
///
/// # Errors
/// [`Error::Nothing`] without items; [`Error::UnknownToken`]; a batch size of 0.
///
/// # Source
/// METHOD §10 [S]: LAMBADA; the mean is over targets, not over their tokens.
pub fn cloze_tokens(model: &dyn BlockModel, items: &[ClozeTokens], start_id: u32, batch_size: usize) -> Result<Cloze> {
    if items.is_empty() {
        return Err(Error::Nothing { what: "cloze items" });
    }
    let texts = items.iter().map(|item| (&item.context[..], &item.target[..]));
    let (found, cut) = conditional(model, texts, start_id, batch_size, true)?;
    let n_truncated = cut.into_iter().filter(|cut| *cut).count();
    let log_probs: Vec<Option<f64>> = found.iter().map(Likelihood::finite_sum).collect();
    let correct: Vec<Option<bool>> =
        found.iter().zip(&log_probs).map(|(l, p)| p.map(|_| l.greedy.iter().all(|&g| g))).collect();

    let hits: Vec<Option<f64>> = correct.iter().map(|c| c.map(|c| f64::from(u8::from(c)))).collect();
    let cut = "contexts too long cut on the left";
    let accuracy = Metric::mean(
        key::LAST_WORD_ACCURACY,
        &hits,
        format!("last words whose every token is the greedy choice, {cut}"),
    );
    let nlls: Vec<Option<f64>> = log_probs.iter().map(|p| p.map(|p| -p)).collect();
    let definition = format!("exp of the mean NLL per last word, a whole word counting once, {cut}");
    let mut perplexity = Metric::mean(key::LAST_WORD_PERPLEXITY, &nlls, definition);
    perplexity.value = perplexity.value.map(f64::exp).filter(|p| p.is_finite());
    // No mean of its values any more.
    perplexity.values.clear();
    let metrics = Metrics::from_iter([(key::LAST_WORD_ACCURACY, accuracy), (key::LAST_WORD_PERPLEXITY, perplexity)]);
    Ok(Cloze { correct, log_probs, n_truncated, metrics })
}
