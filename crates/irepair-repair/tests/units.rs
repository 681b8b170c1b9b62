//! Laws of repairs of units below the block (METHOD §5, §8, §19, §23), for every family: a step changes the rows and
//! columns of its units and no other bit, by the gradient of these alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use irepair_core::spec::{Method, Number, UnitKind};
use irepair_core::{Scope, SliceSize, Unit, UnitList};
use irepair_model::{BlockModel, CausalLm, FAMILIES, UnitMap};
use irepair_objective::TextLogits;
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{BatchSampler, Engine, OptimizerKind, RepairData, Settings, StateMode};
use support::{
    Always, N_BLOCKS, assert_near, assert_resume_is_exact, bits, blocks, data, decaying_and_clipped, model, settings,
    take,
};
use tch::{Kind, Tensor, no_grad};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

/// Every kind below the block.
const KINDS: [UnitKind; 3] = [UnitKind::Half, UnitKind::Head, UnitKind::Neuron];

fn slicer(
    policy: Policy,
    (kind, k): (UnitKind, usize),
    model: &CausalLm,
    data: &Arc<RepairData>,
    settings: &Settings,
) -> SliceLocaliser {
    let spec = PolicySpec { slice_k: SliceSize::Units(k), ..PolicySpec::new(policy) }
        .with(Number::PolicyEvery, 2.0)
        .with(Number::PolicyEpsilon, 0.5);
    let units = UnitMap::new(model.config()).units(kind).collect();
    SliceLocaliser::new(&spec, data, settings).unwrap().fixed_batches(2).among_units(kind, units)
}

/// Which weights of each parameter are in the slice of these units.
fn inside(model: &CausalLm, units: &UnitList) -> Vec<Vec<bool>> {
    let map = model.unit_map().unwrap();
    let mut inside: Vec<Vec<bool>> = model.parameters().iter().map(|p| vec![false; p.tensor.numel()]).collect();
    for rows in map.slice(units.iter()).unwrap() {
        for run in rows.runs(&map.parameters()[rows.parameter].shape) {
            inside[rows.parameter][run].fill(true);
        }
    }
    inside
}

/// Wants that weights outside the units have the same bits before and after, and that every unit has changed.
fn assert_changed_alone(what: &str, model: &CausalLm, units: &UnitList, before: &[Vec<u32>], after: &[Vec<u32>]) {
    let inside = inside(model, units);
    for (((name, inside), before), after) in
        model.parameters().iter().map(|p| &p.name).zip(&inside).zip(before).zip(after)
    {
        let moved = before.iter().zip(after).zip(inside).any(|((before, after), inside)| !inside && before != after);
        assert!(!moved, "{what}: {name} has changed outside of {units}");
    }
    let map = model.unit_map().unwrap();
    for unit in units.iter() {
        let changed = map.slice([unit]).unwrap().iter().any(|rows| {
            let mut runs = rows.runs(&map.parameters()[rows.parameter].shape);
            runs.any(|run| before[rows.parameter][run.clone()] != after[rows.parameter][run])
        });
        assert!(changed, "{what}: {unit} has not changed");
    }
}

#[test]
fn a_step_changes_the_rows_of_its_units_and_no_other_bit() {
    let data = data();
    for family in FAMILIES.iter().map(|family| family.name) {
        for kind in KINDS {
            let natural = Settings { optimizer: OptimizerKind::natural(), lr: 1e-4, ..settings() };
            for (policy, settings) in
                [(Policy::Dynamic, settings()), (Policy::Random, decaying_and_clipped()), (Policy::Reverse, natural)]
            {
                let model = model(family);
                let k = if kind == UnitKind::Neuron { 5 } else { 2 };
                let mut slicer = slicer(policy, (kind, k), &model, &data, &settings);
                let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings).unwrap();
                for step in 0..3 {
                    let before = bits(&model);
                    let record = engine.step().unwrap();
                    let units = record.units.unwrap();
                    assert_eq!((units.len(), units.kind()), (k, Some(kind)));
                    assert_eq!(record.slice, Scope::Units(units.clone()).blocks(N_BLOCKS));
                    let what = format!("{family}, {kind}, {policy}, step {step}");
                    assert_changed_alone(&what, &model, &units, &before, &bits(&model));
                }
            }
        }
    }
}

