//! A transformer of your own, in plain tch, repaired: [`BlockModel`] is all that the library asks of a model.
//!
//! `cargo run -p irepair-repair --example own_model`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::sync::Arc;

use irepair_core::spec::{Method, Metric, Policy};
use irepair_core::{BlockId, PaddedTokens, StepRecord};
use irepair_data::TokenPair;
use irepair_model::{BlockModel, Layer, Parameter, Probe, Result as ModelResult, TextBatch};
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::{Measure, Route, Texts};
use irepair_slicing::PolicySpec;
use irepair_train::{Engine, RepairData, Result as TrainResult, Settings};
use tch::{Device, Kind, Tensor};

const N_BLOCKS: usize = 3;
const N_POSITIONS: i64 = 16;
const N_VOCAB: i64 = 40;
const WIDTH: i64 = 32;
const N_HEADS: i64 = 4;

/// Token and position embedding, blocks of attention and MLP, head: all of it is in the list of parameters.
#[derive(Debug)]
pub struct Own {
    parameters: Vec<Parameter>,
}

impl Own {
    /// Weights without a pattern, the same ones for the same seed.
    pub fn random(seed: f64) -> Self {
        let mut phase = seed;
        let mut random = |name: &str, block: Option<usize>, shape: [i64; 2]| {
            phase += 1.0;
            let angles = Tensor::arange(shape[0] * shape[1], (Kind::Double, Device::Cpu)) * 12.9898 + phase;
            let tensor = ((angles.sin() * 43758.5453).frac() * 0.2).to_kind(Kind::Float).view(shape);
            Parameter { name: name.to_owned(), block: block.map(BlockId), tensor }
        };
        let outside = [("tokens", [N_VOCAB, WIDTH]), ("positions", [N_POSITIONS, WIDTH]), ("head", [N_VOCAB, WIDTH])];
        let mut parameters: Vec<_> = outside.map(|(name, shape)| random(name, None, shape)).into();
        for block in 0..N_BLOCKS {
            let layers = [[3 * WIDTH, WIDTH], [WIDTH, WIDTH], [4 * WIDTH, WIDTH], [WIDTH, 4 * WIDTH]];
            let names = ["qkv", "out", "up", "down"].map(|layer| format!("block {block} {layer}"));
            parameters.extend(names.iter().zip(layers).map(|(name, shape)| random(name, Some(block), shape)));
        }
        Self { parameters }
    }

    fn linear(&self, x: &Tensor, block: usize, layer: usize, probe: &mut dyn Probe) -> Tensor {
        let y = x.linear(&self.parameters[3 + 4 * block + layer].tensor, None::<&Tensor>);
        probe.layer(Layer { block: BlockId(block), slot: None, has_bias: false, normalised: None }, x, y)
    }

    fn block(&self, input: &Tensor, block: usize, mask: &Tensor, probe: &mut dyn Probe) -> Tensor {
        let normalised = |x: &Tensor| x.layer_norm([WIDTH], None::<&Tensor>, None::<&Tensor>, 1e-5, true);
        let (n_rows, n_cols) = (input.size()[0], input.size()[1]);
        let heads = |t: &Tensor| t.reshape([n_rows, n_cols, N_HEADS, WIDTH / N_HEADS]).transpose(1, 2);
        let qkv = self.linear(&normalised(input), block, 0, probe).chunk(3, -1);
        let [q, k, v] = [0, 1, 2].map(|i| heads(&qkv[i]));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(mask), 0.0, false, None, false);
        let x = input + self.linear(&y.transpose(1, 2).reshape([n_rows, n_cols, WIDTH]), block, 1, probe);
        let inner = self.linear(&normalised(&x), block, 2, probe).gelu("none");
        let x = x + self.linear(&inner, block, 3, probe);
        probe.block(BlockId(block), input, x)
    }
}

impl BlockModel for Own {
    fn n_blocks(&self) -> usize {
        N_BLOCKS
    }

