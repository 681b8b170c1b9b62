//! Laws of the Fisher matrix and of what a KL budget buys (METHOD §27).

use irepair_core::{BlockId, BlockSlice, PaddedTokens, Scope};
use irepair_model::{Architecture, BlockModel, CausalLm, Fisher, Parameter, Probe, Result, TextBatch};
use irepair_sensitivity::{Measure, Metric, Texts};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

const N_VOCAB: i64 = 7;
const WIDTH: i64 = 5;

/// Two linear layers, a block each, between a fixed embedding and a fixed head.
struct Toy {
    parameters: Vec<Parameter>,
    embedding: Tensor,
    head: Tensor,
}

impl Toy {
    fn new(scale: f64) -> Self {
        let noise = |n: i64, salt: f64| ((Tensor::arange(n, (Kind::Float, Device::Cpu)) + salt) * 12.9898).sin();
        let layer = |block: usize, scale: f64| Parameter {
            name: format!("h.{block}.weight"),
            block: Some(BlockId(block)),
            tensor: noise(WIDTH * WIDTH, 100.0 * block as f64).view([WIDTH, WIDTH]) * scale,
        };
        Self {
            parameters: vec![layer(0, scale), layer(1, 1.0 / scale)],
            embedding: noise(N_VOCAB * WIDTH, 0.5).view([N_VOCAB, WIDTH]),
            head: noise(N_VOCAB * WIDTH, 0.25).view([N_VOCAB, WIDTH]),
        }
    }
}

impl BlockModel for Toy {
    fn n_blocks(&self) -> usize {
        2
    }
    fn n_positions(&self) -> usize {
        64
    }
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
    fn hidden_states_probed(&self, batch: &TextBatch, _: &mut dyn Probe) -> Tensor {
        let embedded = Tensor::embedding(&self.embedding, &batch.ids, -1, false, false);
        self.parameters.iter().fold(embedded, |hidden, layer| hidden.matmul(&layer.tensor))
    }
    fn head(&self) -> Tensor {
        self.head.shallow_clone()
    }
    fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Box<dyn BlockModel + Send>> {
        let named = |(p, tensor): (&Parameter, Tensor)| Parameter { name: p.name.clone(), block: p.block, tensor };
        let parameters = self.parameters.iter().zip(tensors).map(named).collect();
        Ok(Box::new(Self { parameters, embedding: self.embedding.copy(), head: self.head.copy() }))
    }
}

fn texts(n: usize, length: usize, n_vocab: u32, seed: u64) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (0..length).map(|_| rng.random_range(1..n_vocab)).collect()).collect()
}

fn rejected() -> TextBatch {
    let padded = PaddedTokens::prompted(&[vec![1, 2], vec![3]], &[vec![4, 5, 6], vec![2, 1]], 0).unwrap();
    TextBatch::new(padded, Device::Cpu)
}

fn measured(model: &dyn BlockModel, metric: Metric, fisher: Option<Fisher>) -> Vec<f64> {
    let measure = Measure { fisher, ..Measure::new(metric) };
    measure.of(model, &Texts::of(&[&rejected()])).unwrap().values().to_vec()
}

fn tiny_gpt2() -> CausalLm {
    tch::set_num_threads(1);
    let model = CausalLm::random(Architecture::gpt2(3, 16, 2, 48, 19), 5, Device::Cpu, Kind::Float).unwrap();
    no_grad(|| {
        let matrices = model.parameters().iter().filter(|p| p.tensor.dim() == 2);
        matrices.for_each(|p| drop(p.tensor.shallow_clone().g_mul_scalar_(8.0)));
    });
    model
}

#[test]
fn no_entry_is_negative_and_the_draws_depend_on_the_seed_alone() {
    let model = tiny_gpt2();
    model.train_only(&Scope::Blocks(BlockSlice::from_indices([1])));
    let of = |seed| Fisher::estimate(&model, &texts(4, 10, 19, 1), 0.0, seed).unwrap();
    let (a, same, other) = (of(3), of(3), of(4));
    let all = |check: &dyn Fn(&Tensor, &Tensor) -> bool, b: &Fisher| {
        (0..model.parameters().len()).all(|index| check(a.damped(index), b.damped(index)))
    };
    assert!(all(&|a, _| a.min().double_value(&[]) >= 0.0, &a));
    assert!(all(&Tensor::equal, &same) && !all(&Tensor::equal, &other));
    let learns = |p: &Parameter| p.tensor.requires_grad() == (p.block == Some(BlockId(1)));
    assert!(model.parameters().iter().all(learns), "flags are as they were");
}

