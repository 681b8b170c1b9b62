//! A slicing rule of your own in ten lines: the blocks from last to first, one a step. The engine does the rest.
//!
//! `cargo run -p irepair-train --example own_localiser`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockSlice, Scope};
use irepair_data::TokenPair;
use irepair_model::{Architecture, BlockModel, CausalLm};
use irepair_train::{Engine, Identity, Localise, RepairData, Result as TrainResult, Settings, StepBatch};
use tch::{Device, Kind};

struct FromTheTop;

impl Localise for FromTheTop {
    fn localise(&mut self, model: &dyn BlockModel, _: &StepBatch, step: u64) -> TrainResult<Scope> {
        let n = model.n_blocks();
        Ok(Scope::Blocks(BlockSlice::from_indices([n - 1 - step as usize % n])))
    }

    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "from the top")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // More threads only wait for one another in operations this small.
    tch::set_num_threads(1);
    let model = CausalLm::random(Architecture::gpt2(4, 32, 4, 64, 100), 0, Device::Cpu, Kind::Float)?;
    // Two words and their successors: what is learnt on one pair of words helps with another.
    let pair = |i: u32| {
        let (a, b) = (10 + i % 7, 30 + i % 9);
        TokenPair { prompt: vec![a, b], chosen: vec![a + 1, b + 1], rejected: vec![90, 91] }
    };
    let data = Arc::new(RepairData {
        pairs: (0..48).map(pair).collect(),
        validation: (48..63).map(pair).collect(),
        ..RepairData::default()
    });
    let settings = Settings { n_steps: 24, lr: 3e-4, warmup_steps: 0, eval_every_examples: 16, ..Settings::default() };

    let mut engine = Engine::new(&model, Method::Dapt, Box::new(FromTheTop), &data, settings)?;
    while engine.unfinished() {
        let record = engine.step()?;
        if record.step % 4 == 3 {
            let held_out = engine.validation_loss()?.unwrap_or(f64::NAN);
            println!(
                "step {:>2}  block {}  loss {:>6.3}  held out {held_out:>6.3}",
                record.step, record.slice, record.loss
            );
        }
    }
    println!("optimizer state: {} KiB", engine.n_optimizer_bytes() / 1024);
    let (_, outcome) = engine.finish()?;
    println!("the model now holds the weights after step {:?}", outcome.best_step);
    Ok(())
}
