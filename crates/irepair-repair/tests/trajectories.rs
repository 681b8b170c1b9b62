//! Ten steps of every method, equal to a literal eager PyTorch script (`parity/trajectories/`, generator next to them).
//!
//! The script runs all forward passes first and keeps the whole graph, as published; the engine chooses the slice first
//! and computes nothing outside it. METHOD §6 says the updates are the same; this is where it is shown.
//!
//! Tolerances. Repeating the script from weights jittered by one part in 10^7 moves its losses by up to 2e-5 of their
//! size after ten steps (`drift` in each `meta.json`), so 5e-5, relative above 1, is what rounding can cost. Slices
//! must be the same: the script refuses near ties. Weights are compared one by one, and a few in a thousand may differ:
//! RMSprop and AdamW turn the sign of a gradient entry into a full step, and where the entry is smaller than rounding
//! the sign is arbitrary.

use std::sync::Arc;

use irepair_core::Scope;
use irepair_core::spec::{Number, Numbers};
use irepair_data::TokenPair;
use irepair_model::{BlockModel, CausalLm};
use irepair_objective::Objective;
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, Identity, Localise, OptimizerKind, RepairData, Settings, StepBatch};
use serde_json::Value;
use support::{assert_close, json, numbers, parity, rows, tensors, values};
use tch::{Device, Kind, Tensor};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 5e-5;
const WEIGHT_TOLERANCE: f64 = 1e-4;
const SHARE_OF_ODD_WEIGHTS: f64 = 2e-3;
const N_STEPS: u64 = 10;

/// Four pairs for every step in order, the same four utility texts in all.
fn data() -> Arc<RepairData> {
    let inputs = json("trajectories/inputs.json");
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let pair =
        |v: &Value| TokenPair { prompt: ids(&v["prompt"]), chosen: ids(&v["chosen"]), rejected: ids(&v["rejected"]) };
    Arc::new(RepairData {
        pairs: inputs["pairs"].as_array().unwrap().iter().map(pair).collect(),
        utility: rows(&inputs["utility"]),
        pad_id: inputs["pad_id"].as_u64().unwrap() as u32,
        ..RepairData::default()
    })
}

fn objective(config: &Value) -> Objective {
    let keys = [
        ("nll_weight", Number::Beta),
        ("kl_weight", Number::Gamma),
        ("scale", Number::Scale),
        ("dpo_beta", Number::DpoBeta),
        ("npo_beta", Number::NpoBeta),
    ];
    let given = keys.iter().filter_map(|(key, number)| Some((*number, config[*key].as_f64()?)));
    let numbers = given.fold(Numbers::default(), |numbers, (number, value)| numbers.with(number, value));
    Objective::of_method(config["objective"].as_str().unwrap().parse().unwrap(), &numbers)
}

fn settings(config: &Value) -> Settings {
    Settings {
        n_steps: N_STEPS,
        batch_size: 4,
        optimizer: match config["optimizer"].as_str().unwrap() {
            "rmsprop" => OptimizerKind::rmsprop(),
            "adamw" => OptimizerKind::adamw(0.01),
            other => panic!("no optimizer `{other}`"),
        },
        lr: config["lr"].as_f64().unwrap(),
        warmup_steps: config["warmup_steps"].as_u64().unwrap(),
        clip_norm: config["clip_norm"].as_f64().unwrap(),
        shuffle: false,
        ..Settings::default()
    }
}

fn policy(config: &Value) -> PolicySpec {
    match config["slice_k"].as_u64() {
        None => PolicySpec::new(Policy::All),
        Some(k) => PolicySpec { slice_k: format!("{k}b").parse().unwrap(), ..PolicySpec::new(Policy::Dynamic) },
    }
}

/// The slicer under test, with its sensitivities written down.
struct Watched {
    slicer: SliceLocaliser,
    seen: Vec<Vec<f64>>,
}

impl Localise for Watched {
    fn localise(&mut self, model: &dyn BlockModel, batch: &StepBatch, step: u64) -> irepair_train::Result<Scope> {
        let scope = self.slicer.localise(model, batch, step)?;
        self.seen.extend(self.slicer.last().map(|s| s.values().to_vec()));
        Ok(scope)
    }

    fn identity(&self) -> Identity {
        self.slicer.identity()
    }
}

