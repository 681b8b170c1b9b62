//! What a loss is a function of: a score for every token that counts.

use irepair_core::Counts;
use tch::{Kind, Tensor};

use crate::{Error, Result};

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
    /// Mean negative log-likelihood per counted token of the whole batch, `[]` float32, nats, of scores that are
    /// log-probabilities.
    ///
    /// # Errors
    /// [`Error::NothingCounted`] when no target counts.
    ///
    /// # Source
    /// METHOD §2 [D]: `NLL_tok`, one mean over all tokens of the batch.
    pub fn nll_mean(&self) -> Result<Tensor> {
        Ok(-self.mean(self.counts.targets, "text")?)
    }

    /// Log-probability of each whole text, `[batch]` float32, nats.
    ///
    /// # Errors
    /// [`Error::NothingCounted`] when no target counts.
    ///
    /// # Source
    /// METHOD §2 [D, L]: `logp_seq`, a sum over counted tokens.
    pub fn sequence_log_probs(&self) -> Result<Tensor> {
        if self.counts.targets == 0.0 {
            return Err(Error::NothingCounted { what: "text" });
        }
        Ok(self.values.sum_dim_intlist(-1, false, Kind::Float))
    }

    /// KL divergence from the reference to the model, mean over real tokens, `[]` float32, nats per token, of scores
    /// that are divergences.
    ///
    /// # Errors
    /// [`Error::NothingCounted`] when no token is real.
    ///
    /// # Source
    /// METHOD §2 [D]: `KL(theta0 || theta; U)`, forward direction, every real position counts, the last one too.
    pub fn mean_kl(&self) -> Result<Tensor> {
        self.mean(self.counts.tokens, "utility text")
    }

    fn mean(&self, n: f64, what: &'static str) -> Result<Tensor> {
        if n == 0.0 { Err(Error::NothingCounted { what }) } else { Ok(self.values.sum(Kind::Float) / n) }
    }
}

/// The scores that an objective asks for ([`crate::Objective::needs`]). From those of the reference no gradient is
/// taken.
#[derive(Debug, Default)]
pub struct Scores {
    /// Log-probabilities of the chosen texts under the model.
    pub chosen: Option<TokenScores>,
    /// Log-probabilities of the rejected texts under the model.
    pub rejected: Option<TokenScores>,
    /// Log-probabilities of the chosen texts under the reference.
    pub ref_chosen: Option<TokenScores>,
    /// Log-probabilities of the rejected texts under the reference.
    pub ref_rejected: Option<TokenScores>,
    /// `KL(reference ‖ model)` at every real token of the utility texts.
    pub utility: Option<TokenScores>,
}
