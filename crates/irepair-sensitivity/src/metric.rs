//! Measures the metrics of METHOD §3. Which there are, and what each needs, stands in `irepair_core::spec`.

#![deny(clippy::wildcard_enum_match_arm)]

use std::sync::Arc;

use irepair_core::spec::{Metric, UnitKind};
use irepair_core::{BlockId, Sensitivities};
use irepair_model::{BlockMap, BlockModel, Fisher, GradFlags, Gradients, TextBatch};
use irepair_ranks::Ranks;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::block_sums::BlockSums;
use crate::top_share::{Members, TOP_SHARE};
use crate::{Error, Result, activation, eap_ig, ghost, gradient, mask, patching, snip_diff, wanda_diff};

/// The metric per block from squared norms of the gradients of the rejected and, for `contrast`, the neutral text.
/// Gradients are sums over `n_batches` batches; the metric is taken at their mean. The host waits for the device once.
///
/// # Errors
/// [`Error::NoMeanGradient`] for a metric that is no function of norms; when the copy to the host fails.
pub(crate) fn of_squares(
    metric: Metric,
    map: &BlockMap,
    weights: &[&Tensor],
    rejected: BlockSums,
    neutral: BlockSums,
    n_batches: usize,
) -> Result<Vec<f64>> {
    let (by, compared) = match metric {
        Metric::GradL2 => (By::Nothing, BlockSums::default()),
        Metric::Density => (By::Size, BlockSums::default()),
        Metric::Relative => {
            let weights = weights.iter().copied().enumerate();
            let squares = BlockSums::over(map, weights, |_, weight| gradient::square_sum(weight));
            (By::Norm { n_batches: 1, plus: 0.0 }, squares)
        }
        Metric::Contrast => (By::Norm { n_batches, plus: 1e-12 }, neutral),
        Metric::Snip
        | Metric::Fisher
        | Metric::Efficiency
        | Metric::ActDist
        | Metric::Atp
        | Metric::EapIg
        | Metric::Patching
        | Metric::SnipDiff
        | Metric::WandaDiff
        | Metric::Mask
        | Metric::Random => {
            return Err(Error::NoMeanGradient { metric: metric.name() });
        }
    };
    let mut sums = BlockSums::read(&[rejected, compared], map.n_blocks())?.into_iter().map(|squares| roots(&squares));
    let (Some(rejected), Some(compared)) = (sums.next(), sums.next()) else { unreachable!("two were read") };
    let norms: Vec<f64> = rejected.into_iter().map(|norm| norm / n_batches as f64).collect();
    Ok(match by {
        By::Nothing => norms,
        By::Size => ratio(&norms, n_weights(map, weights).into_iter().map(|n| (n as f64).sqrt())),
        By::Norm { n_batches, plus } => ratio(&norms, compared.into_iter().map(|norm| norm / n_batches as f64 + plus)),
    })
}

/// What a block's norm is divided by.
enum By {
    Nothing,
    /// The root of its number of weights.
    Size,
    /// Another norm, of a sum over so many batches, and a number that keeps it from 0.
    Norm {
        n_batches: usize,
        plus: f64,
    },
}

/// The block of every parameter.
///
/// # Errors
/// [`Error::NoSuchBlock`].
pub(crate) fn block_map(model: &dyn BlockModel) -> Result<BlockMap> {
    let n_blocks = model.n_blocks();
    match model.parameters().iter().filter_map(|parameter| parameter.block).find(|block| block.0 >= n_blocks) {
        Some(BlockId(block)) => Err(Error::NoSuchBlock { block, n_blocks }),
        None => Ok(model.block_map()),
    }
}

/// Number of weights of every block (METHOD §1: `n_b`).
pub(crate) fn n_weights(map: &BlockMap, weights: &[&Tensor]) -> Vec<usize> {
    let mut by_block = vec![0; map.n_blocks()];
    for (index, weight) in weights.iter().enumerate() {
        if let Some(BlockId(block)) = map.block(index) {
            by_block[block] += weight.numel();
        }
    }
    by_block
}

/// How gradient norms are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Weight gradients are computed and their norms taken: simple, the oracle.
    #[default]
    Stored,
    /// Norms from layer inputs and output gradients; no weight gradient is ever allocated. Only for metrics whose
    /// evidence is `GradientNorms`, on one batch, and for models that show every layer of their blocks to the probe;
    /// otherwise [`Route::Stored`] is taken.
    Ghost,
}

/// The texts of a measurement; those of one kind are one batch, or micro-batches of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Texts with the error, which every metric reads.
    pub rejected: &'a [&'a TextBatch],
    /// The chosen texts, pair by pair with the rejected ones (`act-dist`, `atp`, `eap-ig`,
    /// `patching`, `mask`).
    pub chosen: &'a [&'a TextBatch],
    /// Neutral text (`contrast`, `snip-diff`, `wanda-diff`).
    pub neutral: &'a [&'a TextBatch],
}

impl<'a> Texts<'a> {
    /// Rejected texts without any to compare with.
    pub fn of(rejected: &'a [&'a TextBatch]) -> Self {
        Self { rejected, chosen: &[], neutral: &[] }
    }
}

/// The texts, which must be there.
pub(crate) fn given<'a>(metric: Metric, texts: &'a [&'a TextBatch], what: &'static str) -> Result<&'a [&'a TextBatch]> {
    if texts.is_empty() { Err(Error::Missing { metric: metric.name(), what }) } else { Ok(texts) }
}

