//! From settings to the parts of a run: objective, localiser and the engine's settings. The methods themselves stand in
//! `irepair_core::spec`.

use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_config::{EVAL_BATCH, Localising, Optimizer, OptimizerState, RepairPlan};
use irepair_core::spec::{Measures, UnitKind};
use irepair_core::{StepRecord, Unit};
use irepair_model::{Architecture, CausalLm, UnitMap};
use irepair_objective::Objective;
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::Route;
use irepair_slicing::PolicySpec;
use irepair_train::{
    Localise, Measured, OptimizerKind, RepairData, Schedule, Settings, StateMode, forward_flops, step_flops,
};

/// The loss of a method; none for `vanilla`, which trains nothing.
pub(crate) fn objective(plan: &RepairPlan) -> Option<Objective> {
    plan.method.trains().then(|| Objective::of_method(plan.method, &plan.numbers()))
}

/// True when the loss is of the difference between both sides alone: of two equal ones it learns nothing.
pub(crate) fn compares(plan: &RepairPlan) -> bool {
    let needs = objective(plan).map(|objective| objective.needs());
    needs.is_some_and(|needs| needs.chosen && needs.rejected)
}

/// The units of a model that may be chosen.
///
/// # Errors
/// Lists that do not fit the model.
pub(crate) fn eligible(plan: &RepairPlan, of: &Architecture) -> irepair_core::Result<Vec<Unit>> {
    let kind = plan.unit.unwrap_or(UnitKind::Block);
    UnitMap::new(of).eligible(kind, plan.only.as_ref(), plan.exclude.as_ref())
}

/// What chooses the blocks or units of a step.
pub(crate) fn localiser(
    plan: &RepairPlan,
    data: &Arc<RepairData>,
    settings: &Settings,
    of: &Architecture,
) -> anyhow::Result<Box<dyn Localise + Send>> {
    if !plan.policy.is_sliced() {
        return Ok(Box::new(Unsliced));
    }
    let spec = PolicySpec { kind: plan.policy, slice_k: plan.top_k, numbers: plan.numbers() };
    let slicer = SliceLocaliser::new(&spec, data, settings)?;
    let slicer = slicer.metric(plan.sensitivity, Route::Ghost).fixed_batches(plan.fixed_batches);
    let slicer = if plan.localise == Some(Localising::First) { slicer.by_first_micro_batch() } else { slicer };
    let units = eligible(plan, of)?;
    Ok(Box::new(match plan.unit {
        Some(kind) if kind != UnitKind::Block => slicer.among_units(kind, units),
        _ if units.len() < of.n_block => slicer.among(units.iter().map(|unit| unit.block).collect()),
        _ => slicer,
    }))
}

/// Counted work of a step (METHOD §12).
pub(crate) fn flops_of_step(model: &CausalLm, plan: &RepairPlan, record: &StepRecord) -> f64 {
    let (sliced, n_pairs) = (plan.policy.is_sliced(), plan.batch_size * plan.accumulation);
    objective(plan).map_or(0.0, |objective| match plan.method.ablates() {
        true => forward_flops(model, &objective, record),
        false => step_flops(model, &objective, sliced, measured(plan, record.step), record, n_pairs),
    })
}

/// What a step reads to choose its slice, and the first step to make the estimate of fixed selection and the Fisher
/// matrix.
fn measured(plan: &RepairPlan, step: u64) -> Measured {
    let n = match plan.policy.row().measures {
        Measures::Once if step == 0 => plan.fixed_batches as f64,
        _ if plan.policy.measures_at(step, plan.policy_every) => plan.n_measured() as f64 / plan.accumulation as f64,
        _ => 0.0,
    };
    let [forward, backward] = plan.sensitivity.row().at_steps.unwrap_or_default().map(|passes| n * f64::from(passes));
    let n_pairs = (plan.batch_size * plan.accumulation) as f64;
    let fisher = if step == 0 && plan.reads_fisher() { plan.fisher_texts as f64 / n_pairs } else { 0.0 };
    Measured { forward, backward, to_weights: plan.sensitivity.has_weight_gradients(), fisher }
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
            Optimizer::Natural => OptimizerKind::natural(),
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
        budget_kl: plan.budget_kl,
        eval_batch_size: EVAL_BATCH.min(2 * plan.batch_size),
        lora_rank: plan.lora_rank.unwrap_or(0),
        ablation: plan.method.ablates(),
        equal_step: plan.equal_step,
        fisher_texts: plan.fisher_texts,
        fisher_damping: plan.fisher_damping,
        skip_prompt: plan.skip_prompt,
        shuffle: !plan.no_shuffle,
        seed: plan.seed,
    }
}
