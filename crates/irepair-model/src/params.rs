//! Every parameter of a model: its name, shape, block and first value.

use std::collections::HashMap;

use irepair_core::BlockId;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::{Family, ModelConfig};

/// A named tensor of a model.
///
/// The name is the Hugging Face name without the `transformer.` prefix: `h.3.mlp.c_fc.weight`.
#[derive(Debug)]
pub struct Parameter {
    /// Name without the `transformer.` prefix.
    pub name: String,
    /// The block it belongs to; `None` for embeddings, the final norm and an untied head.
    pub block: Option<BlockId>,
    /// The value; shared with the layers that use it.
    pub tensor: Tensor,
}

/// How a parameter starts in a model trained from nothing.
#[derive(Clone, Copy)]
enum Start {
    Zeros,
    Ones,
    Normal { sd: f64 },
}

pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    start: Start,
}

impl Spec {
    /// Starting values drawn by libtorch on `device`.
    pub(crate) fn drawn_there(&self, device: Device, kind: Kind) -> Tensor {
        let (shape, options) = (self.shape.as_slice(), (kind, device));
        match self.start {
            Start::Zeros => Tensor::zeros(shape, options),
            Start::Ones => Tensor::ones(shape, options),
            Start::Normal { sd } => no_grad(|| Tensor::empty(shape, options).normal_(0.0, sd)),
        }
    }
}

/// The block that a parameter name belongs to.
fn block_of(name: &str) -> Option<BlockId> {
    name.strip_prefix("h.")?.split('.').next()?.parse().ok().map(BlockId)
}

/// Lists the parameters in the order of the forward pass.
pub(crate) fn specs(config: &ModelConfig) -> Vec<Spec> {
    let (d, inner) = (config.n_embd as i64, config.n_inner as i64);
    // GPT-2's 0.02 at its width of 768, and as the inverse root of the width elsewhere: narrow models learn from it.
    let sd = 0.02 * (768.0 / config.n_embd as f64).sqrt();
    let normal = Start::Normal { sd };
    // Tokens start further apart than positions: a small model finds what to copy sooner.
    let token = Start::Normal { sd: 4.0 * sd };
    // GPT-2's scaling of the projections that write into the residual stream.
    let residual = Start::Normal { sd: sd / (2.0 * config.n_block as f64).sqrt() };
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[i64], start| specs.push(Spec { name, shape: shape.to_vec(), start });
    add("wte.weight".into(), &[config.n_vocab as i64, d], token);
    add("wpe.weight".into(), &[config.n_positions as i64, d], normal);
    for b in 0..config.n_block {
        let mut norm = |name: &str| {
            add(format!("h.{b}.{name}.weight"), &[d], Start::Ones);
            add(format!("h.{b}.{name}.bias"), &[d], Start::Zeros);
        };
        norm("ln_1");
        norm("ln_2");
        let mut linear = |name: &str, n_in: i64, n_out: i64, bias: bool, start| {
            // GPT-2 stores projections as [in, out], GPT-Neo as [out, in] (METHOD §1).
            let shape = match config.family {
                Family::Gpt2 => [n_in, n_out],
                Family::GptNeo => [n_out, n_in],
            };
            add(format!("h.{b}.{name}.weight"), &shape, start);
            if bias {
                add(format!("h.{b}.{name}.bias"), &[n_out], Start::Zeros);
            }
        };
        match config.family {
            Family::Gpt2 => {
                linear("attn.c_attn", d, 3 * d, true, normal);
                linear("attn.c_proj", d, d, true, residual);
            }
            Family::GptNeo => {
                for name in ["q_proj", "k_proj", "v_proj"] {
                    linear(&format!("attn.attention.{name}"), d, d, false, normal);
                }
                linear("attn.attention.out_proj", d, d, true, residual);
            }
        }
        linear("mlp.c_fc", d, inner, true, normal);
        linear("mlp.c_proj", inner, d, true, residual);
    }
    add("ln_f.weight".into(), &[d], Start::Ones);
    add("ln_f.bias".into(), &[d], Start::Zeros);
    if !config.tied_head {
        add("lm_head.weight".into(), &[config.n_vocab as i64, d], normal);
    }
    specs
}