#[test]
fn an_equal_step_keeps_the_direction_and_is_the_rate_of_whatever_it_changes() {
    let data = data();
    let places = ["1.head.0", "0.attention,2.mlp", "1.neuron.3-6"].map(|units| Scope::Units(units.parse().unwrap()));
    for family in FAMILIES.iter().map(|family| family.name) {
        for scope in places.iter().cloned().chain([blocks([1]), Scope::Everything]) {
            let change = |equal_step| {
                let model = model(family);
                let before: Vec<Tensor> = model.parameters().iter().map(|p| p.tensor.detach().copy()).collect();
                let settings = Settings { equal_step, lr: 0.01, warmup_steps: 0, n_steps: 1, ..settings() };
                let mut choose = Always(scope.clone());
                Engine::new(&model, Method::Irepair, &mut choose, &data, settings).unwrap().step().unwrap();
                let flat = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).view(-1)).unwrap();
                let of = |(p, before): (&irepair_model::Parameter, &Tensor)| flat(p.tensor.detach() - before);
                let change: Vec<f64> = model.parameters().iter().zip(&before).flat_map(of).collect();
                let was: Vec<f64> = before.into_iter().flat_map(flat).collect();
                (change, was, model)
            };
            let ((plain, ..), (equal, was, model)) = (change(false), change(true));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let what = format!("{family}, {scope:?}");
            let along = dot(&plain, &equal) / (dot(&plain, &plain) * dot(&equal, &equal)).sqrt();
            assert!(along > 1.0 - 1e-5, "{what}: {along}");
            let held: Vec<f64> = match &scope {
                Scope::Units(units) => {
                    let inside = inside(&model, units).into_iter().flatten();
                    inside.zip(&was).filter(|(inside, _)| *inside).map(|(_, weight)| *weight).collect()
                }
                // What has no gradient is no part of the step.
                _ => {
                    was.iter().zip(of_parameters(&model, &equal)).filter(|(_, moved)| *moved).map(|(w, _)| *w).collect()
                }
            };
            let share = (dot(&equal, &equal) / dot(&held, &held)).sqrt();
            assert!((share / 0.01 - 1.0).abs() < 1e-4, "{what}: {share}");
        }
    }
}

/// For every weight, whether its parameter moved at all.
fn of_parameters(model: &CausalLm, change: &[f64]) -> Vec<bool> {
    let mut rest = change;
    let moved = model.parameters().iter().flat_map(|p| {
        let (own, after) = rest.split_at(p.tensor.numel());
        rest = after;
        vec![own.iter().any(|change| *change != 0.0); own.len()]
    });
    moved.collect()
}

/// The oracle: the gradient of every block by the plain route, times a mask of 0 and 1, clipped by its own norm, and
/// the first step of RMSprop by its formula.
#[test]
fn the_first_step_is_that_of_the_masked_gradient_clipped_by_its_own_norm() {
    let (data, lr, clip) = (data(), 1e-3, 1e-2);
    for family in FAMILIES.iter().map(|family| family.name) {
        for units in ["1.attention,2.mlp", "0.head.0,2.head.1", "0.head.0-1", "1.neuron.3-6,3.neuron.0"] {
            let (model, base) = (model(family), model(family));
            let units: UnitList = units.parse().unwrap();
            let (optimizer, n_steps) = (OptimizerKind::RmsProp { alpha: 0.99, eps: 1e-3 }, 1);
            let settings = Settings { lr, optimizer, clip_norm: clip, warmup_steps: 0, n_steps, ..settings() };
            let batch = BatchSampler::new(&data, false, &settings, base.device()).unwrap().at(0, &settings).unwrap();
            let mut choose = Always(Scope::Units(units.clone()));
            let mut engine = Engine::new(&model, Method::IrepairNoKl, &mut choose, &data, settings).unwrap();
            let record = engine.step().unwrap();

            base.train_only(&blocks(0..N_BLOCKS));
            let text = batch.micro[0].chosen.as_ref().unwrap();
            let logits = base.logits(text);
            let irepair_model::TextBatch { ids, attention_mask, loss_mask, counts, .. } = text;
            let text = TextLogits { ids, attention_mask, loss_mask, counts: *counts, logits: &logits };
            let loss = text.log_probs().unwrap().nll_mean().unwrap() * 0.5;
            let inside = inside(&base, &units);
            let mask =
                |index: usize, like: &Tensor| Tensor::from_slice(&inside[index]).to_kind(Kind::Float).view_as(like);
            let gradients: BTreeMap<usize, Tensor> =
                base.gradients(&loss).unwrap().into_iter().map(|(i, g)| (i, &g * mask(i, &g))).collect();
            let square: f64 = gradients.values().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
            let what = format!("{family}, {units}");
            assert_near(&what, record.grad_norm, square.sqrt(), 1e-5);
            let factor = (clip / (square.sqrt() + 1e-6)).min(1.0);
            assert!(factor < 1.0, "{what}: clipping is part of it");
            for (index, parameter) in base.parameters().iter().enumerate() {
                let want = no_grad(|| match gradients.get(&index) {
                    Some(gradient) => {
                        let gradient = gradient * factor;
                        &parameter.tensor - &gradient * lr / ((gradient.square() * 0.01).sqrt() + 1e-3)
                    }
                    None => parameter.tensor.copy(),
                });
                let far = no_grad(|| (&model.parameters()[index].tensor - want).abs().max().double_value(&[]));
                assert!(far <= 1e-6, "{what}, {}: {far:e}", parameter.name);
            }
        }
    }
}

