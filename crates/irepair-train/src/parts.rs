//! The parts of a step: a term of the loss on a micro-batch each. Their gradients and losses add up in order, here or
//! over ranks.

use irepair_core::Scope;
use irepair_model::{Gradients, add_gradients, sum_over_ranks};
use irepair_objective::Loss;
use irepair_ranks::Ranks;
use tch::Device;

use crate::numbers::StepScalars;
use crate::ranks::share_among;
use crate::{Error, MicroBatch, Result};

/// What the parts of a step have given so far.
pub(crate) struct Parts<'a> {
    ranks: Option<&'a dyn Ranks>,
    /// On a process that is alone the sum so far, on a rank every part: the order of additions is that of all parts.
    gradients: Vec<Gradients>,
    scalars: StepScalars,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(ranks: Option<&'a dyn Ranks>) -> Self {
        Self { ranks, gradients: Vec::new(), scalars: StepScalars::default() }
    }

    /// The micro-batches that are this process's.
    pub(crate) fn share<'b>(&self, micro: &'b [MicroBatch]) -> &'b [MicroBatch] {
        share_among(self.ranks, micro)
    }

    /// Takes what one part gave.
    pub(crate) fn add(&mut self, loss: &Loss, gradients: Gradients) {
        self.scalars.push(loss);
        match (self.ranks, self.gradients.last_mut()) {
            (None, Some(sum)) => add_gradients(sum, gradients),
            _ => self.gradients.push(gradients),
        }
    }

    /// The sum of the gradients, on `device`, and the losses, of the parts of all ranks, which must have chosen the
    /// same slice: machines that compute differently may not.
    ///
    /// # Errors
    /// When a rank is gone, or chose another slice.
    pub(crate) fn sum(self, step: u64, scope: &Scope, device: Device) -> Result<(Gradients, StepScalars)> {
        if let Some(ranks) = self.ranks {
            let chosen = ranks.gather(format!("{scope:?}").as_bytes())?;
            if let Some(rank) = chosen.iter().position(|theirs| theirs != &chosen[0]) {
                return Err(Error::OtherRank { rank, changes: format!("it chose another slice at step {step}") });
            }
        }
        let scalars = match self.ranks {
            Some(ranks) => self.scalars.of_all(ranks)?,
            None => self.scalars,
        };
        Ok((sum_over_ranks(self.ranks, self.gradients, device)?, scalars))
    }
}
