//! What a loss is a function of: a score for every token that counts.

use irepair_core::Counts;
use tch::{Kind, Tensor};

use crate::kl::divergences;
use crate::token::{TextLogits, counted_log_probs};
use crate::{Error, Objective, Result};

/// The texts of one step with the logits the objective asked for. Reference logits carry no gradient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Views<'a> {
    /// Chosen texts under the model.
    pub chosen: Option<TextLogits<'a>>,
    /// Rejected texts under the model.
    pub rejected: Option<TextLogits<'a>>,
    /// Utility texts under the model.
    pub utility: Option<TextLogits<'a>>,
    /// Logits of the chosen texts under the reference, `[batch, seq, vocab]`.
    pub ref_chosen: Option<&'a Tensor>,
    /// Logits of the rejected texts under the reference.
    pub ref_rejected: Option<&'a Tensor>,
    /// Logits of the utility texts under the reference.
    pub ref_utility: Option<&'a Tensor>,
}

/// Scores of the tokens of a batch: log-probabilities, or divergences from the reference.
///
/// # Shapes
/// `values`: `[batch, n]` float32, a row per text, 0 where nothing counts
#[derive(Debug)]
pub struct TokenScores {
    /// The scores, nats.
    pub values: Tensor,
    /// What sums over them are divided by.
    pub counts: Counts,
}

impl TokenScores {
    fn sum(&self) -> Tensor {
        self.values.sum(Kind::Float)
    }

    fn counted(&self) -> Result<()> {
        if self.counts.targets == 0.0 { Err(Error::NothingCounted { what: "text" }) } else { Ok(()) }
    }

    /// Mean NLL per counted token, `[]`, of scores that are log-probabilities (METHOD §2 [D]: `NLL_tok`).
    pub(crate) fn nll_mean(&self) -> Result<Tensor> {
        self.counted()?;
        Ok(-self.sum() / self.counts.targets)
    }

    /// Log-probability of each text, `[batch]` (METHOD §2 [D, L]: `logp_seq`).
    pub(crate) fn sequence_log_probs(&self) -> Result<Tensor> {
        self.counted()?;
        Ok(self.values.sum_dim_intlist(-1, false, Kind::Float))
    }

    /// Mean divergence per real token, `[]` (METHOD §2 [D]).
    pub(crate) fn mean_kl(&self) -> Result<Tensor> {
        if self.counts.tokens == 0.0 {
            return Err(Error::NothingCounted { what: "utility text" });
        }
        Ok(self.sum() / self.counts.tokens)
    }
}

/// The scores that an objective asks for ([`Objective::needs`]); those of the reference carry no gradient.
#[derive(Debug, Default)]
pub struct Scores {
    /// Log-probabilities of the chosen texts under the model.
    pub chosen: Option<TokenScores>,
    /// Log-probabilities of the rejected texts under the model.
    pub rejected: Option<TokenScores>,
    /// [`TokenScores::values`] of the chosen texts under the reference.
    pub ref_chosen: Option<Tensor>,
    /// [`TokenScores::values`] of the rejected texts under the reference.
    pub ref_rejected: Option<Tensor>,
    /// `KL(reference ‖ model)` at every real token of the utility texts.
    pub utility: Option<TokenScores>,
}

impl Scores {
    /// The plain route: from the logits of every position.
    pub(crate) fn from_logits(objective: &Objective, views: &Views<'_>) -> Result<Self> {
        let needs = objective.needs();
        let given = |needed: bool, view: Option<TextLogits<'_>>, what| -> Result<Option<TokenScores>> {
            if !needed {
                return Ok(None);
            }
            let text = objective.given(view, what)?;
            Ok(Some(TokenScores { values: counted_log_probs(&text)?, counts: text.counts }))
        };
        let chosen = given(needs.chosen, views.chosen, "chosen text")?;
        let rejected = given(needs.rejected, views.rejected, "rejected text")?;
        let reference = |needed, view: Option<TextLogits<'_>>, logits: Option<&Tensor>| -> Result<Option<Tensor>> {
            let Some(text) = view.filter(|_| needed) else { return Ok(None) };
            let logits = objective.given(logits, "reference")?;
            Ok(Some(counted_log_probs(&TextLogits { logits, ..text })?.detach()))
        };
        let ref_chosen = reference(needs.ref_chosen, views.chosen, views.ref_chosen)?;
        let ref_rejected = reference(needs.ref_rejected, views.rejected, views.ref_rejected)?;
        let utility = if needs.utility {
            let text = objective.given(views.utility, "utility text")?;
            let ref_logits = objective.given(views.ref_utility, "reference")?;
            Some(TokenScores { values: divergences(ref_logits, &text)?, counts: text.counts })
        } else {
            None
        };
        Ok(Self { chosen, rejected, ref_chosen, ref_rejected, utility })
    }
}
