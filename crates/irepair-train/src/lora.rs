//! Low-rank adapters: a projection changes by a product of two narrow matrices, which are what is trained.

use std::collections::BTreeMap;

use irepair_model::{Gradients, Parameter, normal, round_stochastically, seed_of};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Kind, Tensor, no_grad};

use crate::Optimizer;

/// Makes the starting values differ from other uses of the same seed.
const DOMAIN: u64 = 0x6c6f_7261;

/// Adapters of every projection: matrices of a block. Biases, norms, embeddings and head stay as they are.
///
/// `W = W0 + left right`, `left: [rows, rank]`, `right: [rank, columns]`. The model holds the sum at every step, so
/// that what measures and saves it sees ordinary weights; gradients of the factors follow from that of `W`.
#[derive(Debug)]
pub(crate) struct Lora {
    /// `left` and `right` of parameter `i` are `2 i` and `2 i + 1`, float32; empty where it has none.
    pub(crate) factors: Vec<Parameter>,
    /// `W0` of every projection that has changed.
    starts: BTreeMap<usize, Tensor>,
}

impl Lora {
    /// Adapters that change nothing yet: the factor on the side of the inputs is random, the other one 0.
    ///
    /// # Source
    /// Hu et al. 2021 (LoRA), METHOD §26 [O]: the random factor has the variance of PyTorch's linear layers,
    /// `1 / (3 n_in)`; the product is not scaled.
    pub(crate) fn new(parameters: &[Parameter], rank: usize, inputs_first: bool, seed: u64) -> Self {
        let factors = parameters.iter().enumerate().flat_map(|(index, parameter)| {
            let tensor = &parameter.tensor;
            let (rows, columns) = match (parameter.block, tensor.size().as_slice()) {
                (Some(_), &[rows, columns]) => (rows, columns),
                _ => (0, 0),
            };
            let rank = (rank as i64).min(rows).min(columns);
            let mut rng = ChaCha8Rng::seed_from_u64(seed_of(&[DOMAIN, seed, index as u64]));
            let mut factor = |name: &str, shape: [i64; 2], n_in: Option<i64>| {
                let values = match n_in {
                    Some(n_in) if rank > 0 => normal(&mut rng, &shape, (3.0 * n_in as f64).powf(-0.5)),
                    _ => Tensor::zeros(shape, (Kind::Float, tensor.device())),
                };
                let name = format!("{}.{name}", parameter.name);
                Parameter { name, block: parameter.block, tensor: values.to_device(tensor.device()) }
            };
            let left = factor("left", [rows, rank], inputs_first.then_some(rows));
            [left, factor("right", [rank, columns], (!inputs_first).then_some(columns))]
        });
        Self { factors: factors.collect(), starts: BTreeMap::new() }
    }

    /// True when parameter `index` is a projection.
    pub(crate) fn adapts(&self, index: usize) -> bool {
        self.factors[2 * index].tensor.numel() > 0
    }

    /// Keeps `W0` of a projection that is about to change, for the first time alone.
    pub(crate) fn keep_start(&mut self, parameters: &[Parameter], index: usize) {
        self.starts.entry(index).or_insert_with(|| no_grad(|| parameters[index].tensor.detach().copy()));
    }

