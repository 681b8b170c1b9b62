//! Every parameter of a model: its name, block, slot in the forward pass and value.

use std::collections::HashMap;

use irepair_arch::{Init, Parameter as Spec, Part, Slot};
use irepair_core::BlockId;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use crate::{Result, host};

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
    pub(crate) fn collect(specs: &[Spec], mut make: impl FnMut(&Spec) -> Result<Tensor>) -> Result<Self> {
        let mut list = Vec::with_capacity(specs.len());
        for spec in specs {
            list.push(Parameter { name: spec.name.clone(), block: spec.block, tensor: make(spec)? });
        }
        let by_slot = specs.iter().enumerate().map(|(i, s)| ((s.block, s.slot, s.part), i)).collect();
        Ok(Self { list, by_slot })
    }

    /// Adds a parameter that is of no block and of no layer, after all others.
    pub(crate) fn add(&mut self, name: &str, tensor: Tensor) {
        self.list.push(Parameter { name: name.to_owned(), block: None, tensor });
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
pub(crate) fn start(spec: &Spec, device: Device, kind: Kind, normal: impl FnOnce(&[i64], f64) -> Tensor) -> Tensor {
    let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
    match spec.init {
        Init::Zeros => Tensor::zeros(&shape, (kind, device)),
        Init::Ones => Tensor::ones(&shape, (kind, device)),
        Init::Normal(sd) => normal(&shape, sd),
    }
}

/// Normal numbers around 0 by Box and Muller, float32 on the CPU: the same bits for one state of the generator.
pub fn normal(generator: &mut ChaCha8Rng, shape: &[i64], sd: f64) -> Tensor {
    let mut one = || {
        let (u, v): (f64, f64) = (1.0 - generator.random::<f64>(), generator.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| (one() * sd) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// The first tensor that holds NaN or infinite numbers, by its place, and how many: what comes out of such weights can
/// look like any other numbers. The host waits once for the sums of all. A sum of finite numbers may overflow, so that
/// a tensor whose sum is not finite is looked at number by number.
///
/// # Errors
/// When the copy to the host fails.
pub fn first_not_finite<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Option<(usize, i64)>> {
    let tensors: Vec<&Tensor> = tensors.into_iter().collect();
    let sums = no_grad(|| tensors.iter().map(|tensor| tensor.sum(Kind::Float)).collect::<Vec<_>>());
    for (i, _) in host::numbers(&sums)?.into_iter().enumerate().filter(|(_, sum)| !sum.is_finite()) {
        let n = tensors[i].isfinite().logical_not().sum(Kind::Int64);
        match host::numbers(&[n])?[0] as i64 {
            0 => {}
            n => return Ok(Some((i, n))),
        }
    }
    Ok(None)
}
