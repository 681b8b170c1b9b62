//! `model.safetensors` with the `config.json` of a tiny GPT-2.

use std::fs;
use std::path::Path;

use irepair_model::{Architecture, CausalLm, read_checkpoint, read_tensors};
use tch::{Device, Kind};

use crate::files::shared::{once, put, safetensors, said};

/// A model of one block, small enough for a corpus.
pub fn config() -> Architecture {
    Architecture::gpt2(1, 2, 1, 2, 3)
}

/// An accepted model is saved byte for byte equal; other tensors are read or refused by name.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let (model, out) = (dir.join("model"), dir.join("out"));
    once(dir, |_| {
        tch::set_num_threads(1);
        fs::create_dir(&model).expect("a directory");
        put(&model, "config.json", config().to_json().as_bytes());
    });
    let bytes = safetensors(data);
    let path = put(&model, "model.safetensors", &bytes);
    match CausalLm::load(&model, Device::Cpu, Kind::Float) {
        Ok((loaded, report)) => {
            assert!(report.n_bytes <= bytes.len() as u64);
            loaded.save(&out).expect("the target's own directory");
            assert!(fs::read(out.join("model.safetensors")).expect("just written") == bytes);
        }
        Err(error) => said(&error),
    }
    if let Err(error) = read_tensors(&path) {
        said(&error);
    }
    if let Err(error) = read_checkpoint(&model, |name| name.len().is_multiple_of(2)) {
        said(&error);
    }
}