    /// Updates the factors of the projections that have a gradient, and the projections with them.
    pub(crate) fn update(
        &mut self,
        optimizer: &mut Optimizer,
        parameters: &[Parameter],
        gradients: &[(usize, Tensor)],
        lr: f64,
    ) {
        let mut of_factors = Gradients::new();
        for (index, gradient) in gradients {
            self.keep_start(parameters, *index);
            let (left, right) = (&self.factors[2 * index].tensor, &self.factors[2 * index + 1].tensor);
            no_grad(|| {
                let gradient = gradient.to_kind(Kind::Float);
                of_factors.push((2 * index, gradient.matmul(&right.tr())));
                of_factors.push((2 * index + 1, left.tr().matmul(&gradient)));
            });
        }
        optimizer.update(&self.factors, &of_factors, lr);
        no_grad(|| {
            for (index, start) in &self.starts {
                if gradients.iter().any(|(updated, _)| updated == index) {
                    let change = self.factors[2 * index].tensor.matmul(&self.factors[2 * index + 1].tensor);
                    let (exact, mut weights) = (start + change, parameters[*index].tensor.detach());
                    // A change below half of a narrow type's spacing would never reach the weights.
                    let seed = optimizer.seed_of_rounding(*index);
                    weights.copy_(&round_stochastically(&exact, weights.kind(), seed));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OptimizerKind, StateMode};
    use irepair_core::BlockId;
    use tch::Device;

    fn noise(shape: [i64; 2], salt: f64) -> Tensor {
        let n = Tensor::arange(shape[0] * shape[1], (Kind::Float, Device::Cpu));
        ((n + salt) * 12.9898).sin().view(shape)
    }

    fn projection() -> Vec<Parameter> {
        let bias = Parameter { name: "bias".into(), block: Some(BlockId(0)), tensor: noise([1, 4], 0.5).view([4]) };
        let embedding = Parameter { name: "wte".into(), block: None, tensor: noise([6, 4], 0.25) };
        vec![Parameter { name: "w".into(), block: Some(BlockId(0)), tensor: noise([6, 4], 0.0) }, bias, embedding]
    }

    fn bits(t: &Tensor) -> Vec<u32> {
        Vec::<f32>::try_from(t.view(-1)).unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn adapters_change_nothing_until_they_are_updated_and_adapt_projections_alone() {
        for inputs_first in [false, true] {
            let lora = Lora::new(&projection(), 3, inputs_first, 1);
            assert_eq!([0, 1, 2].map(|index| lora.adapts(index)), [true, false, false]);
            let change = lora.factors[0].tensor.matmul(&lora.factors[1].tensor);
            assert_eq!((change.size(), change.abs().max().double_value(&[])), (vec![6, 4], 0.0));
            let random = &lora.factors[usize::from(!inputs_first)].tensor;
            assert!(random.abs().min().double_value(&[]) > 0.0, "the factor on the side of the inputs");
        }
    }

    /// A loss of `W = W0 + L R` in plain tch, differentiated by `L` and `R`.
    #[test]
    fn gradients_of_the_factors_are_those_of_autograd() {
        let parameters = projection();
        let mut lora = Lora::new(&parameters, 2, true, 1);
        let right = noise([2, 4], 3.0);
        lora.factors[1].tensor.copy_(&right);
        let leaves = [0, 1].map(|side: usize| lora.factors[side].tensor.copy().set_requires_grad(true));
        let weights = &parameters[0].tensor + leaves[0].matmul(&leaves[1]);
        let loss = (weights.matmul(&noise([4, 5], 7.0)).tanh() * noise([6, 5], 9.0)).sum(Kind::Float);
        let want = Tensor::run_backward(&[&loss], &leaves, false, false);

        let dense = (&parameters[0].tensor + lora.factors[0].tensor.matmul(&right)).set_requires_grad(true);
        let loss = (dense.matmul(&noise([4, 5], 7.0)).tanh() * noise([6, 5], 9.0)).sum(Kind::Float);
        let gradient = Tensor::run_backward(&[&loss], &[&dense], false, false).remove(0);
        // RMSprop with alpha 0 and a large eps takes `lr g / (|g| + eps)`: the gradient can be read from the step.
        let eps = 1e4;
        let mut optimizer = Optimizer::new(OptimizerKind::RmsProp { alpha: 0.0, eps }, StateMode::Keep, 0);
        let before = [0, 1].map(|side: usize| lora.factors[side].tensor.copy());
        lora.update(&mut optimizer, &parameters, &[(0, gradient)], eps);
        for side in 0..2 {
            let step = &before[side] - &lora.factors[side].tensor;
            let taken = &want[side] / (want[side].abs() / eps + 1.0);
            let far = (step - &taken).abs().max().double_value(&[]);
            assert!(far < 1e-5 * want[side].abs().max().double_value(&[]).max(1.0), "{side}: {far}");
        }
        let sum = projection()[0].tensor.shallow_clone() + lora.factors[0].tensor.matmul(&lora.factors[1].tensor);
        assert!((sum - &parameters[0].tensor).abs().max().double_value(&[]) < 1e-6);
    }

    /// A change of a hundredth of the spacing of bfloat16 numbers, which plain rounding would drop.
    #[test]
    fn a_small_change_of_narrow_weights_arrives_on_average() {
        let (n, start) = (200i64, 1.5f64);
        let ones = |shape: [i64; 2]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let narrow = (ones([n, n]) * start).to_kind(Kind::BFloat16);
        let parameters = [Parameter { name: "w".into(), block: Some(BlockId(0)), tensor: narrow }];
        let mut lora = Lora::new(&parameters, 1, true, 1);
        // Spacing at 1.5: 2^-7.
        let change = 2f64.powi(-7) / 100.0;
        lora.factors[0].tensor.copy_(&ones([n, 1]));
        lora.factors[1].tensor.copy_(&(ones([1, n]) * change));
        let mut optimizer = Optimizer::new(OptimizerKind::rmsprop(), StateMode::Keep, 0);
        lora.update(&mut optimizer, &parameters, &[(0, ones([n, n]).zeros_like())], 1e-9);
        let mean = (parameters[0].tensor.to_kind(Kind::Double) - start).mean(Kind::Double).double_value(&[]);
        // Six standard deviations of the mean of 40,000 draws.
        assert!((mean / change - 1.0).abs() < 6.0 * (99.0f64 / 40_000.0).sqrt(), "{mean} {change}");
    }

    /// With full rank, one factor the identity and the other 0, the first step is the dense one.
    #[test]
    fn at_full_rank_an_adapter_takes_the_dense_step() {
        let (adapted, dense) = (projection(), projection());
        let mut lora = Lora::new(&adapted, 99, false, 1);
        lora.factors[1].tensor.copy_(&Tensor::eye(4, (Kind::Float, Device::Cpu)));
        let (gradient, rate) = (noise([6, 4], 5.0), 1e-2);
        let optimizer = || Optimizer::new(OptimizerKind::rmsprop(), StateMode::Keep, 0);
        lora.update(&mut optimizer(), &adapted, &[(0, gradient.copy())], rate);
        optimizer().update(&dense, &[(0, gradient)], rate);
        let far = (&adapted[0].tensor - &dense[0].tensor).abs().max().double_value(&[]);
        assert!(far < 1e-7, "{far}");
        let unchanged = projection();
        assert!((1..3).all(|index| bits(&adapted[index].tensor) == bits(&unchanged[index].tensor)));
    }
}
