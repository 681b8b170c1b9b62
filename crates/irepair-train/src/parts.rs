//! The parts of a step: a term of the loss on a micro-batch each. Their gradients and losses add up in order, here or
//! over ranks.

use irepair_model::{Gradients, add_gradients, sum_over_ranks};
use irepair_objective::Loss;
use irepair_ranks::Ranks;

use crate::numbers::StepScalars;
use crate::ranks::share_among;
use crate::{MicroBatch, Result};

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

    /// The sum of the gradients, and the losses, of the parts of all ranks.
    ///
    /// # Errors
    /// When a rank is gone.
    pub(crate) fn sum(self) -> Result<(Gradients, StepScalars)> {
        let scalars = match self.ranks {
            Some(ranks) => self.scalars.of_all(ranks)?,
            None => self.scalars,
        };
        Ok((sum_over_ranks(self.ranks, self.gradients)?, scalars))
    }
}
