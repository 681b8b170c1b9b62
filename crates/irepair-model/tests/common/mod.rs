//! Small random models and their files, for the tests next to this folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use irepair_model::{Architecture, BlockModel, CausalLm, Shape};
use tch::{Device, Kind, Tensor, no_grad};

/// Every family.
pub(crate) const FAMILIES: [&str; 12] = [
    "gpt2",
    "gpt-neo",
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt-neox",
    "olmo2",
    "gemma2",
    "gemma3-text",
    "phi3",
    "smollm3",
];
pub(crate) const N_VOCAB: u32 = 19;

pub(crate) fn config(family: &str) -> Architecture {
    match family {
        "gpt2" => Architecture::gpt2(2, 16, 2, 32, N_VOCAB as usize),
        "gpt-neo" => Architecture::gpt_neo(2, 16, 2, 32, N_VOCAB as usize, 4),
        // Two query heads share one head of keys and values.
        other => {
            let shape = Shape::new(other, [2, 16, 4], 32, N_VOCAB as usize);
            Shape { n_kv_head: Some(2), n_inner: Some(24), window_size: Some(4), ..shape }.architecture().unwrap()
        }
    }
}

/// Weights large enough that the text decides the next token, whatever a fresh model starts from.
pub(crate) fn model(family: &str) -> CausalLm {
    // Tests run in parallel; threads inside an operation this small only wait for one another.
    tch::set_num_threads(1);
    let model = CausalLm::random(config(family), 5, Device::Cpu, Kind::Float).unwrap();
    no_grad(|| {
        for (i, parameter) in model.parameters().iter().enumerate() {
            let n = Tensor::arange(parameter.tensor.numel() as i64, (Kind::Double, Device::Cpu));
            let noise = ((n * 12.9898 + i as f64).sin() * 43758.5453).frac().view_as(&parameter.tensor);
            parameter.tensor.shallow_clone().copy_(&(noise * 0.3));
        }
    });
    model
}

pub(crate) fn bits(model: &CausalLm) -> Vec<Vec<u32>> {
    let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().view(-1)).unwrap().into_iter().map(f32::to_bits).collect();
    model.parameters().iter().map(|p| of(&p.tensor)).collect()
}

/// Every file of a directory, by name.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(dir).unwrap().map(read).collect()
}

pub(crate) fn load(dir: &Path) -> CausalLm {
    CausalLm::load(dir, Device::Cpu, Kind::Float).unwrap().0
}

/// Splits the one weights file of `dir` in two, with an index, as large checkpoints come.
pub(crate) fn shard(dir: &Path) {
    let whole = dir.join("model.safetensors");
    let (tensors, metadata) = irepair_model::read_tensors(&whole).unwrap();
    let shard_of = |name: &str| format!("model-0000{}-of-00002.safetensors", 1 + usize::from(name.contains(".1.")));
    let mut map = serde_json::Map::new();
    for file in [shard_of(""), shard_of(".1.")] {
        let part: Vec<_> =
            tensors.iter().filter(|(name, _)| shard_of(name) == file).map(|(n, t)| (n.clone(), t)).collect();
        irepair_model::write_tensors(&dir.join(&file), &part, metadata.clone()).unwrap();
        part.iter().for_each(|(name, _)| drop(map.insert(name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(whole).unwrap();
}
