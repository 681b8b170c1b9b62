//! Sensitivities of the texts a step draws: of one batch, or of many put together.

use irepair_core::Sensitivities;
use irepair_core::spec::{Reduction, UnitKind};
use irepair_model::{BlockModel, TextBatch};
use irepair_sensitivity::{MeanGradient, Measure, Texts, UnitSensitivities, mean_of_norm};
use irepair_train::{BatchSampler, Error, MicroBatch, Result, Settings, StepBatch};

/// Sensitivities of the batch of `step`; the step changes the seed of the measurement.
///
/// # Errors
/// As [`Measure::of`].
pub fn measure_batch(measure: &Measure, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Sensitivities> {
    let measure = Measure { seed: measure.seed.wrapping_add(step), ..measure.clone() };
    on_texts(batch, |texts| measure.of(model, texts))
}

/// One estimate over the batches of the first `n_batches` steps; `measured` is called after each.
///
/// # Errors
/// As [`Measure::of`] and [`MeanGradient::new`]; when `n_batches` is 0.
pub fn measure_batches(
    measure: &Measure,
    model: &dyn BlockModel,
    sampler: &BatchSampler,
    settings: &Settings,
    n_batches: u64,
    reduction: Reduction,
    mut measured: impl FnMut(),
) -> Result<Sensitivities> {
    let reduced = match reduction {
        Reduction::NormOfMean => {
            let mean = mean_gradient(measure, model, sampler, settings, n_batches, measured)?;
            mean.sensitivities(model)
        }
        Reduction::MeanOfNorm => {
            let mut by_batch = Vec::new();
            for step in 0..n_batches {
                by_batch.push(measure_batch(measure, model, &sampler.at(step, settings)?, step)?);
                measured();
            }
            mean_of_norm(&by_batch)
        }
    };
    reduced.map_err(failed)
}

/// [`measure_batches`] of every unit of a kind, from the same passes.
///
/// # Errors
/// As [`Measure::of_units`] and [`MeanGradient::of_units`]; when `n_batches` is 0.
#[expect(clippy::too_many_arguments, reason = "those of measure_batches, and the kind")]
pub fn measure_units(
    measure: &Measure,
    model: &dyn BlockModel,
    sampler: &BatchSampler,
    settings: &Settings,
    n_batches: u64,
    reduction: Reduction,
    kind: UnitKind,
    mut measured: impl FnMut(),
) -> Result<UnitSensitivities> {
    match reduction {
        Reduction::NormOfMean => {
            let mean = mean_gradient(measure, model, sampler, settings, n_batches, measured)?;
            mean.of_units(model, kind).map_err(failed)
        }
        Reduction::MeanOfNorm => {
            let mut by_batch = Vec::new();
            for step in 0..n_batches {
                let measure = Measure { seed: measure.seed.wrapping_add(step), ..measure.clone() };
                by_batch.push(on_texts(&sampler.at(step, settings)?, |texts| measure.of_units(model, texts, kind))?);
                measured();
            }
            let missing = irepair_sensitivity::Error::Missing { metric: "mean_of_norm", what: "at least one batch" };
            UnitSensitivities::mean(&by_batch).ok_or_else(|| failed(missing))
        }
    }
}

/// Gradients of the batches of the first `n_batches` steps, added up.
fn mean_gradient(
    measure: &Measure,
    model: &dyn BlockModel,
    sampler: &BatchSampler,
    settings: &Settings,
    n_batches: u64,
    mut measured: impl FnMut(),
) -> Result<MeanGradient> {
    let mut mean = MeanGradient::new(measure.metric).map_err(failed)?;
    for step in 0..n_batches {
        on_texts(&sampler.at(step, settings)?, |texts| mean.add(model, texts))?;
        measured();
    }
    Ok(mean)
}

/// `of` the texts of a batch. Neutral text is utility where the objective draws it, the chosen texts otherwise (METHOD
/// §3).
fn on_texts<T>(batch: &StepBatch, of: impl FnOnce(&Texts<'_>) -> irepair_sensitivity::Result<T>) -> Result<T> {
    let texts = |pick: fn(&MicroBatch) -> Option<&TextBatch>| batch.micro.iter().filter_map(pick).collect::<Vec<_>>();
    let [rejected, chosen, utility] =
        [texts(|m| m.rejected.as_ref()), texts(|m| m.chosen.as_ref()), texts(|m| m.utility.as_ref())];
    let neutral = if utility.is_empty() { &chosen } else { &utility };
    of(&Texts { rejected: &rejected, chosen: &chosen, neutral }).map_err(failed)
}

/// An error of measuring, under the name of the crate it came from.
fn failed(error: irepair_sensitivity::Error) -> Error {
    match error {
        irepair_sensitivity::Error::Core(error) => error.into(),
        irepair_sensitivity::Error::Model(error) => error.into(),
        irepair_sensitivity::Error::Objective(error) => error.into(),
        error => Error::localise(&error),
    }
}
