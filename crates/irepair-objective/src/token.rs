//! Log-probabilities of tokens, and which tokens count.

use irepair_core::Counts;
use tch::{Kind, Tensor};

use crate::{Error, Result, TokenScores};

/// A batch of texts with the logits that a model gave them.
///
/// # Shapes
/// - `ids`: `[batch, seq]` int64; `attention_mask`: `[batch, seq]` bool, `true` = real token
/// - `loss_mask`: `[batch, seq]` bool, `true` = this token's prediction may count
/// - `logits`: `[batch, seq, vocab]`, any float type
#[derive(Clone, Copy, Debug)]
pub struct TextLogits<'a> {
    /// Token ids.
    pub ids: &'a Tensor,
    /// Real tokens.
    pub attention_mask: &'a Tensor,
    /// Tokens whose prediction may count.
    pub loss_mask: &'a Tensor,
    /// What sums are divided by.
    pub counts: Counts,
    /// Next-token logits.
    pub logits: &'a Tensor,
}

impl<'a> TextLogits<'a> {
    /// A batch on its own; every real token may count.
    pub fn new(ids: &'a Tensor, attention_mask: &'a Tensor, logits: &'a Tensor) -> Self {
        let size = attention_mask.size();
        let sum = |mask: &Tensor| mask.sum(Kind::Double).double_value(&[]);
        let targets = if size[1] < 2 { 0.0 } else { sum(&counted_targets(attention_mask, attention_mask)) };
        let counts = Counts { targets, tokens: sum(attention_mask), texts: size[0] as f64 };
        Self { ids, attention_mask, loss_mask: attention_mask, counts, logits }
    }

    /// [`target_log_probs`], `[batch, seq - 1]`, 0 where a target does not count.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NothingCounted`] when no target counts.
    pub fn log_probs(&self) -> Result<TokenScores> {
        let size = self.ids.size();
        if self.logits.size().get(..2) != Some(size.as_slice()) {
            return Err(Error::ShapeMismatch { what: "logits", want: size, got: self.logits.size() });
        }
        if self.counts.targets == 0.0 {
            return Err(Error::NothingCounted { what: "text" });
        }
        let mask = counted_targets(self.attention_mask, self.loss_mask);
        let log_probs = target_log_probs(self.logits, self.ids);
        // Not a product with the mask: a padded position may hold an infinity, and 0 * inf is not 0.
        let values = log_probs.where_self(&mask, &log_probs.zeros_like());
        Ok(TokenScores { values, counts: self.counts })
    }
}

/// Which targets count: `[batch, seq - 1]` bool; entry `t` is about token `t + 1`.
///
/// A target counts when the loss mask allows it and both it and the token before it are real (METHOD §2: mask `m`).
pub fn counted_targets(attention_mask: &Tensor, loss_mask: &Tensor) -> Tensor {
    let n = attention_mask.size()[1] - 1;
    let (before, target) = (attention_mask.narrow(1, 0, n), attention_mask.narrow(1, 1, n));
    before.logical_and(&target).logical_and(&loss_mask.narrow(1, 1, n))
}

/// Log-probability of every token given those before it, in nats.
///
/// # Shapes
/// - `logits`: `[batch, seq, vocab]`; `ids`: `[batch, seq]` int64
/// - returns `[batch, seq - 1]` float32; entry `t` is `log p(ids[t + 1] | ids[..= t])`
///
/// # Source
/// METHOD §2 [D]: `logp_t = log softmax(z[:, t-1])[x_t]`, in float32.
pub fn target_log_probs(logits: &Tensor, ids: &Tensor) -> Tensor {
    let n = ids.size()[1] - 1;
    let predicted = logits.narrow(1, 0, n).to_kind(Kind::Float);
    let targets = ids.narrow(1, 1, n).unsqueeze(-1);
    // log softmax at one entry, without a second [batch, seq, vocab] tensor in the graph.
    predicted.gather(-1, &targets, false).squeeze_dim(-1) - predicted.logsumexp([-1].as_slice(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn uniform_logits_cost_ln_vocabulary_per_token() {
        let ids = Tensor::from_slice(&[1i64, 2, 3, 0]).view([1, 4]);
        let real = Tensor::from_slice(&[true, true, true, false]).view([1, 4]);
        let logits = Tensor::ones([1, 4, 7], (Kind::Float, Device::Cpu));
        let text = TextLogits::new(&ids, &real, &logits);
        assert!((text.log_probs().unwrap().nll_mean().unwrap().double_value(&[]) - 7f64.ln()).abs() < 1e-6);
        assert_eq!(text.counts, Counts { targets: 2.0, tokens: 3.0, texts: 1.0 });
    }

    #[test]
    fn a_first_token_behind_padding_is_not_scored_from_the_pad() {
        let real = Tensor::from_slice(&[false, true, true, true]).view([1, 4]);
        let mask = counted_targets(&real, &real);
        assert_eq!(Vec::<bool>::try_from(mask.view(-1)).unwrap(), [false, true, true]);
    }

    #[test]
    fn nothing_counted_is_an_error_not_a_nan() {
        let ids = Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu));
        let real = Tensor::from_slice(&[true, false, true]).view([1, 3]);
        let logits = Tensor::zeros([1, 3, 7], (Kind::Float, Device::Cpu));
        let text = TextLogits::new(&ids, &real, &logits);
        assert_eq!(text.log_probs().unwrap_err(), Error::NothingCounted { what: "text" });
    }
}
