//! Every parameter of a model: its name, block, slot in the forward pass and value.

use std::collections::HashMap;

use irepair_arch::{Init, Parameter as Spec, Part, Slot};
use irepair_core::BlockId;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

/// A named tensor of a model.
#[derive(Debug)]
pub struct Parameter {
    /// Stored name without the prefix of whole models: `h.3.mlp.c_fc.weight`.
    pub name: String,
    /// The block it belongs to; none for embeddings, the final norm and an untied head.
    pub block: Option<BlockId>,
    /// The value; shared with the layers that use it.
    pub tensor: Tensor,
}

/// The parameters of one model, in order, and by the layer that computes with them.
#[derive(Debug)]
pub(crate) struct Params {
    list: Vec<Parameter>,
    by_slot: HashMap<(Option<BlockId>, Slot, Part), usize>,
}

impl Params {
    /// Collects tensors made by `make` for every entry of the architecture's list.
    pub(crate) fn collect<E>(
        specs: &[Spec],
        mut make: impl FnMut(&Spec) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let mut list = Vec::with_capacity(specs.len());
        for spec in specs {
            list.push(Parameter { name: spec.name.clone(), block: spec.block, tensor: make(spec)? });
        }
        let by_slot = specs.iter().enumerate().map(|(i, s)| ((s.block, s.slot, s.part), i)).collect();
        Ok(Self { list, by_slot })
    }

    pub(crate) fn list(&self) -> &[Parameter] {
        &self.list
    }

    /// A handle that shares the parameter's storage, its gradient flag included.
    pub(crate) fn share(&self, block: Option<BlockId>, slot: Slot, part: Part) -> Option<Tensor> {
        self.by_slot.get(&(block, slot, part)).map(|&i| self.list[i].tensor.shallow_clone())
    }
}

/// Starting values of a parameter; `normal` draws those of a shape and standard deviation.
fn start(spec: &Spec, device: Device, kind: Kind, normal: impl FnOnce(&[i64], f64) -> Tensor) -> Tensor {
    let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
    match spec.init {
        Init::Zeros => Tensor::zeros(&shape, (kind, device)),
        Init::Ones => Tensor::ones(&shape, (kind, device)),
        Init::Normal(sd) => normal(&shape, sd),
    }
}

/// Starting values drawn by libtorch on `device`.
pub(crate) fn drawn_on_device(spec: &Spec, device: Device, kind: Kind) -> Tensor {
    start(spec, device, kind, |shape, sd| no_grad(|| Tensor::empty(shape, (kind, device)).normal_(0.0, sd)))
}

/// Draws starting values: the same bits for one seed on every device.
pub(crate) struct Starter(ChaCha8Rng);

impl Starter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn draw(&mut self, spec: &Spec, device: Device, kind: Kind) -> Tensor {
        start(spec, device, kind, |shape, sd| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| (self.normal() * sd) as f32).collect();
            Tensor::from_slice(&values).view(shape).to_device(device).to_kind(kind)
        })
    }

    /// Standard normal by Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.0.random::<f64>(), self.0.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The first parameter that holds NaN or infinite numbers, and how many: what comes out of such weights can look like
/// any other numbers.
pub fn first_not_finite(parameters: &[Parameter]) -> Option<(&Parameter, i64)> {
    // A sum is fast, and finite only where all is; one that overflows is no evidence.
    let sums_up = |p: &&Parameter| no_grad(|| p.tensor.sum(Kind::Float)).double_value(&[]).is_finite();
    let count = |p: &Parameter| p.tensor.isfinite().logical_not().sum(Kind::Int64).int64_value(&[]);
    let doubted = parameters.iter().filter(|p| !sums_up(p));
    doubted.map(|p| (p, count(p))).find(|(_, n)| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_arch::Architecture;

    #[test]
    fn values_drawn_on_the_device_have_the_same_spread() {
        for (a, spec) in Architecture::gpt2(2, 64, 2, 128, 500).parameters().iter().enumerate() {
            tch::manual_seed(a as i64);
            let there = drawn_on_device(spec, Device::Cpu, Kind::Float);
            let here = Starter::new(a as u64).draw(spec, Device::Cpu, Kind::Float);
            let moments = |t: &Tensor| (t.mean(Kind::Float).double_value(&[]), t.std(true).double_value(&[]));
            let ((mean, sd), (want_mean, want_sd)) = (moments(&there), moments(&here));
            assert_eq!(there.size(), here.size());
            assert!(
                (mean - want_mean).abs() <= 0.1 * want_sd && (sd - want_sd).abs() <= 0.05 * want_sd,
                "{}",
                spec.name
            );
        }
    }
}
