//! The KL constraint: how far the model has moved from the reference on utility text.

use tch::{Kind, Tensor};

use crate::{Error, Result, TextLogits, TokenScores};

impl TextLogits<'_> {
    /// KL divergence from the reference to the model at every real token, in nats; 0 elsewhere.
    ///
    /// # Shapes
    /// - `ref_logits`: `[batch, seq, vocab]`, any float type, on the device of the model's logits
    /// - returns `[batch, seq]` float32; the gradient reaches the model's logits only
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the logits differ in shape.
    ///
    /// # Source
    /// METHOD §2 [D]: forward direction, every real position, the last one too.
    pub fn divergences(&self, ref_logits: &Tensor) -> Result<TokenScores> {
        if ref_logits.size() != self.logits.size() {
            let (want, got) = (ref_logits.size(), self.logits.size());
            return Err(Error::ShapeMismatch { what: "model logits", want, got });
        }
        let reference = ref_logits.detach().log_softmax(-1, Kind::Float);
        let log_probs = self.logits.log_softmax(-1, Kind::Float);
        let by_position = (reference.exp() * (&reference - log_probs)).sum_dim_intlist(-1, false, Kind::Float);
        let values = by_position.where_self(self.attention_mask, &by_position.zeros_like());
        Ok(TokenScores { values, counts: self.counts })
    }
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
        assert_eq!(view.divergences(&reference).unwrap().mean_kl().unwrap().double_value(&[]), 0.0);
        let view = TextLogits::new(&ids, &real, &model);
        let want = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
        assert!((view.divergences(&reference).unwrap().mean_kl().unwrap().double_value(&[]) - want).abs() < 1e-7);
    }
}
