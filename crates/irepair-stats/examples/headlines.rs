//! The paper's headline numbers from its own table, and an interval over seeds for a run of your own.
//!
//! `cargo run -p irepair-stats --example headlines`

use irepair_stats::{Bootstrap, Cells, MethodMeans, headline, reduction_percent, seeds_and_prompts};

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), irepair_stats::Error> {
    let vanilla = MethodMeans { toxicity: 43.54, perplexity: 17.13 };
    let dpo = MethodMeans { toxicity: 16.65, perplexity: 20.61 };
    let irepair = MethodMeans { toxicity: 4.91, perplexity: 19.01 };
    println!("{:?}", headline(irepair, dpo, vanilla));

    // Toxicity of four prompts: vanilla once, a repaired model with two seeds.
    let scores =
        vec![vec![vec![vec![0.9, 0.1, 0.6, 0.4]]], vec![vec![vec![0.2, 0.1, 0.0, 0.1], vec![0.1, 0.0, 0.1, 0.1]]]];
    let h1 = seeds_and_prompts(&Cells::new(scores)?, &Bootstrap::new(0), |m| {
        reduction_percent(m.over_models(1), m.over_models(0))
    })?;
    println!("H1 = {h1:?}");
    Ok(())
}
