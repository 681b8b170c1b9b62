//! Tiny models of every family, and texts for them.

use irepair_core::PaddedTokens;
use irepair_model::{Architecture, CausalLm, Shape, TextBatch};
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

/// Blocks of width 16. Every weight is set here, whatever a fresh model starts from, and large enough to matter.
pub(crate) fn model_of(family: &str, n_blocks: usize, n_inner: Option<usize>) -> CausalLm {
    // Tests run in parallel; threads inside an operation this small only wait for one another.
    tch::set_num_threads(1);
    let config = match family {
        "gpt2" => Architecture::gpt2(n_blocks, 16, 2, 48, 19),
        "gpt-neo" => Architecture::gpt_neo(n_blocks, 16, 2, 48, 19, 4),
        other => {
            let shape = Shape::new(other, [n_blocks, 16, 4], 48, 19);
            Shape { n_kv_head: Some(2), n_inner, window_size: Some(4), ..shape }.architecture().unwrap()
        }
    };
    let model = CausalLm::random(config, 5, Device::Cpu, Kind::Float).unwrap();
    no_grad(|| {
        for (i, parameter) in irepair_model::BlockModel::parameters(&model).iter().enumerate() {
            let mut tensor = parameter.tensor.shallow_clone();
            let n = Tensor::arange(tensor.numel() as i64, (Kind::Double, Device::Cpu));
            let noise = ((n * 12.9898 + i as f64).sin() * 43758.5453).frac().view_as(&tensor);
            match tensor.dim() {
                2 => tensor.copy_(&(noise * 0.2)),
                _ => drop(tensor.g_add_(&(noise * 0.1))),
            }
        }
    });
    model
}

/// Prompts with their continuations, as one batch.
pub(crate) fn text(prompts: &[Vec<u32>], continuations: &[Vec<u32>]) -> TextBatch {
    TextBatch::new(PaddedTokens::prompted(prompts, continuations, 0).unwrap(), Device::Cpu)
}
