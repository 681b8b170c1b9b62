//! The start and the end of a run.

use irepair_model::CausalLm;
use irepair_objective::Objective;

use crate::validate::Best;
use crate::{BatchSampler, Engine, Identity, Localise, Optimizer, Outcome, RepairData, Result, Settings};

impl<'a> Engine<'a> {
    /// Prepares a run from the model as it is, which is also the reference if the objective needs one.
    ///
    /// # Errors
    /// Settings out of range, too little data, or a text longer than the model's context.
    pub fn new(
        model: &'a CausalLm,
        objective: impl Into<Objective>,
        localiser: &'a mut dyn Localise,
        data: &'a RepairData,
        settings: Settings,
    ) -> Result<Self> {
        settings.check()?;
        model.check_length(data.longest())?;
        model.freeze();
        let objective = objective.into();
        let needs = objective.needs();
        Ok(Self {
            reference: if needs.reference() { Some(model.reference()?) } else { None },
            sampler: BatchSampler::new(data, needs.utility, &settings, model.device())?,
            optimizer: Optimizer::new(settings.optimizer, settings.state_mode, settings.seed),
            best: Best::default(),
            next_step: 0,
            // Hashed now: the weights are those that the run starts from.
            identity: Identity::of_run(model, &objective, localiser, data, &settings),
            model,
            objective,
            localiser,
            data,
            settings,
        })
    }

    /// Adds a part to what a saved state of this run must agree with, as the tokenizer that made its token ids.
    #[must_use]
    pub fn identified_by(mut self, name: &str, value: &str) -> Self {
        self.identity = self.identity.with(name, value);
        self
    }

    /// True while steps and patience last.
    pub fn unfinished(&self) -> bool {
        self.next_step < self.settings.n_steps && !self.out_of_patience()
    }

    /// The next step to take, counted from 0.
    pub fn next_step(&self) -> u64 {
        self.next_step
    }

    /// Bytes of optimizer state held now.
    pub fn n_optimizer_bytes(&self) -> usize {
        self.optimizer.n_state_bytes()
    }

    /// The frozen copy of the model the run started from, when the objective keeps one.
    pub fn reference(&self) -> Option<&CausalLm> {
        self.reference.as_ref()
    }

    /// Keeps the first value of parameters about to change: for the best checkpoint, and for the reference.
    pub(crate) fn keep_before_first_change(&mut self, indices: impl Iterator<Item = usize>) {
        for index in indices {
            if self.best.remember_before_first_change(self.model, index) {
                self.reference.iter().for_each(|reference| reference.unshare(index));
            }
        }
    }

    /// Ends the run: the model gets the weights that were best on validation (the last ones when nothing is held out),
    /// rounded to the types that its files store, so that all that is measured from here on is true of the saved model.
    ///
    /// # Errors
    /// When a final validation that was due fails, or one of the weights is not finite.
    pub fn finish(mut self) -> Result<Outcome> {
        self.validate_at_end()?;
        self.best.put_back(self.model);
        self.check_weights()?;
        let rounded = self.model.round_to_stored(self.settings.seed)?;
        let saved_loss = if rounded.n_changed > 0 { self.validation_loss()? } else { self.best.loss };
        self.model.freeze();
        Ok(Outcome {
            saved_loss,
            rounded,
            n_steps: self.next_step,
            best_step: self.best.step,
            best_loss: self.best.loss,
            stopped_early: self.next_step < self.settings.n_steps && self.out_of_patience(),
        })
    }
}
