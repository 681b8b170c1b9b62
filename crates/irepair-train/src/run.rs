//! Starting, going on and ending a run.

use irepair_model::CausalLm;
use irepair_objective::Objective;

use crate::batch::Draw;
use crate::validate::Best;
use crate::{Engine, Localise, Optimizer, Outcome, RepairData, Result, Settings};

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
            draw: Draw::new(data, needs.utility, &settings, model.device())?,
            optimizer: Optimizer::new(settings.optimizer, settings.state_mode),
            best: Best::default(),
            next_step: 0,
            model,
            objective,
            localiser,
            data,
            settings,
        })
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

    /// Ends the run: the model gets the weights that were best on validation (the last ones when nothing is held out).
    ///
    /// # Errors
    /// When a final validation that was due fails, or one of the weights is not finite.
    pub fn finish(mut self) -> Result<Outcome> {
        self.validate_at_end()?;
        self.best.put_back(self.model);
        self.check_weights()?;
        self.model.freeze();
        Ok(Outcome {
            n_steps: self.next_step,
            best_step: self.best.step,
            best_loss: self.best.loss,
            stopped_early: self.next_step < self.settings.n_steps && self.out_of_patience(),
        })
    }
}
