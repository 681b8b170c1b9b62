//! The algorithm: one step of METHOD §6, for every method there is.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use irepair_core::{BlockSlice, Scope, StepRecord};
use irepair_model::{BlockModel, CausalLm, Rounded, seed_of};
use irepair_objective::Objective;
use irepair_ranks::Ranks;

use crate::ablation::Ablation;
use crate::clip::{global_norm, scale_to_norm};
use crate::equal_step::Before;
use crate::lora::Lora;
use crate::numbers::StepNumbers;
use crate::parts::Parts;
use crate::rows::SliceRows;
use crate::validate::Best;
use crate::{BatchSampler, Error, Identity, Localise, Optimizer, RepairData, Result, Settings, forwards};

/// A training run: a model, an objective, a localiser, and everything that persists from step to step.
///
/// The model's weights change in place. What the run starts from is the reference of KL and preference losses.
///
/// Model and localiser are boxed, or borrowed: `Engine<Box<CausalLm>>` owns all it works on and may move to another
/// thread; `Engine<&CausalLm, &mut L>` leaves both in the caller's sight.
pub struct Engine<M = Box<CausalLm>, L = Box<dyn Localise + Send>> {
    pub(crate) model: M,
    pub(crate) reference: Option<Box<dyn BlockModel + Send>>,
    pub(crate) objective: Objective,
    pub(crate) localiser: L,
    pub(crate) data: Arc<RepairData>,
    pub(crate) sampler: BatchSampler,
    pub(crate) optimizer: Optimizer,
    pub(crate) lora: Option<Lora>,
    pub(crate) ablation: Option<Ablation>,
    /// Tokens that were read before the first step: those of the ablation's direction or of the Fisher matrix.
    pub(crate) n_tokens_before: usize,
    pub(crate) settings: Settings,
    pub(crate) next_step: u64,
    pub(crate) best: Best,
    pub(crate) identity: Identity,
    /// The processes that take the steps together; none for one that is alone.
    pub(crate) ranks: Option<Arc<dyn Ranks>>,
    /// The error of a rank that was lost where this one could end its step alone.
    pub(crate) lost: Option<Error>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Steps taken.
    pub n_steps: u64,
    /// Steps after which the weights were best on validation; none when nothing was held out.
    pub best_step: Option<u64>,
    /// Validation loss there, before the weights were rounded to the types that their files store.
    pub best_loss: Option<f64>,
    /// Validation loss of the weights as the files store them.
    pub saved_loss: Option<f64>,
    /// Validation loss of the last weights, where they were validated.
    pub last_loss: Option<f64>,
    /// What that rounding did.
    pub rounded: Rounded,
    /// KL on held-out utility texts there, under a KL budget.
    pub best_kl: Option<f64>,
    /// True when the run ended because a validation found more KL than the budget.
    pub is_over_budget: bool,
    /// True when patience or the KL budget ran out before the steps did.
    pub stopped_early: bool,
}

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    /// One step: draw, localise, forward, backward, update.
    ///
    /// # Errors
    /// A loss, gradient or sensitivity that is not finite; errors of the parts. The weights are then those before the
    /// step, unless it was the validation after the update that failed.
    ///
    /// # Source
    /// METHOD §6. The slice is chosen before the repair forward; since the weights do not change in between, the update
    /// is that of the published order (all forwards first).
    pub fn step(&mut self) -> Result<StepRecord> {
        let started = Instant::now();
        let (model, step): (&dyn BlockModel, _) = (&*self.model, self.next_step);

        // 1. Draw pairs (X+, X-), and utility texts U if the objective reads them.
        let batch = self.sampler.at(step, &self.settings)?;

        // 2. Localise: which blocks does the error in X- move most? Its gradients are dropped at once.
        let scope = self.localiser.localise(model, &batch, step).map_err(|e| self.localise_failed(e))?;

        // The ablation of a direction is no choice among blocks, and takes no gradients.
        if self.ablation.is_some() && scope != Scope::Everything {
            return Err(Error::SlicedAblation);
        }
        if matches!(scope, Scope::Units(_)) && self.lora.is_some() {
            return Err(Error::SlicedAdapters);
        }
        let _no_gradients = self.ablation.as_ref().map(|_| tch::no_grad_guard());

        // 3. Only that slice may change. Run the texts, take the loss, go backward into the slice alone.
        model.train_only(&scope);
        let rows = SliceRows::of(model, &scope)?;
        rows.iter().for_each(|rows| rows.train_only(model));
        let mut parts = Parts::new(self.ranks.as_deref());
        // A second gradient of a slice is small compared with the activations of a second text; one of the whole model
        // is not.
        let terms = if scope == Scope::Everything { vec![self.objective.clone()] } else { self.objective.terms() };
        let mine = parts.share(&batch.micro).iter();
        for (micro, term) in mine.flat_map(|micro| terms.iter().map(move |term| (micro, term))) {
            let loss = forwards::loss(model, self.reference(), term, micro)?;
            // A micro-batch in which nothing counts adds nothing.
            let mut gradients = if loss.total.requires_grad() { model.gradients(&loss.total)? } else { Vec::new() };
            // Adapters stand for projections; other weights stay as they are.
            gradients.retain(|(index, _)| self.lora.as_ref().is_none_or(|lora| lora.adapts(*index)));
            // Rows outside the units of the slice have no gradient from here on: neither norm nor optimizer sees one.
            let gradients = match &rows {
                Some(rows) => rows.cut(gradients),
                None => gradients,
            };
            parts.add(&loss, gradients);
        }
        // Here the ranks send each other the gradients of the slice, and nothing else.
        let (mut gradients, scalars) = parts.sum(step, &scope, model.device())?;

        // 4. Wait for the device, once for all numbers. Refuse what is not finite; clip over the slice.
        let numbers = scalars.read(global_norm(&gradients))?;
        if !numbers.are_finite() {
            return Err(self.step_failed(numbers.loss, &gradients, &scope));
        }
        scale_to_norm(&mut gradients, numbers.grad_norm, self.settings.clip_norm);

        // 5. Update the slice, and nothing else.
        let Settings { schedule, lr, warmup_steps, n_steps, .. } = self.settings;
        let lr = match &self.ablation {
            Some(_) => (step + 1) as f64 / n_steps as f64,
            None => schedule.rate(lr, step, warmup_steps, n_steps),
        };
        let ablated: Vec<usize> = self.ablation.iter().flat_map(Ablation::indices).collect();
        self.snapshot_before_first_update(gradients.iter().map(|(index, _)| *index).chain(ablated));
        match &mut self.lora {
            Some(lora) => lora.update(&mut self.optimizer, self.model.parameters(), &gradients, lr),
            None => {
                let parameters = self.model.parameters();
                let before = self.settings.equal_step.then(|| Before::of(parameters, &gradients, rows.as_ref()));
                self.optimizer.update_rows(parameters, &gradients, rows.as_ref(), lr);
                before.into_iter().for_each(|before| before.rescale(lr, seed_of(&[self.settings.seed, step])));
            }
        }
        self.ablation.iter().for_each(|ablation| ablation.apply(self.model.parameters(), lr));
        self.next_step += 1;
        let validation_loss =
            self.validate_when_due().or_else(|error| self.alone_after(error, Self::validate_when_due))?;

        let n_forward: usize = batch.micro.iter().map(|m| forwards::n_tokens(&self.objective, m)).sum();
        let n_before = if step == 0 { self.n_tokens_before } else { 0 };
        let tokens = (n_forward + n_before + self.localiser.n_tokens(&batch, step)) as u64;
        let seconds = started.elapsed().as_secs_f64();
        // A soft prefix belongs to no block, and is all that changes.
        let prefixed = self.model.n_soft_prefix() > 0;
        let slice = if prefixed { BlockSlice::default() } else { scope.blocks(self.model.n_blocks()) };
        let units = if let Scope::Units(units) = scope { Some(units) } else { None };
        let StepNumbers { loss, nll, kl, grad_norm } = numbers;
        let (validation_loss_before, spike) = (None, false);
        Ok(StepRecord {
            step,
            loss,
            nll,
            kl,
            grad_norm,
            lr,
            slice,
            units,
            tokens,
            seconds,
            validation_loss_before,
            validation_loss,
            spike,
        })
    }
}
