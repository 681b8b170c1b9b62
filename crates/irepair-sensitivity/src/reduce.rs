//! Sensitivities over many batches: the metric at the mean gradient, or the mean of the batches' metrics. They differ.

use irepair_core::Sensitivities;
use irepair_core::spec::Against;
use irepair_model::{BlockModel, Gradients, add_gradients};
use tch::Tensor;

use crate::gradient::{snip, squares, weights};
use crate::metric::{block_map, given, of_squares};
use crate::top_share::{Members, TOP_SHARE};
use crate::{Error, Metric, Result, Texts, error_gradients, snip_diff};

/// `norm_of_mean`: adds up gradients batch by batch, then takes the metric at their mean.
///
/// # Source
/// METHOD §3: `G = (1/n) sum_i g(batch_i)`, and the metric's formula with `G` for `g`; [D] for `grad-l2`, the estimate
/// behind fixed selection, [O] for the other metrics.
#[derive(Debug)]
pub struct MeanGradient {
    metric: Metric,
    rejected: Gradients,
    /// Of neutral text, where the metric compares with it.
    neutral: Gradients,
    n_batches: usize,
}

impl MeanGradient {
    /// A mean without batches.
    ///
    /// # Errors
    /// [`Error::NoMeanGradient`] for a metric that is no function of the mean gradient.
    pub fn new(metric: Metric) -> Result<Self> {
        if !metric.has_mean_gradient() {
            return Err(Error::NoMeanGradient { metric: metric.name() });
        }
        Ok(Self { metric, rejected: Gradients::new(), neutral: Gradients::new(), n_batches: 0 })
    }

    /// Adds the gradients of one batch; neutral text is read by `contrast` and `snip-diff` alone.
    ///
    /// # Errors
    /// [`Error::Missing`] when a text that the metric needs is not there; otherwise as [`error_gradients`].
    pub fn add(&mut self, model: &dyn BlockModel, texts: &Texts<'_>) -> Result<()> {
        let gradients = |texts, what| error_gradients(model, given(self.metric, texts, what)?);
        add_gradients(&mut self.rejected, gradients(texts.rejected, "rejected text")?);
        if self.metric.row().against == Against::Neutral {
            add_gradients(&mut self.neutral, gradients(texts.neutral, "neutral text")?);
        }
        self.n_batches += 1;
        Ok(())
    }

    /// The metric, and the number of batches.
    ///
    /// # Errors
    /// When nothing was added.
    pub(crate) fn counted(&self) -> Result<(Metric, usize)> {
        match self.n_batches {
            0 => Err(Error::Missing { metric: self.metric.name(), what: "at least one batch" }),
            n => Ok((self.metric, n)),
        }
    }

    /// Gradients on rejected text, added up.
    pub(crate) fn rejected(&self) -> &Gradients {
        &self.rejected
    }

    /// Gradients on neutral text, added up.
    pub(crate) fn neutral(&self) -> &Gradients {
        &self.neutral
    }

    /// The weights that `snip-diff` counts. A mean has the order of its sum.
    pub(crate) fn left(&self, weights: &[&Tensor]) -> Result<Members> {
        let top = |gradients| snip_diff::top(weights, gradients, TOP_SHARE);
        Ok(top(&self.rejected)?.without(top(&self.neutral)?))
    }

    /// The metric per block at the mean so far.
    ///
    /// # Errors
    /// When nothing was added, or a value is not finite; [`Error::NoSuchBlock`].
    pub fn sensitivities(&self, model: &dyn BlockModel) -> Result<Sensitivities> {
        self.counted()?;
        let (n, map, weights) = (self.n_batches as f64, block_map(model)?, weights(model));
        let values = match self.metric {
            Metric::Snip => snip(&map, &weights, &self.rejected)?.into_iter().map(|s| s / n).collect(),
            Metric::SnipDiff => self.left(&weights)?.shares(&map)?,
            metric => {
                let (rejected, neutral) = (squares(&map, &self.rejected), squares(&map, &self.neutral));
                of_squares(metric, &map, &weights, rejected, neutral, self.n_batches)?
            }
        };
        Ok(Sensitivities::new(values)?)
    }
}

/// `mean_of_norm`: the mean over batches of each block's sensitivity.
///
/// # Errors
/// When there is no batch.
pub fn mean_of_norm(batches: &[Sensitivities]) -> Result<Sensitivities> {
    let first = batches.first().ok_or(Error::Missing { metric: "mean_of_norm", what: "at least one batch" })?;
    let mean = |b: usize| batches.iter().map(|s| s.values()[b]).sum::<f64>() / batches.len() as f64;
    Ok(Sensitivities::new((0..first.len()).map(mean).collect())?)
}