#[test]
fn under_the_identity_efficiency_is_the_gradient_norm() {
    let model = tiny_gpt2();
    let ones = model.parameters().iter().map(|p| p.tensor.ones_like()).collect();
    let (got, want) = (
        measured(&model, Metric::Efficiency, Some(Fisher::of(ones, 0.0).unwrap())),
        measured(&model, Metric::GradL2, None),
    );
    assert!(got.iter().zip(&want).all(|(a, b)| (a / b - 1.0).abs() < 1e-5), "{got:?} {want:?}");
}

/// Multiplying one layer and dividing the next leaves the function, so that no budget buys more or less.
#[test]
fn rescaling_a_unit_with_its_inverse_changes_no_efficiency() {
    let neutral = texts(8, 12, N_VOCAB as u32, 2);
    let of = |scale, metric| {
        let model = Toy::new(scale);
        measured(&model, metric, Some(Fisher::estimate(&model, &neutral, 0.0, 0).unwrap()))
    };
    let (plain, scaled) = (of(1.0, Metric::Efficiency), of(4.0, Metric::Efficiency));
    assert!(plain.iter().zip(&scaled).all(|(a, b)| (a / b - 1.0).abs() < 1e-3), "{plain:?} {scaled:?}");
    let (plain, scaled) = (of(1.0, Metric::GradL2), of(4.0, Metric::GradL2));
    assert!((plain[0] / scaled[0] - 4.0).abs() < 1e-3, "the norm of the gradient does change");
}

/// Mean KL(reference ‖ model) in nats a token, from the logits of every position.
fn kl(reference: &dyn BlockModel, model: &dyn BlockModel, texts: &[Vec<u32>]) -> f64 {
    let batch = TextBatch::new(PaddedTokens::right_padded(texts, 0).unwrap(), Device::Cpu);
    let log_probs =
        |model: &dyn BlockModel| no_grad(|| model.logits(&batch).to_kind(Kind::Double).log_softmax(-1, None));
    let (p, q) = (log_probs(reference), log_probs(model));
    (p.exp() * (p - q)).sum_dim_intlist([-1].as_slice(), false, None).mean(None).double_value(&[])
}

/// Small steps of random signs, of which the expected price is that of the diagonal alone, in one block and in all.
#[test]
fn the_quadratic_form_predicts_the_kl_of_small_steps_within_a_factor_of_two() {
    let neutral = texts(64, 24, 19, 3);
    let base = tiny_gpt2();
    let fisher = Fisher::estimate(&base, &neutral, 0.0, 0).unwrap();
    for scope in [Scope::Blocks(BlockSlice::from_indices([1])), Scope::Blocks(BlockSlice::from_indices(0..3))] {
        let (mut predicted, mut measured) = (0.0, 0.0);
        for seed in 0..16 {
            let (moved, mut rng) = (tiny_gpt2(), ChaCha8Rng::seed_from_u64(seed));
            for (index, parameter) in moved.parameters().iter().enumerate().filter(|(_, p)| scope.allows(p.block)) {
                let signs = (0..parameter.tensor.numel()).map(|_| if rng.random() { 3e-4f32 } else { -3e-4 });
                let step = Tensor::from_slice(&signs.collect::<Vec<_>>()).view_as(&parameter.tensor);
                predicted += 0.5 * (fisher.damped(index) * step.square()).sum(Kind::Double).double_value(&[]);
                no_grad(|| drop(parameter.tensor.shallow_clone().g_add_(&step)));
            }
            measured += kl(&base, &moved, &neutral);
        }
        assert!((0.5..=2.0).contains(&(measured / predicted)), "{scope}: {measured} for {predicted}");
    }
}