    fn n_positions(&self) -> usize {
        N_POSITIONS as usize
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor {
        let embed = |i: usize, ids: &Tensor| Tensor::embedding(&self.parameters[i].tensor, ids, -1, false, false);
        let x = embed(0, &batch.ids) + embed(1, &batch.positions());
        // A token sees itself and the real tokens before it.
        let n = batch.dims().1;
        let causal = Tensor::ones([n, n], (Kind::Bool, self.device())).tril(0);
        let itself = Tensor::eye(n, (Kind::Bool, self.device()));
        let mask = batch.attention_mask.unsqueeze(1).logical_and(&causal).logical_or(&itself).unsqueeze(1);
        (0..N_BLOCKS).fold(x, |x, block| self.block(&x, block, &mask, probe))
    }

    fn head(&self) -> Tensor {
        self.parameters[2].tensor.shallow_clone()
    }

    fn with_tensors(&self, tensors: Vec<Tensor>) -> ModelResult<Box<dyn BlockModel + Send>> {
        let with = |(old, tensor): (&Parameter, Tensor)| Parameter { name: old.name.clone(), block: old.block, tensor };
        Ok(Box::new(Self { parameters: self.parameters.iter().zip(tensors).map(with).collect() }))
    }
}

/// Prompt `i i+1`; the good continuation counts on, the bad one repeats a bad word.
pub fn data() -> Arc<RepairData> {
    let pair = |i: u32| TokenPair { prompt: vec![i, i + 1], chosen: vec![i + 2, i + 3], rejected: vec![39, 39] };
    let text = |i: u32| vec![38 - i, 37 - i, 36 - i, 35 - i];
    Arc::new(RepairData {
        pairs: (0..16).map(pair).collect(),
        validation: (16..20).map(pair).collect(),
        utility: (0..12).map(text).collect(),
        validation_utility: (12..16).map(text).collect(),
        pad_id: 0,
    })
}

/// Runs a method under a policy; gives the model back, with the step records.
pub fn train(
    model: Box<Own>,
    (method, policy): (Method, Policy),
    data: &Arc<RepairData>,
    n_steps: u64,
) -> TrainResult<(Box<Own>, Vec<StepRecord>)> {
    let settings = Settings { n_steps, lr: 1e-3, warmup_steps: 0, ..Settings::default() };
    let localiser =
        SliceLocaliser::new(&PolicySpec::new(policy), data, &settings)?.metric(Metric::GradL2, Route::Ghost);
    let mut engine = Engine::new(model, method, Box::new(localiser), data, settings)?;
    let mut records = Vec::new();
    while engine.unfinished() {
        records.push(engine.step()?);
    }
    Ok((engine.finish()?.0, records))
}

/// One batch of the rejected texts.
pub fn rejected(data: &RepairData) -> Result<TextBatch, irepair_core::Error> {
    let texts: Vec<Vec<u32>> = data.pairs.iter().map(|pair| [&pair.prompt[..], &pair.rejected].concat()).collect();
    Ok(TextBatch::new(PaddedTokens::right_padded(&texts, data.pad_id)?, Device::Cpu))
}

/// Teaches a model bad continuations, measures where they lie, and repairs it.
pub fn main() -> Result<(), Box<dyn Error>> {
    // More threads only wait for one another in operations this small.
    tch::set_num_threads(1);
    let data = data();
    // A model with a fault: it has learnt the bad continuations.
    let habit = |pair: &TokenPair| TokenPair { chosen: pair.rejected.clone(), ..pair.clone() };
    let faulty = RepairData { pairs: data.pairs.iter().map(habit).collect(), ..RepairData::default() };
    let (model, _) = train(Box::new(Own::random(0.5)), (Method::Dapt, Policy::All), &Arc::new(faulty), 40)?;

    let sensitivities = Measure::new(Metric::GradL2).by(Route::Ghost).of(&*model, &Texts::of(&[&rejected(&data)?]))?;
    println!("sensitivities {:.3?}", sensitivities.values());

    let (_, records) = train(model, (Method::Irepair, Policy::Dynamic), &data, 60)?;
    let slices: Vec<String> = records.iter().map(|record| record.slice.to_string()).collect();
    println!("blocks chosen {}", slices.join(" "));
    let mean = |records: &[StepRecord]| records.iter().map(|record| record.loss).sum::<f64>() / records.len() as f64;
    println!(
        "loss, mean of the first four steps {:.3}, of the last four {:.3}",
        mean(&records[..4]),
        mean(&records[56..])
    );
    Ok(())
}
