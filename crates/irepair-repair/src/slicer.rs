//! Chooses the slice of a step: sensitivities of the rejected texts, then a policy on those numbers.

use std::sync::Arc;

use irepair_core::spec::Measures;
use irepair_core::{BlockList, BlockSlice, Scope, Sensitivities};
use irepair_model::{BlockModel, Fisher};
use irepair_sensitivity::{Measure, Metric, Route};
use irepair_slicing::{Memory, PolicySpec, SlicePolicy};
use irepair_train::{BatchSampler, Error, Identity, Localise, RepairData, Result, Settings, StepBatch};

use crate::{measure_batch, measure_batches};

/// Batches behind the fixed-selection estimate unless said otherwise (METHOD §17: 500 [F]).
const FIXED_BATCHES: u64 = 500;

/// A slicing policy with the sensitivities it reads.
#[derive(Debug)]
pub struct SliceLocaliser {
    policy: SlicePolicy,
    memory: Memory,
    measure: Measure,
    fixed_batches: u64,
    eligible: Option<BlockSlice>,
    data: Arc<RepairData>,
    settings: Settings,
    last: Option<Sensitivities>,
}

impl SliceLocaliser {
    /// A slicer by the paper's metric, `grad-l2`.
    ///
    /// # Errors
    /// A policy with a number out of range.
    pub fn new(spec: &PolicySpec, data: &Arc<RepairData>, settings: &Settings) -> Result<Self> {
        Ok(Self {
            policy: SlicePolicy::new(spec).map_err(|error| Error::localise(&error))?,
            memory: Memory::default(),
            measure: Measure { seed: settings.seed, ..Measure::new(Metric::GradL2) },
            fixed_batches: FIXED_BATCHES,
            eligible: None,
            data: Arc::clone(data),
            settings: settings.clone(),
            last: None,
        })
    }

    /// Measures with another metric.
    #[must_use]
    pub fn metric(self, metric: Metric, route: Route) -> Self {
        Self { measure: Measure { metric, route, ..self.measure }, ..self }
    }

    /// Averages the fixed-selection estimate over so many batches.
    #[must_use]
    pub fn fixed_batches(self, n: u64) -> Self {
        Self { fixed_batches: n, ..self }
    }

    /// Chooses among these blocks alone.
    #[must_use]
    pub fn among(self, blocks: BlockSlice) -> Self {
        Self { eligible: Some(blocks), ..self }
    }

    /// The sensitivities behind the last choice that measured any.
    pub fn last(&self) -> Option<&Sensitivities> {
        self.last.as_ref()
    }

    /// The estimate that fixed selection keeps: over many batches, at the weights before the first step (METHOD §3
    /// [D]).
    fn fixed_estimate(&self, model: &dyn BlockModel) -> Result<Sensitivities> {
        let sampler = BatchSampler::new(&self.data, false, &self.settings, model.device())?;
        let reduction = self.measure.metric.default_reduction();
        measure_batches(&self.measure, model, &sampler, &self.settings, self.fixed_batches, reduction, || ())
    }
}

impl Localise for SliceLocaliser {
    fn localise(&mut self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Scope> {
        let sensitivities = if self.policy.needs_fixed_estimate(&self.memory) {
            Some(self.fixed_estimate(model)?)
        } else if self.policy.needs_sensitivities(step) {
            Some(measure_batch(&self.measure, model, batch, step)?)
        } else {
            None
        };
        let seed = self.settings.seed;
        let (memory, measured) = (&mut self.memory, sensitivities.as_ref());
        let chosen = match &self.eligible {
            Some(blocks) => self.policy.choose_among(blocks, memory, step, measured, seed),
            None => self.policy.choose(memory, step, measured, model.n_blocks(), seed),
        };
        let scope = chosen.map_err(|error| Error::localise(&error))?;
        if sensitivities.is_some() {
            self.last = sensitivities;
        }
        Ok(scope)
    }

    fn n_tokens(&self, batch: &StepBatch, step: u64) -> usize {
        let n_rejected: usize = batch.micro.iter().filter_map(|m| m.rejected.as_ref()).map(|t| t.n_real()).sum();
        if self.policy.needs_sensitivities(step) { n_rejected } else { 0 }
    }

    fn reads_fisher(&self) -> bool {
        self.measure.metric.reads_fisher() && self.policy.kind().row().measures != Measures::Never
    }

    fn take_fisher(&mut self, fisher: Fisher) {
        self.measure.fisher = Some(fisher);
    }

    fn identity(&self) -> Identity {
        let Measure { metric, route, seed, fisher: _ } = &self.measure;
        let identity = Identity::default().with("the policy", self.policy);
        let identity = identity
            .with("the sensitivity metric", metric)
            .with("the gradient route", if *route == Route::Ghost { "ghost norms" } else { "stored gradients" });
        let identity =
            identity.with("the seed of the metric", seed).with("setting `fixed_batches`", self.fixed_batches);
        let blocks = self.eligible.iter().map(|blocks| BlockList::from(blocks.clone()));
        blocks.fold(identity, |identity, blocks| identity.with("the blocks that may be chosen", blocks))
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.memory).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<()> {
        let wrong = |e: serde_json::Error| Error::BadSetting {
            key: "localiser",
            want: "the state of a policy",
            got: e.to_string(),
        };
        self.memory = serde_json::from_value(state).map_err(wrong)?;
        Ok(())
    }
}
