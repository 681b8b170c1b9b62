//! From settings to the parts of a run: objective, localiser and the engine's settings. The methods themselves stand in
//! `irepair_core::spec`.

use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_config::{EVAL_BATCH, Optimizer, OptimizerState, Reduction as ReductionName, RepairOptions};
use irepair_objective::Objective;
use irepair_repair::{Reduction, SliceLocaliser};
use irepair_sensitivity::Route;
use irepair_slicing::PolicySpec;
use irepair_train::{Localise, OptimizerKind, RepairData, Schedule, Settings, StateMode};

/// The loss of a method; none for `vanilla`, which trains nothing.
pub(crate) fn objective(options: &RepairOptions) -> Option<Objective> {
    options.method().trains().then(|| Objective::of_method(options.method(), &options.numbers()))
}

/// What chooses the blocks of a step.
pub(crate) fn localiser(
    options: &RepairOptions,
    data: &Arc<RepairData>,
    settings: &Settings,
) -> anyhow::Result<Box<dyn Localise + Send>> {
    if !options.policy().is_sliced() {
        return Ok(Box::new(Unsliced));
    }
    let spec = PolicySpec { kind: options.policy(), slice_k: options.top_k(), numbers: options.numbers() };
    let slicer = SliceLocaliser::new(&spec, data, settings)?;
    Ok(Box::new(slicer.metric(options.sensitivity(), Route::Ghost).fixed_batches(options.fixed_batches())))
}

/// The engine's settings. Steps are those given, or the epochs given turned into steps.
pub(crate) fn settings(options: &RepairOptions, n_pairs: usize) -> Settings {
    let per_step = (options.batch_size() * options.accumulation()).max(1);
    let by_epochs = options.epochs().saturating_mul(n_pairs.div_ceil(per_step) as u64);
    Settings {
        n_steps: options.steps.unwrap_or(by_epochs),
        batch_size: options.batch_size(),
        accumulation: options.accumulation(),
        utility_batch_size: 0,
        optimizer: match options.optimizer() {
            Optimizer::Rmsprop => OptimizerKind::rmsprop(),
            Optimizer::Adamw => OptimizerKind::adamw(0.0),
        },
        state_mode: match options.optimizer_state() {
            OptimizerState::Keep => StateMode::Keep,
            OptimizerState::Reset => StateMode::Reset,
            OptimizerState::Debias => StateMode::Debias,
        },
        lr: options.lr(),
        schedule: Schedule::Constant,
        warmup_steps: options.warmup_steps(),
        clip_norm: options.clip_norm(),
        eval_every_examples: options.eval_every(),
        patience: options.patience(),
        eval_batch_size: EVAL_BATCH.min(2 * options.batch_size()),
        skip_prompt: options.skip_prompt(),
        shuffle: !options.no_shuffle(),
        seed: options.seed(),
    }
}

/// The library's reduction of that name.
pub(crate) fn reduction(name: ReductionName) -> Reduction {
    match name {
        ReductionName::NormOfMean => Reduction::NormOfMean,
        ReductionName::MeanOfNorm => Reduction::MeanOfNorm,
    }
}
