//! Chooses the slice of a step: sensitivities of the rejected texts, then a policy on those numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use irepair_core::spec::{Against, Measures, UnitKind};
use irepair_core::{BlockId, BlockSlice, Scope, Sensitivities, Unit, UnitList};
use irepair_model::{BlockModel, Fisher};
use irepair_ranks::Ranks;
use irepair_sensitivity::{Measure, Metric, Route, UnitSensitivities};
use irepair_slicing::{Memory, PolicySpec, SlicePolicy};
use irepair_train::{BatchSampler, Error, Identity, Localise, RepairData, Result, Settings, StepBatch, first_finds};

use crate::estimate::n_read;
use crate::{Batches, measure_batch, measure_batch_units};

/// Batches behind the fixed-selection estimate unless said otherwise (METHOD §17: 500 [F]).
const FIXED_BATCHES: u64 = 500;

/// A slicing policy with the sensitivities it reads.
#[derive(Debug)]
pub struct SliceLocaliser {
    policy: SlicePolicy,
    memory: Memory,
    measure: Measure,
    by_first: bool,
    fixed_batches: u64,
    among: Among,
    data: Arc<RepairData>,
    settings: Settings,
    last: Option<Sensitivities>,
    /// Tokens of the estimate that fixed selection keeps.
    n_estimated: usize,
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
            by_first: false,
            fixed_batches: FIXED_BATCHES,
            among: Among::AllBlocks,
            data: Arc::clone(data),
            settings: settings.clone(),
            last: None,
            n_estimated: 0,
        })
    }

    /// Measures with another metric.
    #[must_use]
    pub fn metric(self, metric: Metric, route: Route) -> Self {
        Self { measure: Measure { metric, route, ..self.measure }, ..self }
    }

    /// Measures a step on its first micro-batch alone, whose choice holds for all of them; among ranks the first one
    /// measures and tells the others (METHOD §25 [O]).
    #[must_use]
    pub fn by_first_micro_batch(self) -> Self {
        Self { by_first: true, ..self }
    }

    /// Averages the fixed-selection estimate over so many batches.
    #[must_use]
    pub fn fixed_batches(self, n: u64) -> Self {
        Self { fixed_batches: n, ..self }
    }

    /// Chooses among these blocks alone.
    #[must_use]
    pub fn among(self, blocks: BlockSlice) -> Self {
        Self { among: Among::Blocks(blocks), ..self }
    }

    /// Chooses among these units of a kind, as if they were the blocks of a model that has no others (METHOD §23).
    #[must_use]
    pub fn among_units(self, kind: UnitKind, units: Vec<Unit>) -> Self {
        Self { among: Among::Units(kind, units), ..self }
    }

    /// The sensitivities behind the last choice that measured any: of every block, or of the units that may be chosen,
    /// in their order.
    pub fn last(&self) -> Option<&Sensitivities> {
        self.last.as_ref()
    }

    /// The estimate that fixed selection keeps: over many batches, at the weights before the first step (METHOD §3
    /// [D]), and the tokens that it reads. Batches hold utility text where those of the steps do.
    fn fixed_estimate(&self, model: &dyn BlockModel, batch: &StepBatch) -> Result<(Sensitivities, usize)> {
        let (measure, settings, metric) = (&self.measure, &self.settings, self.measure.metric);
        let draws = batch.micro.iter().any(|micro| micro.utility.is_some());
        let reads = metric.row().against == Against::Neutral;
        let sampler = BatchSampler::new(&self.data, draws && reads, settings, model.device())?;
        let (n, reduction) = (self.fixed_batches, metric.default_reduction());
        let batches = Batches { measure, model, sampler: &sampler, settings, n, reduction };
        let mut n_tokens = 0;
        let count = |batch: &StepBatch| n_tokens += n_read(metric, &batch.micro);
        let found = match &self.among {
            Among::AllBlocks | Among::Blocks(_) => batches.of_blocks(count)?,
            Among::Units(kind, units) => eligible(&batches.of_units(*kind, count)?, units)?,
        };
        Ok((found, n_tokens))
    }

    /// Sensitivities of the batch of a step.
    fn measured(&self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Sensitivities> {
        if !self.by_first {
            return self.measured_by(&self.measure, model, batch, step);
        }
        // The others wait for what the first rank finds: it works alone.
        let alone = Measure { ranks: None, ..self.measure.clone() };
        let values = first_finds(self.measure.ranks.as_deref(), || {
            Ok(self.measured_by(&alone, model, &batch.first(), step)?.values().to_vec())
        })?;
        Ok(Sensitivities::new(values)?)
    }

    fn measured_by(
        &self,
        measure: &Measure,
        model: &dyn BlockModel,
        batch: &StepBatch,
        step: u64,
    ) -> Result<Sensitivities> {
        match &self.among {
            Among::AllBlocks | Among::Blocks(_) => measure_batch(measure, model, batch, step),
            Among::Units(kind, units) => eligible(&measure_batch_units(measure, model, batch, step, *kind)?, units),
        }
    }
}

