//! From settings to the parts of a run: objective, localiser and the engine's settings. The methods themselves stand in
//! `irepair_core::spec`.

use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_config::{EVAL_BATCH, Optimizer, OptimizerState, RepairPlan};
use irepair_core::StepRecord;
use irepair_model::CausalLm;
use irepair_objective::Objective;
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::Route;
use irepair_slicing::PolicySpec;
use irepair_train::{Localise, OptimizerKind, RepairData, Schedule, Settings, StateMode, step_flops};

/// The loss of a method; none for `vanilla`, which trains nothing.
pub(crate) fn objective(plan: &RepairPlan) -> Option<Objective> {
    plan.method.trains().then(|| Objective::of_method(plan.method, &plan.numbers()))
}

/// What chooses the blocks of a step.
pub(crate) fn localiser(
    plan: &RepairPlan,
    data: &Arc<RepairData>,
    settings: &Settings,
) -> anyhow::Result<Box<dyn Localise + Send>> {
    if !plan.policy.is_sliced() {
        return Ok(Box::new(Unsliced));
    }
    let spec = PolicySpec { kind: plan.policy, slice_k: plan.top_k, numbers: plan.numbers() };
    let slicer = SliceLocaliser::new(&spec, data, settings)?;
    Ok(Box::new(slicer.metric(plan.sensitivity, Route::Ghost).fixed_batches(plan.fixed_batches)))
}

/// Counted work of a step (METHOD §12).
pub(crate) fn flops_of_step(model: &CausalLm, plan: &RepairPlan, record: &StepRecord) -> f64 {
    let measures = plan.policy.measures_at(record.step, plan.policy_every);
    objective(plan).map_or(0.0, |objective| step_flops(model, &objective, plan.policy.is_sliced(), measures, record))
}

/// The settings of the engine. Without a number of steps, it follows from the epochs.
pub(crate) fn settings(plan: &RepairPlan, n_pairs: usize) -> Settings {
    let per_step = (plan.batch_size * plan.accumulation).max(1);
    let by_epochs = plan.epochs.saturating_mul(n_pairs.div_ceil(per_step) as u64);
    Settings {
        n_steps: plan.steps.unwrap_or(by_epochs),
        batch_size: plan.batch_size,
        accumulation: plan.accumulation,
        utility_batch_size: 0,
        optimizer: match plan.optimizer {
            Optimizer::Rmsprop => OptimizerKind::rmsprop(),
            Optimizer::Adamw => OptimizerKind::adamw(0.0),
        },
        state_mode: match plan.optimizer_state {
            OptimizerState::Keep => StateMode::Keep,
            OptimizerState::Reset => StateMode::Reset,
            OptimizerState::Debias => StateMode::Debias,
        },
        lr: plan.lr,
        schedule: Schedule::Constant,
        warmup_steps: plan.warmup_steps,
        clip_norm: plan.clip_norm,
        eval_every_examples: plan.eval_every,
        patience: plan.patience,
        eval_batch_size: EVAL_BATCH.min(2 * plan.batch_size),
        skip_prompt: plan.skip_prompt,
        shuffle: !plan.no_shuffle,
        seed: plan.seed,
    }
}
