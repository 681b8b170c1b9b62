//! Chooses the slice of a step: sensitivities of the rejected texts, then a policy on those numbers.

use irepair_core::{Diagnose, Scope, Sensitivities};
use irepair_model::CausalLm;
use irepair_sensitivity::{ErrorText, MeanGradient, Measure, Metric, Route, mean_of_norm};
use irepair_slicing::{Memory, PolicySpec, SlicePolicy};
use irepair_train::{Draw, Error, Localise, RepairData, Result, Settings, StepBatch, Text};

/// Batches behind the fixed-selection estimate unless said otherwise (METHOD §17: 500 [F]).
const FIXED_BATCHES: u64 = 500;

/// A slicing policy with the sensitivities it reads.
#[derive(Debug)]
pub struct SliceLocaliser<'a> {
    policy: SlicePolicy,
    memory: Memory,
    metric: Metric,
    route: Route,
    fixed_batches: u64,
    data: &'a RepairData,
    settings: Settings,
    last: Option<Sensitivities>,
}

impl<'a> SliceLocaliser<'a> {
    /// A slicer by the paper's metric, `grad-l2`.
    ///
    /// # Errors
    /// A policy with a number out of range.
    pub fn new(spec: &PolicySpec, data: &'a RepairData, settings: &Settings) -> Result<Self> {
        Ok(Self {
            policy: SlicePolicy::new(spec).map_err(failed)?,
            memory: Memory::default(),
            metric: Metric::GradL2,
            route: Route::default(),
            fixed_batches: FIXED_BATCHES,
            data,
            settings: settings.clone(),
            last: None,
        })
    }

    /// Measures with another metric.
    #[must_use]
    pub fn metric(self, metric: Metric, route: Route) -> Self {
        Self { metric, route, ..self }
    }

    /// Averages the fixed-selection estimate over so many batches.
    #[must_use]
    pub fn fixed_batches(self, n: u64) -> Self {
        Self { fixed_batches: n, ..self }
    }

    /// The sensitivities behind the last choice that measured any.
    pub fn last(&self) -> Option<&Sensitivities> {
        self.last.as_ref()
    }

    /// Sensitivities of one batch.
    fn measure(&self, model: &CausalLm, batch: &StepBatch, step: u64) -> Result<Sensitivities> {
        let texts = |pick: fn(&irepair_train::MicroBatch) -> Option<&Text>| -> Vec<ErrorText<'_>> {
            batch.micro.iter().filter_map(pick).map(error_text).collect()
        };
        let (rejected, chosen) = (texts(|m| m.rejected.as_ref()), texts(|m| m.chosen.as_ref()));
        // Neutral text for `contrast`: utility where the objective draws it, the chosen texts otherwise (METHOD §3).
        let utility = texts(|m| m.utility.as_ref());
        let neutral = if utility.is_empty() { &chosen } else { &utility };
        let measure = Measure::new(self.metric).by(self.route).against(&chosen).beside(neutral);
        measure.seeded(self.settings.seed.wrapping_add(step)).of(model, &rejected).map_err(failed)
    }

    /// The estimate that fixed selection keeps: over many batches, at the weights before the first step (METHOD §3 [D]).
    fn fixed_estimate(&self, model: &CausalLm) -> Result<Sensitivities> {
        let draw = Draw::new(self.data, false, &self.settings, model.device())?;
        let mut mean = MeanGradient::default();
        let mut by_batch = Vec::new();
        for step in 0..self.fixed_batches {
            let batch = draw.at(step, &self.settings)?;
            if self.metric == Metric::GradL2 {
                let rejected: Vec<_> = batch.micro.iter().filter_map(|m| m.rejected.as_ref()).map(error_text).collect();
                mean.add(model, &rejected).map_err(failed)?;
            } else {
                by_batch.push(self.measure(model, &batch, step)?);
            }
        }
        if self.metric == Metric::GradL2 {
            mean.sensitivities(model).map_err(failed)
        } else {
            mean_of_norm(&by_batch).map_err(failed)
        }
    }
}

fn error_text(text: &Text) -> ErrorText<'_> {
    ErrorText { tokens: &text.tokens, scored: &text.scored, counts: text.counts, n_prompt_cols: text.n_prompt_cols }
}

fn failed(error: impl Diagnose) -> Error {
    Error::Localise(Box::new(error.diagnostic()))
}

impl Localise for SliceLocaliser<'_> {
    fn localise(&mut self, model: &CausalLm, batch: &StepBatch, step: u64) -> Result<Scope> {
        let sensitivities = if self.policy.needs_fixed_estimate(&self.memory) {
            Some(self.fixed_estimate(model)?)
        } else if self.policy.needs_sensitivities(step) {
            Some(self.measure(model, batch, step)?)
        } else {
            None
        };
        let seed = self.settings.seed;
        let scope = self
            .policy
            .choose(&mut self.memory, step, sensitivities.as_ref(), model.n_blocks(), seed)
            .map_err(failed)?;
        if sensitivities.is_some() {
            self.last = sensitivities;
        }
        Ok(scope)
    }

    fn n_tokens(&self, batch: &StepBatch, step: u64) -> usize {
        let n_rejected: usize = batch.micro.iter().filter_map(|m| m.rejected.as_ref()).map(|t| t.tokens.n_real()).sum();
        if self.policy.needs_sensitivities(step) { n_rejected } else { 0 }
    }

    fn memory(&self) -> serde_json::Value {
        serde_json::to_value(&self.memory).unwrap_or_default()
    }

    fn recall(&mut self, memory: serde_json::Value) -> Result<()> {
        let wrong =
            |e: serde_json::Error| Error::BadSetting { key: "memory", want: "a policy's memory", got: e.to_string() };
        self.memory = serde_json::from_value(memory).map_err(wrong)?;
        Ok(())
    }
}