/// What a slice is chosen from.
#[derive(Debug)]
enum Among {
    /// Every block.
    AllBlocks,
    /// Some blocks.
    Blocks(BlockSlice),
    /// Units of a kind.
    Units(UnitKind, Vec<Unit>),
}

/// The sensitivities of the units that may be chosen, in their order.
fn eligible(found: &UnitSensitivities, units: &[Unit]) -> Result<Sensitivities> {
    let values: BTreeMap<Unit, f64> = found.iter().collect();
    Ok(Sensitivities::new(units.iter().filter_map(|unit| values.get(unit).copied()).collect())?)
}

impl Localise for SliceLocaliser {
    fn localise(&mut self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Scope> {
        let sensitivities = if self.policy.needs_fixed_estimate(&self.memory) {
            let (found, n_tokens) = self.fixed_estimate(model, batch)?;
            self.n_estimated = n_tokens;
            Some(found)
        } else if self.policy.needs_sensitivities(step) {
            Some(self.measured(model, batch, step)?)
        } else {
            None
        };
        let seed = self.settings.seed;
        let (memory, measured) = (&mut self.memory, sensitivities.as_ref());
        let chosen = match &self.among {
            Among::AllBlocks => self.policy.choose(memory, step, measured, model.n_blocks(), seed),
            Among::Blocks(blocks) => self.policy.choose_among(blocks, memory, step, measured, seed),
            Among::Units(_, units) => {
                let chosen = self.policy.choose(memory, step, measured, units.len(), seed);
                // A policy counts units as it counts blocks.
                let named = |positions: BlockSlice| positions.iter().map(|BlockId(i)| units[i]).collect();
                chosen.map(|scope| Scope::Units(named(scope.blocks(units.len()))))
            }
        };
        let scope = chosen.map_err(|error| Error::localise(&error))?;
        if sensitivities.is_some() {
            self.last = sensitivities;
        }
        Ok(scope)
    }

    fn n_tokens(&self, batch: &StepBatch, step: u64) -> usize {
        let n_measured = if self.by_first { 1 } else { batch.micro.len() };
        let measured = &batch.micro[..n_measured.min(batch.micro.len())];
        match self.policy.kind().row().measures {
            Measures::Once if step == 0 => self.n_estimated,
            _ if self.policy.needs_sensitivities(step) => n_read(self.measure.metric, measured),
            _ => 0,
        }
    }

    fn reads_fisher(&self) -> bool {
        self.measure.metric.reads_fisher() && self.policy.kind().row().measures != Measures::Never
    }

    fn take_fisher(&mut self, fisher: Fisher) {
        self.measure.fisher = Some(fisher);
    }

    fn take_ranks(&mut self, ranks: &Arc<dyn Ranks>) {
        self.measure.ranks = Some(Arc::clone(ranks));
    }

    fn identity(&self) -> Identity {
        let Measure { metric, route, seed, fisher: _, ranks: _ } = &self.measure;
        let identity = Identity::default().with("the policy", self.policy);
        let identity = identity
            .with("the sensitivity metric", metric)
            .with("the gradient route", if *route == Route::Ghost { "ghost norms" } else { "stored gradients" });
        let identity =
            identity.with("the seed of the metric", seed).with("setting `fixed_batches`", self.fixed_batches);
        // Runs from before there was a choice have no such part.
        let identity = if self.by_first { identity.with("setting `localise`", "first") } else { identity };
        match &self.among {
            Among::AllBlocks => identity,
            Among::Blocks(blocks) => {
                let blocks: UnitList = blocks.iter().map(Unit::from).collect();
                identity.with("the blocks that may be chosen", blocks)
            }
            Among::Units(kind, units) => {
                let units: UnitList = units.iter().copied().collect();
                identity.with("the kind of units", kind).with("the units that may be chosen", units)
            }
        }
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
