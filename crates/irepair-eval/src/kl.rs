//! Held-out KL: how far the model has moved where nothing was to change.

use irepair_core::PaddedTokens;
use irepair_model::{BlockModel, TextBatch, states_at};
use irepair_objective::head_divergences;
use tch::{Kind, no_grad};

use crate::texts::{batches, check};
use crate::{Error, Metric, Result, key};

/// KL on held-out text.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The metric, to go under [`crate::key::KL_HELDOUT`].
    pub metric: Metric,
    /// Texts cut to their first tokens because they did not fit the context.
    pub n_truncated: usize,
}

/// `KL(reference ‖ model)` on neutral texts, mean per token, nats.
///
/// Every real position counts, the last one of a text too. A text longer than the context is cut to its first tokens
/// and counted. When the KL of a text is not finite the value is missing and its tokens are counted.
///
/// # Errors
/// [`Error::Nothing`] when the texts hold no token; [`Error::ModelsDiffer`] in vocabulary, context or device;
/// [`Error::UnknownToken`]; a batch size of 0.
///
/// # Source
/// METHOD §10, by the formula of METHOD §2 [D]: forward direction, reference first.
pub fn kl_heldout(
    reference: &dyn BlockModel,
    model: &dyn BlockModel,
    texts: &[Vec<u32>],
    batch_size: usize,
) -> Result<Divergence> {
    same_kind_of_model(reference, model)?;
    check(model, texts, batch_size)?;
    let n_positions = model.n_positions().min(reference.n_positions());
    let n_truncated = texts.iter().filter(|t| t.len() > n_positions).count();
    let texts: Vec<&[u32]> = texts.iter().filter(|t| !t.is_empty()).map(|t| &t[..t.len().min(n_positions)]).collect();
    if texts.is_empty() {
        return Err(Error::Nothing { what: "neutral texts" });
    }
    let lengths: Vec<usize> = texts.iter().map(|t| t.len()).collect();
    let (mut sum, mut n, mut n_failed) = (0.0, 0, 0);
    // Two models' logits at once.
    for batch in batches(&lengths, batch_size, 2 * model.n_vocab()) {
        let rows: Vec<Vec<u32>> = batch.iter().map(|&i| texts[i].to_vec()).collect();
        let text = TextBatch::new(PaddedTokens::right_padded(&rows, 0)?, model.device());
        let by_token = no_grad(|| {
            let states = |model: &dyn BlockModel| states_at(&model.hidden_states(&text), &text.real_positions);
            head_divergences(
                &states(reference),
                &reference.head(),
                &states(model),
                &model.head(),
                model.logit_softcap(),
            )
            .values
        });
        let by_token = Vec::<f64>::try_from(by_token.to_kind(Kind::Double)).map_err(irepair_model::Error::from)?;
        let mut rest = by_token.as_slice();
        for &i in &batch {
            let (by_token, after) = rest.split_at(lengths[i]);
            rest = after;
            let kl = by_token.iter().sum::<f64>();
            sum += kl;
            if kl.is_finite() { n += lengths[i] } else { n_failed += lengths[i] }
        }
    }
    let definition = "KL(reference ‖ model) of next-token distributions on held-out neutral text, mean over all tokens";
    Ok(Divergence { metric: Metric::new(key::KL_HELDOUT, sum / n as f64, n, n_failed, definition), n_truncated })
}

fn same_kind_of_model(reference: &dyn BlockModel, model: &dyn BlockModel) -> Result<()> {
    same("vocabulary", reference.n_vocab().to_string(), model.n_vocab().to_string())?;
    // A soft prefix takes positions of the context.
    let context = |of: &dyn BlockModel| (of.n_positions() + of.n_soft_prefix()).to_string();
    same("context", context(reference), context(model))?;
    same("device", format!("{:?}", reference.device()), format!("{:?}", model.device()))
}

/// Refuses to compare models that differ in `what`.
pub(crate) fn same(what: &str, reference: String, model: String) -> Result<()> {
    if reference == model { Ok(()) } else { Err(Error::ModelsDiffer { what: what.to_owned(), reference, model }) }
}
