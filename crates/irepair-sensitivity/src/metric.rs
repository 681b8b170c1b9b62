//! The metrics of METHOD §3 and the door to them.

use std::fmt;
use std::str::FromStr;

use irepair_core::{BlockId, Sensitivities};
use irepair_model::{CausalLm, TextBatch};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::block_sums::BlockSums;
use crate::{Error, Result, activation, ghost, gradient};

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

    /// The metric per block from squared norms of the gradients of the rejected and, for `contrast`, the neutral text.
    /// Gradients are sums over `n_batches` batches; the metric is taken at their mean. The host waits for the device once.
    ///
    /// # Errors
    /// [`Error::Missing`] when `contrast` is not given neutral text; [`Error::NoMeanGradient`] for a metric that is no
    /// function of norms; when the copy to the host fails.
    pub(crate) fn of_squares(
        self,
        model: &CausalLm,
        rejected: BlockSums,
        neutral: Option<BlockSums>,
        n_batches: usize,
    ) -> Result<Vec<f64>> {
        let compared = match self {
            Self::GradL2 | Self::Density => BlockSums::default(),
            Self::Relative => {
                let weights = model.parameters().iter().map(|parameter| &parameter.tensor).enumerate();
                BlockSums::over(model, weights, |_, weights| gradient::square_sum(weights))
            }
            Self::Contrast => neutral.ok_or(Error::Missing { metric: self.name(), what: "neutral text" })?,
            Self::Snip | Self::Fisher | Self::ActDist | Self::Atp | Self::Random => {
                return Err(Error::NoMeanGradient { metric: self.name() });
            }
        };
        let n_blocks = model.n_blocks();
        let mut sums = BlockSums::read(&[rejected, compared], n_blocks)?.into_iter().map(|squares| roots(&squares));
        let (Some(rejected), Some(compared)) = (sums.next(), sums.next()) else { unreachable!("two were read") };
        let mean = |norm: f64| norm / n_batches as f64;
        let norms: Vec<f64> = rejected.into_iter().map(mean).collect();
        Ok(match self {
            Self::Density => ratio(&norms, (0..n_blocks).map(|b| (model.n_block_weights(BlockId(b)) as f64).sqrt())),
            Self::Relative => ratio(&norms, compared.into_iter()),
            Self::Contrast => ratio(&norms, compared.into_iter().map(|norm| mean(norm) + 1e-12)),
            _ => norms,
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

/// A measurement: the metric and the texts it compares with.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    metric: Metric,
    route: Route,
    chosen: &'a [&'a TextBatch],
    neutral: &'a [&'a TextBatch],
    seed: u64,
}

impl<'a> Measure<'a> {
    /// A measurement by the plain route, without text to compare with.
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
    pub fn against(self, chosen: &'a [&'a TextBatch]) -> Self {
        Self { chosen, ..self }
    }

    /// Gives neutral text (`contrast`).
    #[must_use]
    pub fn with_neutral(self, neutral: &'a [&'a TextBatch]) -> Self {
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
    pub fn of(&self, model: &CausalLm, rejected: &[&TextBatch]) -> Result<Sensitivities> {
        if rejected.is_empty() {
            return Err(Error::Missing { metric: self.metric.name(), what: "rejected text" });
        }
        let n = model.n_blocks();
        let values = match self.metric {
            Metric::GradL2 | Metric::Density | Metric::Relative => {
                self.metric.of_squares(model, self.squares(model, rejected)?, None, 1)?
            }
            Metric::Contrast => {
                let neutral = self.squares(model, self.given(self.neutral, "neutral text")?)?;
                self.metric.of_squares(model, self.squares(model, rejected)?, Some(neutral), 1)?
            }
            Metric::Snip => gradient::snip(model, &gradient::error_gradients(model, rejected)?)?,
            Metric::Fisher => gradient::fisher(model, rejected)?,
            Metric::ActDist => activation::distance(model, rejected, self.given(self.chosen, "chosen text")?)?,
            Metric::Atp => activation::attribution(model, rejected, self.given(self.chosen, "chosen text")?)?,
            Metric::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                (0..n).map(|_| rng.random()).collect()
            }
        };
        model.freeze();
        Ok(Sensitivities::new(values)?)
    }

    /// Squared gradient norms per block, on the device.
    fn squares(&self, model: &CausalLm, texts: &[&TextBatch]) -> Result<BlockSums> {
        match (self.route, texts) {
            (Route::Ghost, [text]) => ghost::squares(model, text),
            // Norms of a sum of micro-batches need the summed gradient itself.
            (Route::Stored | Route::Ghost, _) => {
                Ok(gradient::squares(model, &gradient::error_gradients(model, texts)?))
            }
        }
    }

    fn given(&self, texts: &'a [&'a TextBatch], what: &'static str) -> Result<&'a [&'a TextBatch]> {
        if texts.is_empty() { Err(Error::Missing { metric: self.metric.name(), what }) } else { Ok(texts) }
    }
}

fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|square| square.sqrt()).collect()
}

fn ratio(numerators: &[f64], denominators: impl Iterator<Item = f64>) -> Vec<f64> {
    numerators.iter().zip(denominators).map(|(a, b)| a / b).collect()
}
