//! The state of a resumed run.

use std::path::Path;
use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_data::TokenPair;
use irepair_model::{BlockModel, CausalLm};
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, OptimizerKind, RepairData, Settings};
use tch::{Device, Kind, Tensor};

use super::checkpoint::config;
use crate::files::shared::{once, put, safetensors, said};

/// Pairs of the run.
pub fn data() -> Arc<RepairData> {
    let pair = |i: u32| TokenPair { prompt: vec![i % 3], chosen: vec![1], rejected: vec![2] };
    Arc::new(RepairData { pairs: (0..4).map(pair).collect(), validation: vec![pair(0)], ..RepairData::default() })
}

/// Settings of the run: AdamW, which has most state, and a validation after each step.
pub fn settings() -> Settings {
    Settings {
        n_steps: 4,
        batch_size: 1,
        warmup_steps: 0,
        eval_every_examples: 1,
        optimizer: OptimizerKind::adamw(0.0),
        ..Settings::default()
    }
}

/// A policy that has a state.
pub fn policy() -> PolicySpec {
    PolicySpec::new(Policy::Ema)
}

fn bits(model: &CausalLm) -> Vec<Vec<f32>> {
    let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().view(-1)).expect("float32 on the CPU");
    model.parameters().iter().map(|p| of(&p.tensor)).collect()
}

/// A refusal changes neither weights nor run; a resumed run takes a step or returns an error.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, bytes: &[u8]) {
    once(dir, |_| tch::set_num_threads(1));
    let path = put(dir, "fuzzed.safetensors", &safetensors(bytes));
    let (data, settings) = (data(), settings());
    let model = CausalLm::random(config(), 1, Device::Cpu, Kind::Float).expect("a tiny model");
    let mut localiser = SliceLocaliser::new(&policy(), &data, &settings).expect("a policy");
    let mut engine = Engine::new(&model, Method::Dapt, &mut localiser, &data, settings).expect("a tiny run");
    let before = bits(&model);
    match engine.resume(&path) {
        Ok(()) => {
            if engine.unfinished()
                && let Err(error) = engine.step()
            {
                said(&error);
            }
        }
        Err(error) => {
            said(&error);
            assert!(engine.next_step() == 0 && engine.n_optimizer_bytes() == 0, "a refusal changes no run");
            assert!(bits(&model) == before, "a refusal changes no weight");
        }
    }
}
