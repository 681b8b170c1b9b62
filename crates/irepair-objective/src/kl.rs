//! The KL constraint: how far the model has moved from the reference on utility text.

use tch::{Kind, Tensor};

use crate::scores::TokenScores;
use crate::{Error, Result, TextLogits};

/// KL divergence from the reference to the model, mean over real tokens, in nats per token.
///
/// # Shapes
/// - `ref_logits`: `[batch, seq, vocab]`, any float type, on the device of `model`
/// - `model`: utility texts under the model; every real token counts
/// - returns `[]` float32, at least 0; the gradient reaches the model's logits only
///
/// # Errors
/// [`Error::ShapeMismatch`] when the logits differ in shape; [`Error::NothingCounted`] when no token is real.
///
/// # Source
/// METHOD §2 [D]: `KL(theta0 || theta; U)`, forward direction, every real position counts, the last one too.
pub fn kl_ref_model(ref_logits: &Tensor, model: &TextLogits<'_>) -> Result<Tensor> {
    TokenScores { values: divergences(ref_logits, model)?, counts: model.counts }.mean_kl()
}

/// The divergence at every position, `[batch, seq]` float32, 0 where no token is real.
pub(crate) fn divergences(ref_logits: &Tensor, model: &TextLogits<'_>) -> Result<Tensor> {
    if ref_logits.size() != model.logits.size() {
        let (want, got) = (ref_logits.size(), model.logits.size());
        return Err(Error::ShapeMismatch { what: "model logits", want, got });
    }
    let reference = ref_logits.detach().log_softmax(-1, Kind::Float);
    let log_probs = model.logits.log_softmax(-1, Kind::Float);
    let by_position = (reference.exp() * (&reference - log_probs)).sum_dim_intlist(-1, false, Kind::Float);
    Ok(by_position.where_self(model.attention_mask, &by_position.zeros_like()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn kl_is_zero_on_equal_logits_and_by_hand_elsewhere() {
        let ids = Tensor::zeros([1, 2], (Kind::Int64, Device::Cpu));
        let real = Tensor::from_slice(&[true, false]).view([1, 2]);
        let logits = |p: f64| {
            let row = Tensor::from_slice(&[p.ln(), (1.0 - p).ln()]);
            Tensor::cat(&[row.view([1, 1, 2]), Tensor::full([1, 1, 2], f64::NAN, (Kind::Double, Device::Cpu))], 1)
        };
        let (reference, model) = (logits(0.25), logits(0.5));
        let view = TextLogits::new(&ids, &real, &reference);
        assert_eq!(kl_ref_model(&reference, &view).unwrap().double_value(&[]), 0.0);
        let view = TextLogits::new(&ids, &real, &model);
        let want = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((kl_ref_model(&reference, &view).unwrap().double_value(&[]) - want).abs() < 1e-7);
    }
}
