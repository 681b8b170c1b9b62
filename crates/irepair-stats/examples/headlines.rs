//! The paper's headline numbers from its own table, and an interval over seeds for a run of your own.
//!
//! `cargo run -p irepair-stats --example headlines`

use irepair_stats::{
    Bootstrap, Cells, disruption_percent, effectiveness_percent, reduction_percent, seeds_and_prompts,
};
use ndarray::array;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), irepair_stats::Error> {
    // Toxicity and perplexity.
    let (vanilla, dpo, irepair) = ((43.54, 17.13), (16.65, 20.61), (4.91, 19.01));
    println!("H1 = {:?} %", reduction_percent(irepair.0, vanilla.0));
    println!("H2 = {:?} %", effectiveness_percent(irepair.0, dpo.0, vanilla.0));
    println!("H3 = {:?} %", disruption_percent(irepair.1, dpo.1, vanilla.1));

    // Toxicity of four prompts: vanilla once, a repaired model with two seeds.
    let scores = vec![vec![array![[0.9, 0.1, 0.6, 0.4]]], vec![array![[0.2, 0.1, 0.0, 0.1], [0.1, 0.0, 0.1, 0.1]]]];
    let h1 = seeds_and_prompts(&Cells::new(scores)?, &Bootstrap::new(0), |m| {
        reduction_percent(m.over_models(1), m.over_models(0))
    })?;
    println!("H1 = {h1:?}");
    Ok(())
}
