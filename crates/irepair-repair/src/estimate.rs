//! Sensitivities of the texts a step draws: of one batch, or of many put together; of blocks, or of units.

use irepair_core::Sensitivities;
use irepair_core::spec::{Against, Reduction, UnitKind};
use irepair_model::{BlockModel, TextBatch};
use irepair_sensitivity::{MeanGradient, Measure, Metric, Texts, UnitSensitivities, mean_of_norm};
use irepair_train::{BatchSampler, Error, MicroBatch, Result, Settings, StepBatch};

/// Sensitivities of the batch of `step`; the step changes the seed of the measurement.
///
/// # Errors
/// As [`Measure::of`].
pub fn measure_batch(measure: &Measure, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> Result<Sensitivities> {
    of_batch(measure, batch, step, |measure, texts| measure.of(model, texts))
}

/// [`measure_batch`] of every unit of a kind, from the same passes.
///
/// # Errors
/// As [`Measure::of_units`].
pub fn measure_batch_units(
    measure: &Measure,
    model: &dyn BlockModel,
    batch: &StepBatch,
    step: u64,
    kind: UnitKind,
) -> Result<UnitSensitivities> {
    of_batch(measure, batch, step, |measure, texts| measure.of_units(model, texts, kind))
}

/// The batches of the first steps of a run, and how they are measured.
#[derive(Clone, Copy)]
pub struct Batches<'a> {
    /// The measurement.
    pub measure: &'a Measure,
    /// The model.
    pub model: &'a dyn BlockModel,
    /// Draws the batches.
    pub sampler: &'a BatchSampler,
    /// The settings of the run.
    pub settings: &'a Settings,
    /// Number of batches.
    pub n: u64,
    /// How they become one value.
    pub reduction: Reduction,
}

impl Batches<'_> {
    /// One estimate per block; `measured` is called after each batch.
    ///
    /// # Errors
    /// As [`Measure::of`] and [`MeanGradient::new`]; when there is no batch.
    pub fn of_blocks(&self, measured: impl FnMut(&StepBatch)) -> Result<Sensitivities> {
        let model = self.model;
        self.reduced(
            measured,
            |mean| mean.sensitivities(model),
            |measure, texts| measure.of(model, texts),
            mean_of_norm,
        )
    }

    /// One estimate per unit of a kind, from the same passes.
    ///
    /// # Errors
    /// As [`Measure::of_units`] and [`MeanGradient::of_units`]; when there is no batch.
    pub fn of_units(&self, kind: UnitKind, measured: impl FnMut(&StepBatch)) -> Result<UnitSensitivities> {
        let model = self.model;
        self.reduced(
            measured,
            |mean| mean.of_units(model, kind),
            |measure, texts| measure.of_units(model, texts, kind),
            UnitSensitivities::mean,
        )
    }

    /// The value at the mean gradient, or the mean of the batches' values.
    fn reduced<T>(
        &self,
        mut measured: impl FnMut(&StepBatch),
        at: impl FnOnce(&MeanGradient) -> irepair_sensitivity::Result<T>,
        of: impl Fn(&Measure, &Texts<'_>) -> irepair_sensitivity::Result<T>,
        mean: impl FnOnce(&[T]) -> irepair_sensitivity::Result<T>,
    ) -> Result<T> {
        let mut gradient = match self.reduction {
            Reduction::NormOfMean => Some(MeanGradient::new(self.measure.metric).map_err(failed)?),
            Reduction::MeanOfNorm => None,
        };
        let mut by_batch = Vec::new();
        for step in 0..self.n {
            let batch = self.sampler.at(step, self.settings)?;
            match &mut gradient {
                Some(gradient) => on_texts(&batch, |texts| gradient.add(self.model, texts))?,
                None => by_batch.push(of_batch(self.measure, &batch, step, &of)?),
            }
            measured(&batch);
        }
        gradient.map_or_else(|| mean(&by_batch), |gradient| at(&gradient)).map_err(failed)
    }
}

/// `of` the texts of the batch of `step`, by a measurement whose seed that step changes.
fn of_batch<T>(
    measure: &Measure,
    batch: &StepBatch,
    step: u64,
    of: impl FnOnce(&Measure, &Texts<'_>) -> irepair_sensitivity::Result<T>,
) -> Result<T> {
    let measure = Measure { seed: measure.seed.wrapping_add(step), ..measure.clone() };
    on_texts(batch, |texts| of(&measure, texts))
}

/// `of` the texts of a batch.
fn on_texts<T>(batch: &StepBatch, of: impl FnOnce(&Texts<'_>) -> irepair_sensitivity::Result<T>) -> Result<T> {
    let [rejected, chosen, neutral] = texts_of(&batch.micro);
    of(&Texts { rejected: &rejected, chosen: &chosen, neutral: &neutral }).map_err(failed)
}

/// Rejected, chosen and neutral texts. Neutral text is utility where the objective draws it, the chosen texts otherwise
/// (METHOD §3).
fn texts_of(micro: &[MicroBatch]) -> [Vec<&TextBatch>; 3] {
    let texts = |pick: fn(&MicroBatch) -> Option<&TextBatch>| micro.iter().filter_map(pick).collect::<Vec<_>>();
    let [rejected, chosen, utility] =
        [texts(|m| m.rejected.as_ref()), texts(|m| m.chosen.as_ref()), texts(|m| m.utility.as_ref())];
    let neutral = if utility.is_empty() { chosen.clone() } else { utility };
    [rejected, chosen, neutral]
}

/// Tokens of the texts of micro-batches that a metric reads.
pub(crate) fn n_read(metric: Metric, micro: &[MicroBatch]) -> usize {
    if metric.row().at_steps == Some([0, 0]) {
        return 0;
    }
    let [rejected, chosen, neutral] = texts_of(micro);
    let others = match metric.row().against {
        Against::Nothing => Vec::new(),
        Against::Chosen => chosen,
        Against::Neutral => neutral,
    };
    rejected.into_iter().chain(others).map(TextBatch::n_real).sum()
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
