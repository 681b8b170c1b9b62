//! IRepair from end to end on a tiny model: teach it a bad habit, localise it, repair one block a step, look at the
//! damage.
//!
//! `cargo run -p irepair-repair --example repair`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockId, Scope};
use irepair_data::TokenPair;
use irepair_model::{Architecture, BlockModel, CausalLm, Decoding};
use irepair_repair::SliceLocaliser;
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, Identity, Localise, RepairData, Result as TrainResult, Settings, StepBatch};
use tch::{Device, Kind, no_grad};

/// Changes everything: how the bad habit is learnt.
struct Unsliced;

impl Localise for Unsliced {
    fn localise(&mut self, _: &dyn BlockModel, _: &StepBatch, _: u64) -> TrainResult<Scope> {
        Ok(Scope::Everything)
    }
    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "all")
    }
}

const BAD: u32 = 31;

/// Prompt `i i+1`; the good continuation counts on, the bad one stutters the bad word.
fn pair(i: u32) -> TokenPair {
    TokenPair { prompt: vec![i, i + 1], chosen: vec![i + 2, i + 3], rejected: vec![BAD, BAD] }
}

/// Share of prompts that the model continues with the bad word.
fn bad_share(model: &CausalLm) -> Result<f64, irepair_model::Error> {
    let prompts: Vec<_> = (0..24).map(|i| pair(i).prompt).collect();
    let texts = model.generate(&prompts, 2, Decoding::Greedy, &[])?;
    Ok(texts.iter().filter(|t| t.contains(&BAD)).count() as f64 / prompts.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    // More threads only wait for one another in operations this small.
    tch::set_num_threads(1);
    let model = CausalLm::random(Architecture::gpt2(4, 32, 4, 16, 32), 0, Device::Cpu, Kind::Float)?;
    let settings = Settings { lr: 1e-3, warmup_steps: 10, ..Settings::default() };

    let habit = |i| TokenPair { chosen: pair(i).rejected, ..pair(i) };
    let bad = Arc::new(RepairData { pairs: (0..24).map(habit).collect(), ..RepairData::default() });
    let learn = Settings { n_steps: 40, ..settings.clone() };
    let mut engine = Engine::new(&model, Method::Dapt, Box::new(Unsliced), &bad, learn)?;
    while engine.unfinished() {
        engine.step()?;
    }
    engine.finish()?;
    println!("bad continuations before the repair: {:.0} %", 100.0 * bad_share(&model)?);

    // Utility text is what the model says otherwise; KL holds it there.
    let utility: Vec<Vec<u32>> = (0..12).map(|i| vec![30 - i, 29 - i, 28 - i]).collect();
    let data = Arc::new(RepairData {
        pairs: (0..20).map(pair).collect(),
        validation: (20..24).map(pair).collect(),
        validation_utility: utility[..4].to_vec(),
        utility: utility[4..].to_vec(),
        pad_id: 0,
    });
    let before = model.duplicate()?;
    let settings = Settings { n_steps: 60, ..settings };
    let slicer = SliceLocaliser::new(&PolicySpec::new(Policy::Dynamic), &data, &settings)?;
    let mut engine = Engine::new(&model, Method::Irepair, Box::new(slicer), &data, settings)?;
    while engine.unfinished() {
        let record = engine.step()?;
        if record.step % 10 == 0 {
            let (nll, kl) = (record.nll.unwrap_or(f64::NAN), record.kl.unwrap_or(f64::NAN));
            println!("step {:>2}  block {}  NLL {nll:.3}  KL {kl:.4}", record.step, record.slice);
        }
    }
    let (_, outcome) = engine.finish()?;
    println!("best on validation after {:?} steps", outcome.best_step);
    println!("bad continuations after the repair: {:.0} %", 100.0 * bad_share(&model)?);

    for block in (0..model.n_blocks()).map(BlockId) {
        let (mut moved, mut size) = (0.0, 0.0);
        for (new, old) in model.parameters().iter().zip(before.parameters()).filter(|(p, _)| p.block == Some(block)) {
            no_grad(|| {
                moved += (&new.tensor - &old.tensor).square().sum(Kind::Double).double_value(&[]);
                size += old.tensor.square().sum(Kind::Double).double_value(&[]);
            });
        }
        println!("block {block}: weights moved by {:.2} %", 100.0 * f64::sqrt(moved / size));
    }
    Ok(())
}
