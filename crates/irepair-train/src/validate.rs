//! Validation: the method's own loss on held-out pairs and utility text, the best checkpoint, early stopping.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use irepair_core::spec::Term;
use irepair_model::{BlockModel, host};
use irepair_objective::Objective;
use tch::{Tensor, no_grad};

use crate::batch::{StepBatch, micro_batch};
use crate::ranks::{gather_numbers, share_among};
use crate::sampler::share;
use crate::{Engine, Error, Localise, Result, forwards};

/// The best weights so far, as the values of every parameter the run has ever touched.
#[derive(Debug, Default)]
pub(crate) struct Best {
    pub(crate) values: BTreeMap<usize, Tensor>,
    pub(crate) step: Option<u64>,
    pub(crate) loss: Option<f64>,
    pub(crate) n_without_improvement: u64,
    /// KL on held-out utility texts, where it was measured.
    pub(crate) kl: Option<f64>,
    /// True once a validation found more KL than the budget.
    pub(crate) is_over_budget: bool,
}

impl Best {
    /// Copies the value of a parameter about to change for the first time: until now its best value is its first.
    ///
    /// False when it has changed before.
    pub(crate) fn snapshot(&mut self, model: &dyn BlockModel, index: usize) -> bool {
        if self.values.contains_key(&index) {
            return false;
        }
        if model.is_in_file(index) {
            model.copy_on_write(index);
        }
        self.values.insert(index, no_grad(|| model.parameters()[index].tensor.detach().copy()));
        true
    }

    /// Takes the model's current weights as the best.
    fn take(&mut self, model: &dyn BlockModel, step: u64, loss: f64, kl: Option<f64>) {
        no_grad(|| {
            for (index, value) in &mut self.values {
                value.copy_(&model.parameters()[*index].tensor);
            }
        });
        (self.step, self.loss, self.kl, self.n_without_improvement) = (Some(step), Some(loss), kl, 0);
    }

    /// Gives the model the best weights; the last ones stay when nothing was ever validated.
    pub(crate) fn restore(&self, model: &dyn BlockModel) {
        if self.step.is_some() {
            no_grad(|| {
                for (index, value) in &self.values {
                    model.parameters()[*index].tensor.detach().copy_(value);
                }
            });
        }
    }
}

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    /// True when validation ended the run: patience ran out, or the KL budget.
    pub(crate) fn is_ended(&self) -> bool {
        self.best.n_without_improvement >= self.settings.patience || self.best.is_over_budget
    }

    /// Validates after every so many examples (METHOD §8 [D, L]).
    pub(crate) fn validate_when_due(&mut self) -> Result<Option<f64>> {
        if self.next_step.is_multiple_of(self.settings.steps_per_eval()) { self.validate() } else { Ok(None) }
    }

    /// Validates weights that came after the last validation, so that the last steps count too; none where that was
    /// done before.
    pub(crate) fn validate_at_end(&mut self) -> Result<Option<f64>> {
        if self.next_step.is_multiple_of(self.settings.steps_per_eval()) { Ok(None) } else { self.validate() }
    }

    fn validate(&mut self) -> Result<Option<f64>> {
        let Some(loss) = self.validation_loss()? else { return Ok(None) };
        if !loss.is_finite() {
            return Err(self.validation_failed());
        }
        let kl = self.budgeted_kl()?;
        tracing::debug!(step = self.next_step, loss, best = self.best.loss, kl, "validation");
        if self.is_over(kl) {
            // Without a validation before, the best weights are those that the run started from.
            if self.best.step.is_none() {
                (self.best.step, self.best.kl) = (Some(0), Some(0.0));
            }
            self.best.is_over_budget = true;
        } else if self.best.loss.is_none_or(|best| loss < best) {
            self.best.take(&*self.model, self.next_step, loss, kl);
        } else {
            self.best.n_without_improvement += 1;
        }
        Ok(Some(loss))
    }

    /// The objective on all held-out pairs (and held-out utility text): one mean, as if in one batch.
    ///
    /// # Errors
    /// Errors of the forward passes.
    pub fn validation_loss(&self) -> Result<Option<f64>> {
        if self.data.validation.is_empty() { Ok(None) } else { self.held_out(&self.objective).map(Some) }
    }

    /// The KL of the weights as they are now, where there is a budget for it.
    pub(crate) fn budgeted_kl(&self) -> Result<Option<f64>> {
        self.settings.budget_kl.map(|_| self.held_out_kl()).transpose()
    }

    /// True when there is a budget, and a KL over it.
    pub(crate) fn is_over(&self, kl: Option<f64>) -> bool {
        kl.zip(self.settings.budget_kl).is_some_and(|(kl, budget)| kl.is_nan() || kl > budget)
    }

    /// `KL(reference ‖ model)` on the held-out utility texts, nats a token.
    fn held_out_kl(&self) -> Result<f64> {
        self.held_out(&Term::Kl.into())
    }

    /// An objective on what is held out.
    fn held_out(&self, objective: &Objective) -> Result<f64> {
        let (pairs, utility) = (&self.data.validation, &self.data.validation_utility);
        let needs_utility = objective.needs().utility;
        if needs_utility && utility.is_empty() {
            return Err(Error::TooLittle { what: "held-out utility texts", want: 1, got: 0 });
        }
        let n_parts = pairs.len().div_ceil(self.settings.eval_batch_size);
        // Every part of the sum needs a share of both kinds of text.
        let n_parts = if needs_utility { n_parts.min(utility.len()) } else { n_parts };
        let mut micro = Vec::with_capacity(n_parts);
        for part in 0..n_parts {
            let pairs: Vec<_> = share(pairs, part, n_parts).iter().collect();
            let texts = if needs_utility { share(utility, part, n_parts) } else { &[] };
            let (pad_id, skip) = (self.data.pad_id, self.settings.skip_prompt);
            micro.push(micro_batch(&pairs, texts, pad_id, skip, self.model.device())?);
        }
        let batch = StepBatch::joined(micro);
        let of = |micro| forwards::loss(&*self.model, self.reference(), objective, micro).map(|loss| loss.total);
        let mine = share_among(self.ranks.as_deref(), &batch.micro);
        let totals = no_grad(|| mine.iter().map(of).collect::<Result<Vec<Tensor>>>())?;
        let totals = gather_numbers(self.ranks.as_deref(), host::numbers(&totals)?)?;
        Ok(totals.into_iter().fold(0.0, |sum, total| sum + total))
    }
}
