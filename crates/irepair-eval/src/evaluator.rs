//! What the metrics of texts share: the model, its tokenizer, and log-likelihoods of texts.

use irepair_data::Tokenizer;
use irepair_model::BlockModel;

use crate::Result;
use crate::texts::{Likelihood, Reading, ScoredText, likelihoods};

/// A model to measure on texts, with its tokenizer. Its methods are the metrics, one file each.
#[derive(Clone, Copy)]
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a dyn BlockModel,
    /// Its tokenizer, which also says how texts start.
    pub tokenizer: &'a Tokenizer,
    /// Most texts read at once; changes speed and memory, no result beyond rounding.
    pub batch_size: usize,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of `model`.
    pub fn new(model: &'a dyn BlockModel, tokenizer: &'a Tokenizer, batch_size: usize) -> Self {
        Self { model, tokenizer, batch_size }
    }

    /// Log-likelihood of each target given its context, none where it failed; and whether the context was cut.
    pub(crate) fn conditional<'t>(
        &self,
        texts: impl Iterator<Item = (&'t [u32], &'t [u32])>,
    ) -> Result<(Vec<Option<f64>>, Vec<bool>)> {
        let (found, cut) = conditional(self.model, texts, self.tokenizer.start_id(), self.batch_size, false)?;
        Ok((found.iter().map(Likelihood::finite_sum).collect(), cut))
    }
}

/// What the model says of each target given its context; nothing where the target is empty or leaves no room for a
/// context. And whether the context was cut.
pub(crate) fn conditional<'t>(
    model: &dyn BlockModel,
    texts: impl Iterator<Item = (&'t [u32], &'t [u32])>,
    start_id: u32,
    batch_size: usize,
    greedy: bool,
) -> Result<(Vec<Likelihood>, Vec<bool>)> {
    let n_positions = model.n_positions();
    let text = |(context, target)| ScoredText::conditional(context, target, start_id, n_positions);
    // A text without a scored token comes back empty.
    let or_none = |text: Option<_>| text.unwrap_or_else(|| (ScoredText::whole(&[]), false));
    let (texts, cut): (Vec<ScoredText>, Vec<bool>) = texts.map(text).map(or_none).unzip();
    Ok((likelihoods(model, &texts, batch_size, Reading { greedy, n_over: 0 })?, cut))
}