/// The parameters of one model, by order and by name.
#[derive(Debug)]
pub(crate) struct Params {
    list: Vec<Parameter>,
    by_name: HashMap<String, usize>,
}

impl Params {
    /// Collects tensors made by `make` for every spec.
    pub(crate) fn collect<E>(
        specs: &[Spec],
        mut make: impl FnMut(&Spec) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let mut list = Vec::with_capacity(specs.len());
        for spec in specs {
            list.push(Parameter { name: spec.name.clone(), block: block_of(&spec.name), tensor: make(spec)? });
        }
        let by_name = list.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        Ok(Self { list, by_name })
    }

    pub(crate) fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// Index of a parameter by name.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A handle that shares the parameter's storage, its gradient flag included.
    pub(crate) fn share(&self, name: &str) -> Option<Tensor> {
        self.index(name).map(|i| self.list[i].tensor.shallow_clone())
    }
}

/// Draws starting values: the same bits for one seed on every device.
pub(crate) struct Starter(ChaCha8Rng);

impl Starter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn draw(&mut self, spec: &Spec, device: Device, kind: Kind) -> Tensor {
        let Start::Normal { sd } = spec.start else { return spec.drawn_there(device, kind) };
        let n = spec.shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..n).map(|_| (self.normal() * sd) as f32).collect();
        Tensor::from_slice(&values).view(spec.shape.as_slice()).to_device(device).to_kind(kind)
    }

    /// Standard normal by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.0.random::<f64>(), self.0.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The first parameter that holds NaN or infinite numbers, and how many: what comes out of such weights can look like any
/// other numbers.
pub fn first_not_finite(parameters: &[Parameter]) -> Option<(&Parameter, i64)> {
    // A sum is fast, and finite only where all is; one that overflows says nothing.
    let sums_up = |p: &&Parameter| no_grad(|| p.tensor.sum(Kind::Float)).double_value(&[]).is_finite();
    let count = |p: &Parameter| p.tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[]);
    let doubted = parameters.iter().filter(|p| !sums_up(p));
    doubted.map(|p| (p, count(p))).find(|(_, n)| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_from_names() {
        assert_eq!(block_of("h.11.mlp.c_fc.weight"), Some(BlockId(11)));
        for name in ["wte.weight", "ln_f.bias", "lm_head.weight", "h.x.y"] {
            assert_eq!(block_of(name), None);
        }
    }

    #[test]
    fn values_drawn_on_the_device_spread_as_those_drawn_here() {
        for (a, spec) in specs(&ModelConfig::gpt2(2, 64, 2, 128, 500)).iter().enumerate() {
            tch::manual_seed(a as i64);
            let there = spec.drawn_there(Device::Cpu, Kind::Float);
            let here = Starter::new(a as u64).draw(spec, Device::Cpu, Kind::Float);
            let moments = |t: &Tensor| (t.mean(Kind::Float).double_value(&[]), t.std(true).double_value(&[]));
            let ((mean, sd), (want_mean, want_sd)) = (moments(&there), moments(&here));
            assert_eq!(there.size(), here.size());
            assert!((mean - want_mean).abs() <= 0.1 * want_sd && (sd - want_sd).abs() <= 0.05 * want_sd, "{}", spec.name);
        }
    }

    #[test]
    fn block_sizes_are_the_published_ones() {
        // METHOD §1: 12 d^2 + 13 d for GPT-2, 12 d^2 + 10 d for GPT-Neo.
        for (config, want) in [
            (ModelConfig::gpt2(2, 1280, 20, 1024, 50257), 19_677_440),
            (ModelConfig::gpt2(2, 1600, 25, 1024, 50257), 30_740_800),
            (ModelConfig::gpt_neo(2, 2048, 16, 2048, 50257, 256), 50_352_128),
        ] {
            let n: i64 = specs(&config)
                .iter()
                .filter(|s| block_of(&s.name) == Some(BlockId(1)))
                .map(|s| s.shape.iter().product::<i64>())
                .sum();
            assert_eq!(n, want);
        }
    }
}
