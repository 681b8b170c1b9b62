//! Measures the metrics of METHOD §3. Which there are, and what each needs, stands in `irepair_core::spec`.

#![deny(clippy::wildcard_enum_match_arm)]

use irepair_core::Sensitivities;
use irepair_core::spec::Metric;
use irepair_model::{CausalLm, TokenBatch};
use irepair_objective::{Counts, TextLogits};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::gradient::block_squares;
use crate::{Error, Result, activation, ghost, gradient};

/// A batch of texts to measure on: error-inducing, chosen or neutral.
#[derive(Clone, Copy, Debug)]
pub struct ErrorText<'a> {
    /// Ids and real tokens, `[batch, seq]`.
    pub tokens: &'a TokenBatch,
    /// `[batch, seq]` bool: tokens whose prediction counts.
    pub scored: &'a Tensor,
    /// What sums over the texts are divided by.
    pub counts: Counts,
    /// Columns before the continuations start.
    pub n_prompt_cols: usize,
}

impl ErrorText<'_> {
    pub(crate) fn with<'a>(&'a self, logits: &'a Tensor) -> TextLogits<'a> {
        TextLogits { ids: &self.tokens.ids, real: &self.tokens.real, scored: self.scored, counts: self.counts, logits }
    }
}

/// How gradient norms are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Weight gradients are computed and their norms taken: simple, the oracle.
    #[default]
    Stored,
    /// Norms from layer inputs and output gradients; no weight gradient is ever allocated. Only for metrics whose evidence is
    /// `GradientNorms`; the others that read gradients use [`Route::Stored`].
    Ghost,
}

/// A measurement about to be taken: the metric and the texts it compares with.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    metric: Metric,
    route: Route,
    chosen: &'a [ErrorText<'a>],
    neutral: &'a [ErrorText<'a>],
    seed: u64,
}

impl<'a> Measure<'a> {
    /// A measurement by the plain route, with nothing to compare with.
    pub fn new(metric: Metric) -> Self {
        Self { metric, route: Route::Stored, chosen: &[], neutral: &[], seed: 0 }
    }

    /// Takes gradient norms by `route`.
    #[must_use]
    pub fn by(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// Gives the chosen texts, pair by pair with the rejected ones (`act-dist`, `atp`).
    #[must_use]
    pub fn against(self, chosen: &'a [ErrorText<'a>]) -> Self {
        Self { chosen, ..self }
    }

    /// Gives neutral text (`contrast`).
    #[must_use]
    pub fn beside(self, neutral: &'a [ErrorText<'a>]) -> Self {
        Self { neutral, ..self }
    }

    /// Seeds the control metric `random`.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// One value per block, on the given rejected texts (one batch, or micro-batches of one batch).
    ///
    /// # Errors
    /// A value that is not finite, naming the block; [`Error::Missing`] when there is no rejected text, or the metric's
    /// other text was not given.
    ///
    /// # Source
    /// METHOD §3.
    pub fn of(&self, model: &CausalLm, rejected: &[ErrorText<'_>]) -> Result<Sensitivities> {
        if rejected.is_empty() {
            return Err(Error::Missing { metric: self.metric.name(), what: "rejected text" });
        }
        // `g` is the gradient of the mean NLL of the rejected texts, `S_b = sqrt(sum_{p in b} |g_p|^2)`.
        let values = match self.metric {
            Metric::GradL2 => self.norms(model, rejected)?,
            Metric::Density => {
                let weights = block_sums(model, |t| t.numel() as f64);
                ratio(&self.norms(model, rejected)?, weights.iter().map(|n| n.sqrt()))
            }
            Metric::Relative => {
                let squares = block_sums(model, |t| gradient::square_sum(t).double_value(&[]));
                ratio(&self.norms(model, rejected)?, squares.iter().map(|n| n.sqrt()))
            }
            Metric::Snip => gradient::snip(model, rejected)?,
            Metric::Fisher => gradient::fisher(model, rejected)?,
            Metric::Contrast => {
                let neutral = self.given(self.neutral, "neutral text")?;
                ratio(&self.norms(model, rejected)?, self.norms(model, neutral)?.iter().map(|n| n + 1e-12))
            }
            Metric::ActDist => activation::distance(model, rejected, self.given(self.chosen, "chosen text")?)?,
            Metric::Atp => activation::attribution(model, rejected, self.given(self.chosen, "chosen text")?)?,
            Metric::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                (0..model.n_blocks()).map(|_| rng.random()).collect()
            }
        };
        model.freeze();
        Ok(Sensitivities::new(values)?)
    }

    fn norms(&self, model: &CausalLm, texts: &[ErrorText<'_>]) -> Result<Vec<f64>> {
        let squares = match self.route {
            Route::Stored => block_squares(model, &gradient::error_gradients(model, texts)?),
            // Norms of a sum of micro-batches need the summed gradient itself.
            Route::Ghost if texts.len() == 1 => ghost::block_squares(model, &texts[0])?,
            Route::Ghost => block_squares(model, &gradient::error_gradients(model, texts)?),
        };
        Ok(squares.into_iter().map(f64::sqrt).collect())
    }

    fn given(&self, texts: &'a [ErrorText<'a>], what: &'static str) -> Result<&'a [ErrorText<'a>]> {
        if texts.is_empty() { Err(Error::Missing { metric: self.metric.name(), what }) } else { Ok(texts) }
    }
}

/// Sums `of` over the parameters of each block.
fn block_sums(model: &CausalLm, of: impl Fn(&Tensor) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; model.n_blocks()];
    for parameter in model.parameters() {
        if let Some(block) = parameter.block {
            sums[block.0] += of(&parameter.tensor);
        }
    }
    sums
}

fn ratio(numerators: &[f64], denominators: impl Iterator<Item = f64>) -> Vec<f64> {
    numerators.iter().zip(denominators).map(|(a, b)| a / b).collect()
}
