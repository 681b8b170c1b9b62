//! Tiny models and data for the tests of the crates that train; included by path from their `tests/`.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockId, BlockSlice, Scope, StepRecord};
use irepair_data::TokenPair;
use irepair_model::{Architecture, BlockModel, CausalLm, Shape};
use irepair_train::{Engine, Identity, Localise, OptimizerKind, RepairData, Result, Settings, StepBatch};
use tch::{Device, Kind, Tensor, no_grad};

/// Families that differ most: learned and rotary positions, windows, attention and MLP side by side, norms on both
/// sides, caps.
pub(crate) const FAMILIES: [&str; 5] = ["gpt2", "gpt-neo", "llama", "gpt-neox", "gemma2"];
pub(crate) const N_BLOCKS: usize = 4;
const N_VOCAB: usize = 23;

/// Four blocks of width 16. Every weight is set here, whatever a fresh model starts from, and large enough to matter.
pub(crate) fn model(family: &str) -> CausalLm {
    // Tests run in parallel; threads inside an operation this small only wait for one another.
    tch::set_num_threads(1);
    let config = match family {
        "gpt2" => Architecture::gpt2(N_BLOCKS, 16, 2, 24, N_VOCAB),
        "gpt-neo" => Architecture::gpt_neo(N_BLOCKS, 16, 2, 24, N_VOCAB, 4),
        other => {
            let shape = Shape::new(other, [N_BLOCKS, 16, 4], 24, N_VOCAB);
            Shape { n_kv_head: Some(2), window_size: Some(4), ..shape }.architecture().unwrap()
        }
    };
    let model = CausalLm::random(config, 11, Device::Cpu, Kind::Float).unwrap();
    no_grad(|| {
        for (i, parameter) in model.parameters().iter().enumerate() {
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

/// Texts whose tokens follow a fixed pattern: `n` of them, of `shortest ..= longest` tokens, none the pad id 0.
pub(crate) fn texts(n: usize, shortest: usize, longest: usize, salt: u64) -> Vec<Vec<u32>> {
    let mut state = salt;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut text = || {
        let n_tokens = shortest + next(longest - shortest + 1);
        (0..n_tokens).map(|_| 1 + next(N_VOCAB - 1) as u32).collect()
    };
    (0..n).map(|_| text()).collect()
}

pub(crate) fn pairs(n: usize, salt: u64) -> Vec<TokenPair> {
    let (prompts, chosen, rejected) = (texts(n, 1, 4, salt), texts(n, 2, 7, salt + 1), texts(n, 1, 8, salt + 2));
    let pair = |((prompt, chosen), rejected)| TokenPair { prompt, chosen, rejected };
    prompts.into_iter().zip(chosen).zip(rejected).map(pair).collect()
}

/// [`plain_data`], as the engine shares it.
pub(crate) fn data() -> Arc<RepairData> {
    Arc::new(plain_data())
}

/// Texts of many lengths, so that no two batches are padded alike.
pub(crate) fn plain_data() -> RepairData {
    RepairData {
        pairs: pairs(18, 1),
        validation: pairs(7, 100),
        utility: texts(20, 2, 12, 200),
        validation_utility: texts(5, 2, 12, 300),
        pad_id: 0,
    }
}

/// Few, fast, short: two pairs a step, a validation every three steps.
pub(crate) fn settings() -> Settings {
    Settings {
        n_steps: 5,
        batch_size: 2,
        lr: 1e-3,
        warmup_steps: 2,
        eval_every_examples: 6,
        eval_batch_size: 3,
        ..Settings::default()
    }
}

pub(crate) const REPAIR: Method = Method::Irepair;

/// AdamW that decays weights, with clipping that always bites.
pub(crate) fn decaying_and_clipped() -> Settings {
    Settings { optimizer: OptimizerKind::adamw(0.1), clip_norm: 1e-3, ..settings() }
}

/// Always the same scope.
pub(crate) struct Always(pub(crate) Scope);

impl Localise for Always {
    fn localise(&mut self, _: &dyn BlockModel, _: &StepBatch, _: u64) -> Result<Scope> {
        Ok(self.0.clone())
    }

    fn identity(&self) -> Identity {
        Identity::default().with("the policy", format!("{:?}", self.0))
    }
}

pub(crate) fn blocks(indices: impl IntoIterator<Item = usize>) -> Scope {
    Scope::Blocks(BlockSlice::from_indices(indices))
}

/// Block 0, block 1, … and round again.
pub(crate) struct Rolling;

impl Localise for Rolling {
    fn localise(&mut self, model: &dyn BlockModel, _: &StepBatch, step: u64) -> Result<Scope> {
        Ok(blocks([step as usize % model.n_blocks()]))
    }

    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "rolling")
    }
}

/// Every weight as bits, parameter by parameter: equality of these is bitwise equality.
pub(crate) fn bits(model: &CausalLm) -> Vec<Vec<u32>> {
    let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().view(-1)).unwrap().into_iter().map(f32::to_bits).collect();
    model.parameters().iter().map(|p| of(&p.tensor)).collect()
}

/// Blocks of the parameters that differ between two states; `None` stands for those of no block.
pub(crate) fn changed(model: &CausalLm, before: &[Vec<u32>], after: &[Vec<u32>]) -> BTreeSet<Option<BlockId>> {
    let differs = |i: &usize| before[*i] != after[*i];
    (0..before.len()).filter(differs).map(|i| model.parameters()[i].block).collect()
}

/// The same as a set of blocks, for comparison with a slice; panics when embeddings, final norm or head changed.
pub(crate) fn changed_blocks(model: &CausalLm, before: &[Vec<u32>], after: &[Vec<u32>]) -> BlockSlice {
    changed(model, before, after).into_iter().map(|b| b.expect("only blocks may change")).collect()
}

/// The largest difference between the weights of two models.
pub(crate) fn distance(a: &CausalLm, b: &CausalLm) -> f64 {
    let far = |(a, b): (&irepair_model::Parameter, &irepair_model::Parameter)| {
        no_grad(|| (&a.tensor - &b.tensor).abs().max().double_value(&[]))
    };
    a.parameters().iter().zip(b.parameters()).map(far).fold(0.0, f64::max)
}

/// Takes `n` steps; records come back without their wall time.
pub(crate) fn take<M, L>(engine: &mut Engine<M, L>, n: u64) -> Vec<StepRecord>
where
    M: Deref<Target: BlockModel + Sized>,
    L: DerefMut<Target: Localise>,
{
    (0..n).map(|_| StepRecord { seconds: 0.0, ..engine.step().unwrap() }).collect()
}

/// `|a - b| <= tolerance * max(1, |b|)`.
pub(crate) fn assert_near(what: &str, a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a} against {b}");
}

