//! Weights that stay in their files give the bits of weights that were loaded, and the files stay what they are.

use std::path::Path;

use irepair_core::StepRecord;
use irepair_core::fs::sha256_file;
use irepair_core::spec::Method;
use irepair_model::{BlockModel, CausalLm, weights_sha256};
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, Settings};
use support::{bits, data, model, settings, take};
use tch::{Device, Kind};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

/// An engine over `model`; IRepair under a KL budget, so that there is a reference.
fn engine(model: &CausalLm, policy: Policy) -> Engine<&CausalLm, Box<SliceLocaliser>> {
    let (data, settings) = (data(), Settings { n_steps: 5, budget_kl: Some(10.0), ..settings() });
    let slicer = SliceLocaliser::new(&PolicySpec::new(policy), &data, &settings).unwrap();
    Engine::new(model, Method::Irepair, Box::new(slicer), &data, settings).unwrap()
}

fn trained(model: &CausalLm, policy: Policy) -> Vec<StepRecord> {
    let mut engine = engine(model, policy);
    let records = take(&mut engine, 5);
    engine.finish().unwrap();
    records
}

fn saved(family: &str, dir: &Path) -> CausalLm {
    std::fs::create_dir(dir).unwrap();
    model(family).save(dir).unwrap();
    CausalLm::load(dir, Device::Cpu, Kind::Float).unwrap().0
}

/// With nothing that may stay in memory: all is dropped before every block.
fn in_files(dir: &Path) -> CausalLm {
    CausalLm::load_in_files(dir, Kind::Float, 0).unwrap().0
}

#[test]
fn a_model_in_its_files_trains_to_the_bits_of_one_that_was_loaded() {
    let dir = tempfile::tempdir().unwrap();
    for family in ["gpt2", "llama", "gemma2"] {
        for policy in [Policy::Dynamic, Policy::Random] {
            let at = dir.path().join(format!("{family}-{policy}"));
            let loaded = saved(family, &at);
            let before = sha256_file(&at.join("model.safetensors")).unwrap();
            let there = in_files(&at);
            let n = there.parameters().len();
            assert!((0..n).all(|index| there.is_in_file(index)));
            assert_eq!(weights_sha256(there.parameters()), weights_sha256(loaded.parameters()));
            assert_eq!(trained(&there, policy), trained(&loaded, policy), "{family} {policy}");
            assert!(bits(&there) == bits(&loaded), "{family} {policy}");
            // What no step chose is still where it was.
            let n_changed = (0..n).filter(|&index| !there.is_in_file(index)).count();
            assert!(n_changed > 0 && n_changed < n);
            let out = at.join("out");
            std::fs::create_dir(&out).unwrap();
            there.save(&out).unwrap();
            assert!(bits(&CausalLm::load(&out, Device::Cpu, Kind::Float).unwrap().0) == bits(&loaded));
            assert_eq!(sha256_file(&at.join("model.safetensors")).unwrap(), before, "the file was written to");
        }
    }
}

#[test]
fn a_run_is_resumed_on_weights_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let (at, state) = (dir.path().join("model"), dir.path().join("state.safetensors"));
    let loaded = saved("gpt2", &at);
    let mut first = engine(&loaded, Policy::Dynamic);
    take(&mut first, 2);
    first.save(&state).unwrap();
    let there = in_files(&at);
    let mut second = engine(&there, Policy::Dynamic);
    second.resume(&state).unwrap();
    take(&mut second, 3);
    second.finish().unwrap();
    let whole = CausalLm::load(&at, Device::Cpu, Kind::Float).unwrap().0;
    trained(&whole, Policy::Dynamic);
    assert!(bits(&there) == bits(&whole));
}

#[test]
fn weights_of_another_type_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("model");
    saved("gpt2", &at);
    let there = CausalLm::load_in_files(&at, Kind::BFloat16, 0).unwrap().0;
    assert!((0..there.parameters().len()).all(|index| !there.is_in_file(index)));
}
