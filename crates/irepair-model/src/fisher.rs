//! The diagonal of a model's Fisher matrix on neutral text: what moving each weight costs in KL, near the weights as
//! they are.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor, no_grad};

use irepair_core::{PaddedTokens, Scope};

use crate::{BlockModel, Error, GradFlags, Result, TextBatch, host, seed_of};

/// Makes the draws of labels differ from other uses of the same seed.
const DOMAIN: u64 = 0x6669_7368_6572;

/// `diag F + lambda`, float32, one tensor for each parameter of a model, in their order and shapes.
///
/// Near the weights where it was taken, changing them by `delta` costs about `1/2 sum_i F_i delta_i^2` nats of KL a
/// token on such text, as far as the diagonal tells.
#[derive(Debug)]
pub struct Fisher(Vec<Tensor>);

impl Fisher {
    /// The matrix of `model` on `texts`, with `damping` times the mean of its diagonal added to every entry.
    ///
    /// Labels are drawn from the model, not taken from the text: `seed` is of these draws. Leaves weights and gradient
    /// flags as they were.
    ///
    /// # Errors
    /// [`irepair_core::Error::NoTokens`] without texts; [`Error::ContextOverflow`]; [`Error::NotFinite`] when logits
    /// or gradients overflow.
    ///
    /// # Source
    /// METHOD §27 [O]: `F = 1/T sum_x (d/dtheta sum_t log p(y_t))^2`, `y_t ~ p(. | x_<t)`, with `T` the tokens of all
    /// texts `x`: gradients of different positions have no correlation, so that the mean square of their sum is the sum
    /// of their mean squares.
    pub fn estimate(model: &dyn BlockModel, texts: &[Vec<u32>], damping: f64, seed: u64) -> Result<Self> {
        let _flags = GradFlags::of(model);
        model.train_only(&Scope::Everything);
        let zeros = |p: &crate::Parameter| Tensor::zeros(p.tensor.size(), (Kind::Float, p.tensor.device()));
        let mut sums: Vec<Tensor> = model.parameters().iter().map(zeros).collect();
        let mut n_tokens = 0;
        for (i, text) in texts.iter().enumerate() {
            model.check_length(text.len())?;
            let batch = TextBatch::new(PaddedTokens::right_padded(std::slice::from_ref(text), 0)?, model.device());
            let log_probs = model.logits(&batch).log_softmax(-1, Kind::Float);
            let mut rng = ChaCha8Rng::seed_from_u64(seed_of(&[DOMAIN, seed, i as u64]));
            let labels = no_grad(|| draw(&log_probs, &mut rng));
            let score = log_probs.gather(-1, &labels, false).sum(Kind::Float);
            for (index, gradient) in model.gradients(&score)? {
                no_grad(|| drop(sums[index].g_add_(&gradient.to_kind(Kind::Float).square())));
            }
            n_tokens += text.len();
        }
        if n_tokens == 0 {
            return Err(irepair_core::Error::NoTokens.into());
        }
        no_grad(|| sums.iter_mut().for_each(|sum| drop(sum.g_div_scalar_(n_tokens as f64))));
        Self::of(sums, damping)
    }

    /// From the diagonal itself, one tensor for each parameter.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when an entry is not finite.
    pub fn of(diagonal: Vec<Tensor>, damping: f64) -> Result<Self> {
        let totals: Vec<Tensor> = diagonal.iter().map(|f| no_grad(|| f.sum(Kind::Double))).collect();
        let n: usize = diagonal.iter().map(Tensor::numel).sum();
        let lambda = damping * host::numbers(&totals)?.iter().sum::<f64>() / n as f64;
        if !lambda.is_finite() {
            return Err(Error::NotFinite);
        }
        // An entry of 0 would divide by 0 where nothing is added.
        let damped = |mut f: Tensor| no_grad(|| f.g_add_scalar_(lambda).clamp_min(f64::from(f32::MIN_POSITIVE)));
        Ok(Self(diagonal.into_iter().map(damped).collect()))
    }

    /// `F + lambda` of one parameter, by index.
    pub fn damped(&self, index: usize) -> &Tensor {
        &self.0[index]
    }

    /// `g' (F + lambda)^-1 g` of one parameter, `[]` float32.
    pub fn efficiency(&self, index: usize, gradient: &Tensor) -> Tensor {
        no_grad(|| (gradient.to_kind(Kind::Float).square() / self.damped(index)).sum(Kind::Float))
    }
}

/// The same memory: its values never change.
impl Clone for Fisher {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(Tensor::shallow_clone).collect())
    }
}

/// A token for every position, drawn from `log_probs`, `[batch, seq, vocab] -> [batch, seq, 1]`.
fn draw(log_probs: &Tensor, rng: &mut impl Rng) -> Tensor {
    let (batch, seq, n_vocab) = log_probs.size3().unwrap_or_default();
    let draws: Vec<f32> = (0..batch * seq).map(|_| rng.random()).collect();
    let draws = Tensor::from_slice(&draws).view([batch, seq, 1]).to_device(log_probs.device());
    // The cumulated probability ends near 1, and a draw may lie above that end.
    let below = log_probs.exp().cumsum(-1, Kind::Float).le_tensor(&draws);
    below.sum_dim_intlist([-1].as_slice(), true, Kind::Int64).clamp_max(n_vocab - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_as_often_as_the_model_says() {
        let p = [0.5f32, 0.0, 0.375, 0.125];
        let log_probs = Tensor::from_slice(&p).log().view([1, 1, 4]).repeat([1, 8000, 1]);
        let labels = draw(&log_probs, &mut ChaCha8Rng::seed_from_u64(3));
        let labels = Vec::<i64>::try_from(labels.view(-1)).unwrap();
        for (token, p) in p.into_iter().enumerate() {
            let share = labels.iter().filter(|label| **label == token as i64).count() as f64 / 8000.0;
            // Five standard deviations of a share of 8,000 draws.
            assert!((share - f64::from(p)).abs() <= 5.0 * (0.25f64 / 8000.0).sqrt(), "{token}: {share}");
        }
        assert!(!labels.contains(&1), "a token without probability");
    }

    #[test]
    fn damping_is_a_share_of_the_mean_over_all_parameters() {
        let diagonal = || vec![Tensor::from_slice(&[1.0f32, 3.0]), Tensor::from_slice(&[0.0f32, 4.0])];
        let damped =
            |damping, index| Vec::<f32>::try_from(Fisher::of(diagonal(), damping).unwrap().damped(index)).unwrap();
        assert_eq!([damped(0.5, 0), damped(0.5, 1)], [[2.0, 4.0], [1.0, 5.0]]);
        assert_eq!(damped(0.0, 1), [f32::MIN_POSITIVE, 4.0]);
        assert!(matches!(Fisher::of(vec![Tensor::from_slice(&[f32::NAN])], 0.1), Err(Error::NotFinite)));
    }
}
