//! Sensitivities of the texts a step draws: of one batch, or of many put together.

use irepair_core::spec::Reduction;
use irepair_core::{Diagnose, Sensitivities};
use irepair_model::{BlockModel, TextBatch};
use irepair_sensitivity::{MeanGradient, Measure, Metric, Route, mean_of_norm};
use irepair_train::{BatchSampler, Error, MicroBatch, Result, Settings, StepBatch};

/// What is measured on a drawn batch.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Which number says how sensitive a block is.
    pub metric: Metric,
    /// How gradient norms are taken.
    pub route: Route,
    /// Seeds the control metric `random`, together with the step.
    pub seed: u64,
}

impl Estimate {
    /// The paper's metric by the plain route.
    pub fn new(seed: u64) -> Self {
        Self { metric: Metric::GradL2, route: Route::default(), seed }
    }

    /// Sensitivities of the batch of `step`.
    ///
    /// # Errors
    /// As [`Measure::of`].
    pub fn of_batch(&self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Sensitivities> {
        let (rejected, chosen) = (texts(batch, |m| m.rejected.as_ref()), texts(batch, |m| m.chosen.as_ref()));
        let neutral = neutral(batch);
        let measure = Measure::new(self.metric).by(self.route).against(&chosen).with_neutral(&neutral);
        measure.seeded(self.seed.wrapping_add(step)).of(model, &rejected).map_err(failed)
    }

    /// One estimate over the batches of the first `n_batches` steps; `measured` is called after each.
    ///
    /// # Errors
    /// As [`Measure::of`] and [`MeanGradient::new`]; when `n_batches` is 0.
    pub fn over_batches(
        &self,
        model: &dyn BlockModel,
        sampler: &BatchSampler,
        settings: &Settings,
        n_batches: u64,
        reduction: Reduction,
        mut measured: impl FnMut(),
    ) -> Result<Sensitivities> {
        let mut mean = match reduction {
            Reduction::NormOfMean => Some(MeanGradient::new(self.metric).map_err(failed)?),
            Reduction::MeanOfNorm => None,
        };
        let mut by_batch = Vec::new();
        for step in 0..n_batches {
            let batch = sampler.at(step, settings)?;
            match &mut mean {
                Some(mean) => {
                    mean.add(model, &texts(&batch, |m| m.rejected.as_ref()), &neutral(&batch)).map_err(failed)?;
                }
                None => by_batch.push(self.of_batch(model, &batch, step)?),
            }
            measured();
        }
        mean.map_or_else(|| mean_of_norm(&by_batch), |mean| mean.sensitivities(model)).map_err(failed)
    }
}

/// Neutral text for `contrast`: utility where the objective draws it, the chosen texts otherwise (METHOD §3).
fn neutral(batch: &StepBatch) -> Vec<&TextBatch> {
    let utility = texts(batch, |m| m.utility.as_ref());
    if utility.is_empty() { texts(batch, |m| m.chosen.as_ref()) } else { utility }
}

fn texts(batch: &StepBatch, pick: fn(&MicroBatch) -> Option<&TextBatch>) -> Vec<&TextBatch> {
    batch.micro.iter().filter_map(pick).collect()
}

/// An error of measuring, under the name of the crate it came from.
fn failed(error: irepair_sensitivity::Error) -> Error {
    match error {
        irepair_sensitivity::Error::Core(error) => error.into(),
        irepair_sensitivity::Error::Model(error) => error.into(),
        irepair_sensitivity::Error::Objective(error) => error.into(),
        error => Error::Localise(Box::new(error.diagnostic())),
    }
}
