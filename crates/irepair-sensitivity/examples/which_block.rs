//! Every metric on one tiny model whose block 2 has an attention three times too loud: they answer different questions
//! and disagree, which is why METHOD §13 scores them on planted faults before any is believed.
//!
//! `cargo run -p irepair-sensitivity --example which_block`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;

use irepair_core::PaddedTokens;
use irepair_model::{Architecture, BlockModel, CausalLm, Fisher, TextBatch};
use irepair_sensitivity::{Measure, Metric, Route, Texts};
use tch::{Device, Kind, no_grad};

fn main() -> Result<(), Box<dyn Error>> {
    let model = CausalLm::random(Architecture::gpt2(6, 32, 4, 64, 100), 0, Device::Cpu, Kind::Float)?;
    for parameter in model.parameters().iter().filter(|p| p.name.starts_with("h.2.attn")) {
        no_grad(|| drop(parameter.tensor.shallow_clone().g_mul_scalar_(3.0)));
    }
    let batch = |rows: &[Vec<u32>]| -> Result<_, irepair_core::Error> {
        Ok(TextBatch::new(PaddedTokens::right_padded(rows, 0)?, Device::Cpu))
    };
    let rejected = batch(&[vec![7, 8, 9, 10, 11, 12], vec![7, 20, 21, 22]])?;
    let chosen = batch(&[vec![7, 30, 31, 32, 33, 34], vec![7, 40, 41, 42]])?;
    let texts = Texts { rejected: &[&rejected], chosen: &[&chosen], neutral: &[&chosen] };

    // One metric weighs gradients by what moving a weight costs on neutral text.
    let fisher = Fisher::estimate(&model, &[vec![1, 2, 3, 4]], 0.1, 0)?;
    for metric in Metric::ALL {
        let measure = Measure { fisher: Some(fisher.clone()), ..Measure::new(*metric) };
        let s = measure.of(&model, &texts)?;
        let total: f64 = s.values().iter().sum();
        let shares: Vec<String> = s.values().iter().map(|v| format!("{:>3.0}%", 100.0 * v / total)).collect();
        println!("{metric:>10}: {}   most sensitive: block {}", shares.join(" "), s.ranking()[0]);
    }

    // The ghost route takes the same norms and never allocates a weight gradient.
    let by = |route| Measure::new(Metric::GradL2).by(route).of(&model, &texts);
    let (stored, ghost) = (by(Route::Stored)?, by(Route::Ghost)?);
    let off = stored.values().iter().zip(ghost.values()).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f64::max);
    println!("grad-l2 by the ghost route is off by {off:.0e} at most");
    Ok(())
}
