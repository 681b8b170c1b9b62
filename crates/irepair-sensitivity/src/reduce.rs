//! Sensitivities over many batches: the norm of the mean gradient, or the mean of the norms. They differ and are named.

use irepair_core::Sensitivities;
use irepair_model::{CausalLm, Gradients, TextBatch, add_gradients};

use crate::{Error, Result, block_squares, error_gradients};

/// `norm_of_mean`: adds up gradients batch by batch, then takes the norm per block of their mean.
///
/// # Source
/// METHOD §3 [D]: the estimate behind fixed selection, `G = (1/n) sum_i g(batch_i)`, `S_b = |G_b|`.
#[derive(Debug, Default)]
pub struct MeanGradient {
    sum: Gradients,
    n_batches: usize,
}

impl MeanGradient {
    /// Adds the gradient of one batch.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no text; otherwise as [`error_gradients`].
    pub fn add(&mut self, model: &CausalLm, texts: &[&TextBatch]) -> Result<()> {
        if texts.is_empty() {
            return Err(Error::Missing { metric: "norm_of_mean", what: "rejected text" });
        }
        add_gradients(&mut self.sum, error_gradients(model, texts)?);
        self.n_batches += 1;
        Ok(())
    }

    /// The norm per block of the mean so far.
    ///
    /// # Errors
    /// When nothing was added, or a value is not finite.
    pub fn sensitivities(&self, model: &CausalLm) -> Result<Sensitivities> {
        if self.n_batches == 0 {
            return Err(Error::Missing { metric: "norm_of_mean", what: "at least one batch" });
        }
        let n = self.n_batches as f64;
        model.freeze();
        Ok(Sensitivities::new(block_squares(model, &self.sum)?.into_iter().map(|s| s.sqrt() / n).collect())?)
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