/// A parameter without GPT-2's key bias: softmax ignores it, so its true gradient is zero and its steps are noise.
fn comparable(name: &str, tensor: &Tensor) -> Vec<f64> {
    let mut all = values(tensor);
    if name.ends_with("attn.c_attn.bias") {
        let d = all.len() / 3;
        all.drain(d..2 * d);
    }
    all
}

fn check_weights(case: &str, model: &CausalLm) {
    let want = tensors(&format!("trajectories/{case}/final.safetensors"));
    let (mut n_weights, mut odd) = (0, Vec::new());
    for parameter in model.parameters() {
        let want = &want[&format!("transformer.{}", parameter.name)];
        let pairs = comparable(&parameter.name, &parameter.tensor).into_iter().zip(comparable(&parameter.name, want));
        for (i, (got, want)) in pairs.enumerate() {
            n_weights += 1;
            if !matches!((got - want).abs(), d if d <= WEIGHT_TOLERANCE) {
                odd.push(format!("\n  {}[{i}] got {got} want {want}", parameter.name));
            }
        }
    }
    let allowed = (SHARE_OF_ODD_WEIGHTS * f64::from(n_weights)) as usize;
    let first = odd.iter().take(5).map(String::as_str).collect::<String>();
    assert!(odd.len() <= allowed, "{case}: {} of {n_weights} weights beyond {WEIGHT_TOLERANCE:.0e}{first}", odd.len());
}

fn replay(case: &str) {
    let golden = json(&format!("trajectories/{case}/golden.json"));
    let config = &golden["config"];
    let start = parity("trajectories").join(config["model"].as_str().unwrap());
    let (model, _) = CausalLm::load(&start, Device::Cpu, Kind::Float).unwrap();
    let (data, settings) = (data(), settings(config));
    let slicer = SliceLocaliser::new(&policy(config), &data, &settings).unwrap();
    let mut watched = Watched { slicer, seen: Vec::new() };
    let mut engine = Engine::new(&model, objective(config), &mut watched, &data, settings).unwrap();
    let mut want_seen = Vec::new();
    for want in golden["steps"].as_array().unwrap() {
        let got = engine.step().unwrap();
        let check = |part: &str, got: f64| {
            assert_close(&format!("{case}, step {}: {part}", want["step"]), &[got], &numbers(&want[part]), TOLERANCE);
        };
        let slice: Vec<f64> = got.slice.iter().map(|block| block.0 as f64).collect();
        assert_eq!(slice, numbers(&want["slice"]), "{case}, step {}: slice", want["step"]);
        check("loss", got.loss);
        check("grad_norm", got.grad_norm);
        assert!((got.lr - want["lr"].as_f64().unwrap()).abs() < 1e-15, "{case}: lr {} for {}", got.lr, want["lr"]);
        for (part, got) in [("nll", got.nll), ("kl", got.kl)] {
            assert_eq!(got.is_some(), want.get(part).is_some(), "{case}: has {part}");
            if let Some(got) = got {
                check(part, got);
            }
        }
        want_seen.extend(want.get("sensitivities").map(numbers));
    }
    engine.finish().unwrap();
    assert_eq!(watched.seen.len(), want_seen.len(), "{case}: steps that measured");
    for (step, (got, want)) in watched.seen.iter().zip(&want_seen).enumerate() {
        assert_close(&format!("{case}, step {step}: sensitivities"), got, want, TOLERANCE);
    }
    check_weights(case, &model);
}

#[test]
fn irepair() {
    replay("irepair");
}

#[test]
fn irepair_on_gpt_neo() {
    replay("irepair-gpt-neo");
}

#[test]
fn irepair_with_two_blocks_a_step() {
    replay("irepair-top2");
}

#[test]
fn irepair_with_every_step_clipped() {
    replay("irepair-clipped");
}

#[test]
fn irepair_with_adamw() {
    replay("irepair-adamw");
}

#[test]
fn irepair_without_kl() {
    replay("irepair-no-kl");
}

#[test]
fn dapt() {
    replay("dapt");
}

#[test]
fn dapt_with_kl() {
    replay("dapt-kl");
}

#[test]
fn dpo() {
    replay("dpo");
}

#[test]
fn sliced_dpo() {
    replay("dpo-sliced");
}

#[test]
fn npo_with_kl() {
    replay("npo");
}
