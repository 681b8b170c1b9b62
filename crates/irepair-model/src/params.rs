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

/// Weights of a multiple of so many numbers are packed.
const ALIGNED: usize = 64;

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

    /// Packed on a GPU, where starting a kernel for each takes longer than the kernel; as they are on a CPU.
    pub(crate) fn on_its_device(self) -> Self {
        let on_cpu = self.list.iter().all(|parameter| parameter.tensor.device() == Device::Cpu);
        if on_cpu { self } else { self.packed() }
    }

    /// The same values, with those of a block side by side in one tensor: [`side_by_side`] gives them as one. Weights
    /// of odd sizes stay where they are, so that all others start where vector instructions want it.
    pub(crate) fn packed(mut self) -> Self {
        let is_even = |p: &Parameter| p.tensor.numel().is_multiple_of(ALIGNED);
        let follows = |a: &Parameter, b: &Parameter| {
            let are_of_block = a.block == b.block && a.block.is_some();
            are_of_block && a.tensor.kind() == b.tensor.kind() && is_even(a) && is_even(b)
        };
        for run in self.list.chunk_by_mut(follows).filter(|run| run.len() > 1) {
            let (_, parts) = packed(&run.iter().map(|p| p.tensor.detach()).collect::<Vec<_>>());
            run.iter_mut().zip(parts).for_each(|(parameter, part)| parameter.tensor = part);
        }
        self
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

/// The values of tensors copied into one of one axis, and the parts of it that stand for them, shaped as they are.
pub fn packed(tensors: &[Tensor]) -> (Tensor, Vec<Tensor>) {
    let sizes: Vec<i64> = tensors.iter().map(|tensor| tensor.numel() as i64).collect();
    no_grad(|| {
        let all = Tensor::cat(&tensors.iter().map(|tensor| tensor.reshape([-1])).collect::<Vec<_>>(), 0);
        let parts = all.split_with_sizes(&sizes, 0).into_iter().zip(tensors);
        let parts = parts.map(|(part, tensor)| part.view(&*tensor.size())).collect();
        (all, parts)
    })
}

/// Tensors that lie side by side in memory, in this order, as one of one axis over the same memory; none where they do
/// not.
pub fn side_by_side(tensors: &[Tensor]) -> Option<Tensor> {
    let first = tensors.first()?;
    let starts = |t: &Tensor| t.data_ptr() as usize;
    let ends = |t: &Tensor| starts(t) + t.numel() * t.kind().elt_size_in_bytes();
    let like_first = |t: &Tensor| (t.kind(), t.device(), t.is_contiguous()) == (first.kind(), first.device(), true);
    if !tensors.iter().all(like_first) || tensors.windows(2).any(|pair| ends(&pair[0]) != starts(&pair[1])) {
        return None;
    }
    let n: usize = tensors.iter().map(Tensor::numel).sum();
    // Two tensors may be neighbours by accident: then the memory of the first ends too early for this, which libtorch
    // takes milliseconds to say.
    first.detach().f_as_strided([n as i64], [1], None).ok()
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

#[cfg(test)]
mod tests {
    use irepair_arch::Architecture;
    use irepair_core::{PaddedTokens, Scope};

    use super::*;
    use crate::checkpoint::Source;
    use crate::{BlockModel, CausalLm, TextBatch, weights_sha256};

    /// A shape with weights of odd sizes (biases of 32 numbers) between others.
    fn params() -> (Vec<Spec>, Params) {
        let specs = Architecture::gpt2(2, 32, 2, 32, 13).parameters();
        let mut n = 0.0;
        let make = |spec: &Spec| {
            n += 1.0;
            let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
            let count = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu));
            Ok((count + n * 1000.0).view(&*shape))
        };
        let params = Params::collect(&specs, make).unwrap();
        (specs, params)
    }

    #[test]
    fn packed_weights_are_the_same_and_lie_side_by_side() {
        let ((_, plain), (_, packed)) = (params(), params());
        let packed = packed.packed();
        let mut longest = 0;
        for (a, b) in plain.list().iter().zip(packed.list()) {
            assert!(a.tensor.equal(&b.tensor) && a.tensor.size() == b.tensor.size(), "{}", a.name);
        }
        let one = |p: &Parameter| p.tensor.shallow_clone();
        for run in packed.list().chunk_by(|a, b| side_by_side(&[one(a), one(b)]).is_some()) {
            longest = longest.max(run.len());
            let all = side_by_side(&run.iter().map(one).collect::<Vec<_>>()).unwrap();
            let want: Vec<Tensor> = run.iter().map(|p| p.tensor.reshape([-1])).collect();
            assert!(all.equal(&Tensor::cat(&want, 0)));
            // One memory: what is written to one is read in the other.
            no_grad(|| drop(all.shallow_clone().g_add_scalar_(1.0)));
            assert!(all.narrow(0, 0, want[0].numel() as i64).equal(&run[0].tensor.reshape([-1])));
            assert!(run.iter().all(|p| p.block == run[0].block), "blocks are apart");
        }
        assert!(longest > 1 && longest < packed.list().len());
    }

    /// Passes, gradients, updates in place, and a reference that keeps what was.
    #[test]
    fn a_packed_model_computes_and_learns_the_same() {
        let of = || Architecture::gpt2(2, 32, 2, 32, 13);
        let plain = CausalLm::random(of(), 3, Device::Cpu, Kind::Float).unwrap();
        let mut values = plain.parameters().iter().map(|p| p.tensor.detach().copy());
        let params = Params::collect(&of().parameters(), |_| Ok(values.next().unwrap())).unwrap();
        let packed = CausalLm::assemble(of(), params.packed(), Source::None).unwrap();
        let rows = PaddedTokens::right_padded(&[vec![1, 2, 3, 4, 5], vec![6, 7]], 0).unwrap();
        let batch = TextBatch::new(rows, Device::Cpu);
        let of = |model: &CausalLm| {
            model.train_only(&Scope::Everything);
            let loss = model.hidden_states(&batch).square().mean(Kind::Float);
            (loss.double_value(&[]), model.gradients(&loss).unwrap())
        };
        let hash = |model: &dyn BlockModel| weights_sha256(model.parameters());
        let (before, reference) = (hash(&plain), packed.reference().unwrap());
        for step in 0..3 {
            let ((a, of_plain), (b, of_packed)) = (of(&plain), of(&packed));
            assert_eq!((a, of_plain.len()), (b, of_packed.len()), "step {step}");
            assert!(of_plain.iter().zip(&of_packed).all(|(a, b)| a.0 == b.0 && a.1.equal(&b.1)), "step {step}");
            for (model, gradients) in [(&plain, of_plain), (&packed, of_packed)] {
                for (index, gradient) in gradients {
                    if step == 0 && std::ptr::eq(model, &packed) {
                        reference.copy_on_write(index);
                    }
                    no_grad(|| drop(model.parameters()[index].tensor.detach().g_sub_(&(gradient * 0.1))));
                }
            }
            assert_eq!(hash(&plain), hash(&packed), "step {step}");
        }
        assert!(hash(&*reference) == before && hash(&packed) != before);
        let one = |p: &Parameter| p.tensor.shallow_clone();
        let are_one = |a: &Parameter, b: &Parameter| side_by_side(&[one(a), one(b)]).is_some();
        assert!(packed.parameters().chunk_by(are_one).any(|run| run.len() > 1), "they lie as they lay");
    }

    #[test]
    fn neighbours_by_accident_and_other_types_are_no_pack() {
        let whole = Tensor::arange(64, (Kind::Float, Device::Cpu));
        let halves = || [whole.narrow(0, 0, 32), whole.narrow(0, 32, 32)];
        assert!(side_by_side(&halves()).unwrap().equal(&whole));
        let [a, b] = halves();
        assert!(side_by_side(&[b, a]).is_none(), "in another order");
        let [a, b] = halves();
        assert!(side_by_side(&[a.copy(), b]).is_none());
        let [a, b] = halves();
        assert!(side_by_side(&[a, b.to_kind(Kind::Double)]).is_none());
        assert!(side_by_side(&[whole.view([8, 8]).tr()]).is_none(), "not as it lies");
        assert!(side_by_side(&[]).is_none());
    }
}
