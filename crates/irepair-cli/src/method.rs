//! From a method's name and numbers to (objective, localiser): the one table of methods.

use irepair_baselines::{Baseline, Unsliced};
use irepair_config::{
    EVAL_BATCH, Method, Metric as MetricName, Optimizer, OptimizerState, Policy, Reduction as ReductionName,
    RepairOptions,
};
use irepair_objective::Objective;
use irepair_repair::{IRepair, Reduction, SliceLocaliser};
use irepair_sensitivity::{Metric, Route};
use irepair_slicing::PolicySpec;
use irepair_train::{Localise, OptimizerKind, RepairData, Schedule, Settings, StateMode};

/// The loss of a method; none for `vanilla`, which trains nothing.
pub(crate) fn objective(options: &RepairOptions) -> Option<Objective> {
    let (beta, gamma, scale) = (options.beta(), options.gamma(), options.scale());
    Some(match options.method() {
        Method::Vanilla => return None,
        Method::Irepair => IRepair { beta, gamma, scale }.objective(),
        Method::IrepairNoKl => IRepair { beta, gamma, scale }.without_kl().objective(),
        Method::Dapt => Baseline::Dapt.objective(),
        Method::DaptKl => Baseline::DaptKl { beta, gamma, scale }.objective(),
        Method::Dpo => Baseline::Dpo { beta: options.dpo_beta() }.objective(),
        Method::Npo => Baseline::Npo { beta: options.npo_beta(), gamma }.objective(),
        Method::GradientAscent => Baseline::GradientAscent.objective(),
        Method::GradientDifference => Baseline::GradientDifference.objective(),
    })
}

/// Who chooses the blocks.
pub(crate) fn localiser<'a>(
    options: &RepairOptions,
    data: &'a RepairData,
    settings: &Settings,
) -> anyhow::Result<Box<dyn Localise + 'a>> {
    if options.policy() == Policy::All {
        return Ok(Box::new(Unsliced));
    }
    let spec = PolicySpec {
        kind: options.policy().to_string().parse()?,
        slice_k: options.top_k(),
        every: options.policy_every(),
        rho: options.policy_rho(),
        epsilon: options.policy_epsilon(),
        quota: options.policy_quota(),
    };
    let slicer = SliceLocaliser::new(&spec, data, settings)?;
    Ok(Box::new(slicer.metric(metric(options.sensitivity()), Route::Ghost).fixed_batches(options.fixed_batches())))
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

/// The library's metric of that name.
pub(crate) fn metric(name: MetricName) -> Metric {
    match name {
        MetricName::GradL2 => Metric::GradL2,
        MetricName::Density => Metric::Density,
        MetricName::Relative => Metric::Relative,
        MetricName::Snip => Metric::Snip,
        MetricName::Fisher => Metric::Fisher,
        MetricName::Contrast => Metric::Contrast,
        MetricName::ActDist => Metric::ActDist,
        MetricName::Atp => Metric::Atp,
        MetricName::Random => Metric::Random,
    }
}

/// The library's reduction of that name.
pub(crate) fn reduction(name: ReductionName) -> Reduction {
    match name {
        ReductionName::NormOfMean => Reduction::NormOfMean,
        ReductionName::MeanOfNorm => Reduction::MeanOfNorm,
    }
}