/// Stops a run after every number of steps, continues in a new engine from the base model, and wants the very bits of
/// the uninterrupted run: weights at the stop, records, weights at the end, best checkpoint, outcome.
pub(crate) fn assert_resume_is_exact(
    family: &str,
    objective: Method,
    settings: &Settings,
    localiser: impl Fn(&Arc<RepairData>) -> Box<dyn Localise + Send>,
) {
    assert_resume_of(|| model(family), objective, settings, localiser);
}

/// [`assert_resume_is_exact`] for any model, made by `model` as often as it is called.
pub(crate) fn assert_resume_of(
    model: impl Fn() -> CausalLm,
    objective: Method,
    settings: &Settings,
    localiser: impl Fn(&Arc<RepairData>) -> Box<dyn Localise + Send>,
) {
    let data = data();
    let dir = tempfile::tempdir().unwrap();
    let n = settings.n_steps;

    let whole = model();
    let choose = localiser(&data);
    let mut engine = Engine::new(&whole, objective, choose, &data, settings.clone()).unwrap();
    let mut states = vec![bits(&whole)];
    let mut records = Vec::new();
    for step in 0..n {
        records.extend(take(&mut engine, 1));
        states.push(bits(&whole));
        assert_eq!(engine.next_step(), step + 1);
    }
    let n_bytes = engine.n_optimizer_bytes();
    let (_, outcome) = engine.finish().unwrap();

    for stop in 0..=n {
        let file = dir.path().join(format!("{stop}.safetensors"));
        let first = model();
        let choose = localiser(&data);
        let mut engine = Engine::new(&first, objective, choose, &data, settings.clone()).unwrap();
        take(&mut engine, stop);
        engine.save(&file).unwrap();

        let second = model();
        let choose = localiser(&data);
        let mut engine = Engine::new(&second, objective, choose, &data, settings.clone()).unwrap();
        engine.resume(&file).unwrap();
        assert_eq!(engine.next_step(), stop);
        assert!(bits(&second) == states[stop as usize], "weights right after resuming at step {stop}");
        assert_eq!(take(&mut engine, n - stop), records[stop as usize..], "records from step {stop}");
        assert!(bits(&second) == states[n as usize], "weights at the end, stopped at step {stop}");
        assert_eq!(engine.n_optimizer_bytes(), n_bytes);
        assert_eq!(engine.finish().unwrap().1, outcome);
        assert!(bits(&second) == bits(&whole), "best checkpoint, stopped at step {stop}");
    }
}