#[test]
fn all_units_of_a_kind_are_chosen_as_a_whole() {
    let data = data();
    for family in ["gpt2", "llama", "phi3", "olmo2"] {
        for kind in KINDS {
            let units: Vec<Unit> = UnitMap::new(model(family).config()).units(kind).collect();
            let run = |policy, k| {
                let model = model(family);
                let mut slicer = slicer(policy, (kind, k), &model, &data, &settings());
                let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap();
                let records = take(&mut engine, 3);
                (bits(&model), records.into_iter().map(|record| (record.loss, record.units)).collect::<Vec<_>>())
            };
            let every = run(Policy::Blocks, 1);
            assert!(run(Policy::Dynamic, units.len()) == every, "{family}, {kind}");
            let plain = |scope: Scope| {
                let model = model(family);
                take(&mut Engine::new(&model, Method::Irepair, &mut Always(scope), &data, settings()).unwrap(), 3);
                bits(&model)
            };
            assert!(plain(Scope::Units(units.into_iter().collect())) == every.0, "{family}, {kind}");
            if kind == UnitKind::Half {
                assert!(plain(blocks(0..N_BLOCKS)) == every.0, "{family}: halves together are blocks, bit for bit");
            }
        }
    }
}

#[test]
fn a_stopped_run_of_units_is_resumed_bit_for_bit() {
    let resumed = |family: &'static str, kind, k, policy, settings: Settings| {
        let choose = settings.clone();
        assert_resume_is_exact(family, Method::Irepair, &settings, move |data| {
            Box::new(slicer(policy, (kind, k), &model(family), data, &choose))
        });
    };
    let adamw = || Settings { optimizer: OptimizerKind::adamw(0.1), ..settings() };
    resumed("gpt2", UnitKind::Head, 2, Policy::Dynamic, settings());
    resumed("phi3", UnitKind::Neuron, 40, Policy::Random, adamw());
    resumed("llama", UnitKind::Half, 2, Policy::Ema, adamw());
    resumed("llama", UnitKind::Head, 5, Policy::Explore, Settings { state_mode: StateMode::Reset, ..settings() });
    resumed("olmo2", UnitKind::Head, 4, Policy::Fixed, Settings { state_mode: StateMode::Debias, ..settings() });
    let natural = Settings { optimizer: OptimizerKind::natural(), lr: 1e-4, ..settings() };
    resumed("gpt-neox", UnitKind::Neuron, 30, Policy::EveryN, natural);
}

#[test]
fn fixed_keeps_the_units_of_one_estimate_and_only_those_that_may_be_chosen() {
    let (data, family) = (data(), "qwen3");
    let model = model(family);
    let spec = PolicySpec { slice_k: SliceSize::Percent(50.0), ..PolicySpec::new(Policy::Fixed) };
    let only: UnitList = "1.attention,3.head.2".parse().unwrap();
    let units = UnitMap::new(model.config()).eligible(UnitKind::Head, Some(&only), None).unwrap();
    assert_eq!(units.len(), 5);
    let slicer = SliceLocaliser::new(&spec, &data, &settings()).unwrap().fixed_batches(2);
    let mut slicer = slicer.among_units(UnitKind::Head, units);
    let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap();
    let chosen: Vec<UnitList> = take(&mut engine, 3).into_iter().filter_map(|record| record.units).collect();
    assert_eq!((chosen.len(), chosen[0].len()), (3, 2), "half of five");
    assert!(chosen.iter().all(|units| *units == chosen[0] && units.iter().all(|unit| only.covers(unit))));
    drop(engine);
    assert_eq!(slicer.last().unwrap().len(), 5);
}

#[test]
fn what_cannot_be_sliced_by_units_says_so() {
    let data = data();
    let refused = |units: &str, settings: Settings| {
        let model = model("gpt2");
        let mut choose = Always(Scope::Units(units.parse().unwrap()));
        Engine::new(&model, Method::Irepair, &mut choose, &data, settings).unwrap().step().unwrap_err().to_string()
    };
    assert_eq!(refused("1,2.head.0", settings()), "a slice is not of units of one kind");
    assert_eq!(refused("1.head.9", settings()), "the model has no unit `1.head.9`");
    let adapters = Settings { lora_rank: 2, ..settings() };
    assert_eq!(refused("1.head.0", adapters), "adapters change whole projections, and no units below the block");
}
