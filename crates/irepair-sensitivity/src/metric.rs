//! The metrics of METHOD §3 and the door to them.

use std::fmt;
use std::str::FromStr;

use irepair_core::Sensitivities;
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

/// How strongly the error moves a block (METHOD §3). `g` is the gradient of the mean NLL of the rejected texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `S_b = sqrt(sum_{p in b} |g_p|^2)`: the paper's [D].
    GradL2,
    /// `S_b / sqrt(n_b)`: root mean square gradient per weight [O].
    Density,
    /// `S_b / |theta_b|`: relative gradient norm [O].
    Relative,
    /// `sum_i |theta_i g_i|` with the batch gradient (SNIP).
    Snip,
    /// `sum_i mean_x g_i(x)^2` with per-text gradients: diagonal empirical Fisher [S].
    Fisher,
    /// `S_b(rejected) / (S_b(neutral) + eps)`, eps = 1e-12 [O].
    Contrast,
    /// Mean over pairs of the distance between block outputs on rejected and chosen text (DINM); no backward.
    ActDist,
    /// Attribution patching: `|sum_t <dL/dH_b[t], H_b(chosen)[t] - H_b(rejected)[t]>|`.
    Atp,
    /// Uniform noise in [0, 1): the control.
    Random,
}

impl Metric {
    const ALL: [(&'static str, Self); 9] = [
        ("grad-l2", Self::GradL2),
        ("density", Self::Density),
        ("relative", Self::Relative),
        ("snip", Self::Snip),
        ("fisher", Self::Fisher),
        ("contrast", Self::Contrast),
        ("act-dist", Self::ActDist),
        ("atp", Self::Atp),
        ("random", Self::Random),
    ];

    /// The metrics by the name they have on the command line.
    pub const NAMES: [&'static str; 9] = {
        let mut names = [""; 9];
        let mut i = 0;
        while i < names.len() {
            names[i] = Self::ALL[i].0;
            i += 1;
        }
        names
    };
}

impl Metric {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, m)| *m == self).map_or("", |(name, _)| name)
    }

    /// True for metrics that are a function of one gradient per block, so that they have a value at the mean gradient of
    /// many batches (METHOD §3). The others are made from single texts, activations or noise: only their mean is defined.
    pub fn has_mean_gradient(self) -> bool {
        match self {
            Self::GradL2 | Self::Density | Self::Relative | Self::Snip | Self::Contrast => true,
            Self::Fisher | Self::ActDist | Self::Atp | Self::Random => false,
        }
    }

    /// The metric from the gradient norms of the rejected and, for `contrast`, the neutral text; by block.
    ///
    /// # Errors
    /// [`Error::Missing`] when `contrast` is not given neutral norms; [`Error::NoMeanGradient`] for a metric that is no
    /// function of norms.
    pub(crate) fn of_norms(self, model: &CausalLm, norms: &[f64], neutral: Option<&[f64]>) -> Result<Vec<f64>> {
        Ok(match self {
            Self::GradL2 => norms.to_vec(),
            Self::Density => ratio(norms, block_sums(model, |t| t.numel() as f64).iter().map(|n| n.sqrt())),
            Self::Relative => {
                let squares = block_sums(model, |t| gradient::square_sum(t).double_value(&[]));
                ratio(norms, squares.iter().map(|n| n.sqrt()))
            }
            Self::Contrast => {
                let neutral = neutral.ok_or(Error::Missing { metric: self.name(), what: "neutral text" })?;
                ratio(norms, neutral.iter().map(|n| n + 1e-12))
            }
            _ => return Err(Error::NoMeanGradient { metric: self.name() }),
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(n, _)| *n == name);
        found.map(|(_, m)| *m).ok_or_else(|| Error::UnknownMetric { got: name.to_owned() })
    }
}

/// How gradient norms are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Weight gradients are computed and their norms taken: simple, the oracle.
    #[default]
    Stored,
    /// Norms from layer inputs and output gradients; no weight gradient is ever allocated (`grad-l2`, `density`,
    /// `relative` and `contrast` only; other metrics need the gradients and use [`Route::Stored`]).
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
        let values = match self.metric {
            Metric::GradL2 | Metric::Density | Metric::Relative => {
                self.metric.of_norms(model, &self.norms(model, rejected)?, None)?
            }
            Metric::Contrast => {
                let neutral = self.norms(model, self.given(self.neutral, "neutral text")?)?;
                self.metric.of_norms(model, &self.norms(model, rejected)?, Some(&neutral))?
            }
            Metric::Snip => gradient::snip(model, &gradient::error_gradients(model, rejected)?)?,
            Metric::Fisher => gradient::fisher(model, rejected)?,
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
            // Norms of a sum of micro-batches need the summed gradient itself.
            Route::Ghost if texts.len() == 1 => ghost::block_squares(model, &texts[0])?,
            Route::Ghost | Route::Stored => block_squares(model, &gradient::error_gradients(model, texts)?)?,
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
