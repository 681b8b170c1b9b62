//! Which texts a step draws: pairs, and utility texts when the objective reads them.

use std::sync::Arc;

use irepair_data::{EpochOrder, without_replacement};
use irepair_ranks::share_of;
use tch::Device;

use crate::batch::{StepBatch, micro_batch};
use crate::{Error, RepairData, Result, Settings};

/// Which texts a step draws, as indices into the `pairs` and `utility` of its [`RepairData`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampledIndices {
    /// Pairs, in the order of the batch.
    pub pairs: Vec<usize>,
    /// Utility texts.
    pub utility: Vec<usize>,
}

/// Draws the batch of a step: a pure function of the step number.
pub struct BatchSampler {
    data: Arc<RepairData>,
    order: EpochOrder,
    needs_utility: bool,
    device: Device,
}

impl BatchSampler {
    /// A sampler over `data`; `needs_utility` says whether batches hold utility text.
    ///
    /// # Errors
    /// [`Error::TooLittle`] when there are no pairs, or fewer utility texts than one step takes.
    pub fn new(data: &Arc<RepairData>, needs_utility: bool, settings: &Settings, device: Device) -> Result<Self> {
        if data.pairs.is_empty() {
            return Err(Error::TooLittle { what: "training pairs", want: 1, got: 0 });
        }
        let n = settings.n_utility() * settings.accumulation;
        if needs_utility && data.utility.len() < n {
            return Err(Error::TooLittle { what: "utility texts", want: n, got: data.utility.len() });
        }
        let order = EpochOrder::new(data.pairs.len(), settings.seed, settings.shuffle)?;
        Ok(Self { data: Arc::clone(data), order, needs_utility, device })
    }

    /// `B` pairs without repeats within an epoch; `B` utility texts without repeats within the batch (METHOD §2 [D]).
    ///
    /// # Errors
    /// When there are too few utility texts, which [`BatchSampler::new`] refuses.
    pub fn indices(&self, step: u64, settings: &Settings) -> Result<SampledIndices> {
        let pairs = self.order.batch(step, settings.batch_size * settings.accumulation);
        let utility = if self.needs_utility {
            let n_drawn = settings.n_utility() * settings.accumulation;
            if settings.shuffle {
                without_replacement(settings.seed, step, self.data.utility.len(), n_drawn)?
            } else {
                EpochOrder::new(self.data.utility.len(), settings.seed, false)?.batch(step, n_drawn)
            }
        } else {
            Vec::new()
        };
        Ok(SampledIndices { pairs, utility })
    }

    /// The texts of [`BatchSampler::indices`], laid out.
    ///
    /// # Errors
    /// Only for batches without any token.
    pub fn at(&self, step: u64, settings: &Settings) -> Result<StepBatch> {
        let n_micro = settings.accumulation;
        let SampledIndices { pairs, utility } = self.indices(step, settings)?;
        let mut micro = Vec::with_capacity(n_micro);
        for m in 0..n_micro {
            let pairs: Vec<_> = share(&pairs, m, n_micro).iter().map(|&i| &self.data.pairs[i]).collect();
            let texts: Vec<_> = share(&utility, m, n_micro).iter().map(|&i| self.data.utility[i].clone()).collect();
            micro.push(micro_batch(&pairs, &texts, self.data.pad_id, settings.skip_prompt, self.device)?);
        }
        Ok(StepBatch::joined(micro))
    }
}

/// The `part`-th of `n_parts` nearly equal runs of `items`.
pub(crate) fn share<T>(items: &[T], part: usize, n_parts: usize) -> &[T] {
    &items[share_of(part, items.len(), n_parts)]
}
