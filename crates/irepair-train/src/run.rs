//! The start and the end of a run.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use irepair_data::without_replacement;
use irepair_model::{BlockModel, Fisher};
use irepair_objective::Objective;
use tch::Tensor;

use crate::ablation::Ablation;
use crate::lora::Lora;
use crate::validate::Best;
use crate::{
    BatchSampler, Engine, Error, Identity, Localise, Optimizer, OptimizerKind, Outcome, RepairData, Result, Settings,
};

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    /// Prepares a run from the model as it is, which is also the reference if the objective needs one.
    ///
    /// # Errors
    /// Settings out of range, too little data, or a text longer than the model's context.
    pub fn new(
        model: M,
        objective: impl Into<Objective>,
        mut localiser: L,
        data: &Arc<RepairData>,
        settings: Settings,
    ) -> Result<Self> {
        settings.check()?;
        if settings.budget_kl.is_some() && data.validation.is_empty() {
            return Err(Error::TooLittle { what: "held-out pairs for a KL budget", want: 1, got: 0 });
        }
        model.check_length(data.longest())?;
        model.freeze();
        let objective = objective.into();
        let needs = objective.needs();
        let natural = matches!(settings.optimizer, OptimizerKind::Natural { .. });
        let (fisher, n_of_fisher) = if natural || localiser.reads_fisher() {
            // Now: the weights are those that the run starts from, whether it is resumed or not.
            let (fisher, n_tokens) = fisher_of(&*model, data, &settings)?;
            localiser.take_fisher(fisher.clone());
            (Some(fisher).filter(|_| natural), n_tokens)
        } else {
            (None, 0)
        };
        let ablation = if settings.ablation { Some(Ablation::new(&*model, data, &settings)?) } else { None };
        let n_tokens_before = n_of_fisher + ablation.as_ref().map_or(0, Ablation::n_tokens);
        Ok(Self {
            ablation,
            n_tokens_before,
            reference: if needs.reference() || settings.budget_kl.is_some() { Some(model.reference()?) } else { None },
            sampler: BatchSampler::new(data, needs.utility, &settings, model.device())?,
            optimizer: Optimizer::new(settings.optimizer, settings.state_mode, settings.seed).with_fisher(fisher),
            lora: (settings.lora_rank > 0)
                .then(|| Lora::new(model.parameters(), settings.lora_rank, model.stores_inputs_first(), settings.seed)),
            best: Best::default(),
            next_step: 0,
            // Hashed now: the weights are those that the run starts from.
            identity: Identity::of_run(&*model, &objective, localiser.identity(), data, &settings),
            model,
            objective,
            localiser,
            data: Arc::clone(data),
            settings,
            ranks: None,
            lost: None,
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
        self.next_step < self.settings.n_steps && !self.is_ended()
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
    pub fn reference(&self) -> Option<&dyn BlockModel> {
        self.reference.as_deref().map(|reference| reference as &dyn BlockModel)
    }

    /// The model, with the weights after the last step.
    pub fn model(&self) -> &M::Target {
        &self.model
    }

    /// What chooses the blocks.
    pub fn localiser(&self) -> &L::Target {
        &self.localiser
    }

    /// The weights that the run has changed, by name, as they are now.
    pub fn changed_weights(&self) -> Vec<(String, &Tensor)> {
        let parameters = self.model.parameters();
        let of = |&index: &usize| (parameters[index].name.clone(), &parameters[index].tensor);
        self.best.values.keys().map(of).collect()
    }

    /// What the run would give if it ended now: the step whose weights are the best on validation so far, and those of
    /// them that the run has changed, by name.
    ///
    /// # Errors
    /// Those of a validation, where the last steps have had none.
    pub fn outcome_now(&self) -> Result<(u64, Vec<(String, &Tensor)>)> {
        let (now, is_validated) = (self.next_step, self.next_step.is_multiple_of(self.settings.steps_per_eval()));
        // Over its KL budget a run gives what it had before: without a validation, the weights that it started from.
        let is_over = self.best.is_over_budget || !is_validated && self.is_over(self.budgeted_kl()?);
        let loss = if is_validated || is_over { self.best.loss } else { self.validation_loss()? };
        let is_better = !is_over && loss.zip(self.best.loss).is_none_or(|(loss, best)| loss < best);
        let best = if is_over { Some(self.best.step.unwrap_or(0)) } else { self.best.step };
        let best = best.filter(|&step| step != now && !is_better);
        let Some(step) = best else { return Ok((now, self.changed_weights())) };
        let parameters = self.model.parameters();
        Ok((step, self.best.values.iter().map(|(&index, value)| (parameters[index].name.clone(), value)).collect()))
    }

    /// Copies the values of parameters about to change for the first time: for the best checkpoint, and for the
    /// reference.
    pub(crate) fn snapshot_before_first_update(&mut self, indices: impl Iterator<Item = usize>) {
        for index in indices {
            if self.best.snapshot(&*self.model, index) {
                self.reference.iter().for_each(|reference| reference.copy_on_write(index));
            }
        }
    }

    /// Ends the run and gives the model back, with the weights that were best on validation (the last ones when nothing
    /// is held out), rounded to the types that its files store, so that all that is measured from here on is true of
    /// the saved model.
    ///
    /// # Errors
    /// When a final validation that was due fails, or one of the weights is not finite.
    pub fn finish(mut self) -> Result<(M, Outcome)> {
        let last = self.agree_on_weights().and_then(|()| self.validate_at_end());
        let last_loss = last.or_else(|error| self.alone_after(error, Self::validate_at_end))?;
        if let Some(error) = &self.lost {
            tracing::warn!("{error}; all steps were taken, and rank 0 ends the run alone");
        }
        // What is left takes one process.
        self.ranks = None;
        let (model, outcome) = self.give_back()?;
        Ok((model, Outcome { last_loss, ..outcome }))
    }

    /// Ends a run whose numbers are no longer finite, without a look at its last weights.
    ///
    /// # Errors
    /// As [`Engine::finish`]; when no weights were validated before, the last ones may not be finite.
    pub fn abandon(self) -> Result<(M, Outcome)> {
        self.give_back()
    }

    fn give_back(self) -> Result<(M, Outcome)> {
        self.best.restore(&*self.model);
        self.check_weights()?;
        let rounded = self.model.round_to_stored(self.settings.seed)?;
        let saved_loss = if rounded.n_changed > 0 { self.validation_loss()? } else { self.best.loss };
        self.model.freeze();
        let outcome = Outcome {
            saved_loss,
            last_loss: None,
            rounded,
            n_steps: self.next_step,
            best_step: self.best.step,
            best_loss: self.best.loss,
            best_kl: self.best.kl,
            is_over_budget: self.best.is_over_budget,
            stopped_early: self.next_step < self.settings.n_steps && self.is_ended(),
        };
        Ok((self.model, outcome))
    }
}

/// The Fisher matrix of the model on utility texts drawn by the seed of the run (METHOD §27), and their tokens.
fn fisher_of(model: &dyn BlockModel, data: &RepairData, settings: &Settings) -> Result<(Fisher, usize)> {
    let n = settings.fisher_texts.min(data.utility.len());
    if n == 0 {
        return Err(Error::TooLittle { what: "utility texts", want: 1, got: 0 });
    }
    let drawn = without_replacement(settings.seed, u64::MAX, data.utility.len(), n)?;
    let texts: Vec<Vec<u32>> = drawn.into_iter().map(|i| data.utility[i].clone()).collect();
    tracing::info!("Fisher matrix: {n} utility texts");
    let fisher = Fisher::estimate(model, &texts, settings.fisher_damping, settings.seed)?;
    Ok((fisher, texts.iter().map(Vec::len).sum()))
}