/// A measurement.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Which number says how sensitive a block is.
    pub metric: Metric,
    /// How gradient norms are taken.
    pub route: Route,
    /// Seeds the control metric `random`.
    pub seed: u64,
    /// The Fisher matrix of the model that a repair starts from (`efficiency`).
    pub fisher: Option<Fisher>,
    /// Processes that share the micro-batches of metrics of weight gradients; each measures the others whole.
    pub ranks: Option<Arc<dyn Ranks>>,
}

impl Measure {
    /// A measurement by the plain route.
    pub fn new(metric: Metric) -> Self {
        Self { metric, route: Route::Stored, seed: 0, fisher: None, ranks: None }
    }

    /// Takes gradient norms by `route`.
    #[must_use]
    pub fn by(self, route: Route) -> Self {
        Self { route, ..self }
    }

    /// One value per block. Leaves the model's weights and gradient flags as they were.
    ///
    /// # Errors
    /// A value that is not finite, naming the block; [`Error::Missing`] when there is no rejected text, or the metric's
    /// other text was not given; [`Error::NoBlockOutputs`]; [`Error::NoLayerInputs`]; [`Error::NoGates`];
    /// [`Error::NoSuchBlock`].
    ///
    /// # Source
    /// METHOD §3.
    pub fn of(&self, model: &dyn BlockModel, texts: &Texts<'_>) -> Result<Sensitivities> {
        let given = |texts, what| given(self.metric, texts, what);
        let rejected = given(texts.rejected, "rejected text")?;
        let _flags = GradFlags::of(model);
        let (map, weights) = (block_map(model)?, gradient::weights(model));
        // `g` is the gradient of the mean NLL of the rejected texts, `S_b = sqrt(sum_{p in b} |g_p|^2)`.
        let values = match self.metric {
            Metric::GradL2 | Metric::Density | Metric::Relative => {
                of_squares(self.metric, &map, &weights, self.squares(model, rejected)?, BlockSums::default(), 1)?
            }
            Metric::Contrast => {
                let neutral = self.squares(model, given(texts.neutral, "neutral text")?)?;
                of_squares(self.metric, &map, &weights, self.squares(model, rejected)?, neutral, 1)?
            }
            Metric::Snip => gradient::snip(&map, &weights, &self.gradients(model, rejected)?)?,
            Metric::Fisher => gradient::fisher(model, rejected)?,
            Metric::Efficiency => {
                let missing =
                    Error::Missing { metric: self.metric.name(), what: "a Fisher matrix, made of neutral text" };
                gradient::efficiency(&map, self.fisher.as_ref().ok_or(missing)?, &self.gradients(model, rejected)?)?
            }
            Metric::ActDist => activation::distance(model, rejected, given(texts.chosen, "chosen text")?)?,
            Metric::Atp => activation::attribution(model, rejected, given(texts.chosen, "chosen text")?)?,
            Metric::EapIg => eap_ig::attribution(model, rejected, given(texts.chosen, "chosen text")?)?,
            Metric::Patching => patching::drops(model, rejected, given(texts.chosen, "chosen text")?)?,
            Metric::SnipDiff | Metric::WandaDiff => self.left(model, texts)?.shares(&map)?,
            Metric::Mask => mask::closed(model, rejected, given(texts.chosen, "chosen text")?, UnitKind::Block)?,
            Metric::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                (0..map.n_blocks()).map(|_| rng.random()).collect()
            }
        };
        Ok(Sensitivities::new(values)?)
    }

    /// The weights that `snip-diff` or `wanda-diff` count.
    pub(crate) fn left(&self, model: &dyn BlockModel, texts: &Texts<'_>) -> Result<Members> {
        let top = |texts, what| {
            let texts = given(self.metric, texts, what)?;
            if self.metric == Metric::WandaDiff {
                return wanda_diff::top(model, texts, TOP_SHARE);
            }
            snip_diff::top(&gradient::weights(model), &self.gradients(model, texts)?, TOP_SHARE)
        };
        Ok(top(texts.rejected, "rejected text")?.without(top(texts.neutral, "neutral text")?))
    }

    /// Gradients of the texts, shared among the ranks where there are several.
    pub(crate) fn gradients(&self, model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<Gradients> {
        match &self.ranks {
            Some(ranks) => gradient::over_ranks(model, texts, &**ranks),
            None => gradient::error_gradients(model, texts),
        }
    }

    /// Squared gradient norms per block, on the device.
    fn squares(&self, model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<BlockSums> {
        // Norms of a sum of micro-batches need the summed gradient itself.
        if let (Route::Ghost, [text]) = (self.route, texts)
            && let Some(squares) = ghost::squares(model, text)?
        {
            return Ok(squares);
        }
        Ok(gradient::squares(&model.block_map(), &self.gradients(model, texts)?))
    }
}

fn roots(squares: &[f64]) -> Vec<f64> {
    squares.iter().map(|square| square.sqrt()).collect()
}

fn ratio(numerators: &[f64], denominators: impl Iterator<Item = f64>) -> Vec<f64> {
    numerators.iter().zip(denominators).map(|(a, b)| quotient(*a, b)).collect()
}

/// `a / b`, and 0 for 0 / 0, as of a dead neuron, or a block without weights (METHOD §3).
pub(crate) fn quotient(a: f64, b: f64) -> f64 {
    if a == 0.0 && b == 0.0 { 0.0 } else { a / b }
}
