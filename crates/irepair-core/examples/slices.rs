//! From sensitivities to a slice, and an error as a person reads it: `cargo run -p irepair-core --example slices`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use irepair_core::{BlockSlice, Diagnose, Scope, Sensitivities, SliceSize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sensitivities = Sensitivities::new(vec![0.2, 1.4, 0.3, 0.9, 0.1, 0.4])?;
    for text in ["1b", "20%", "50"] {
        let size: SliceSize = text.parse()?;
        let k = size.resolve(sensitivities.len());
        let slice: BlockSlice = sensitivities.ranking().into_iter().take(k).collect();
        println!("--top-k {text:<4} keeps {k} of {} blocks: {}", sensitivities.len(), Scope::Blocks(slice));
    }
    if let Err(error) = "0".parse::<SliceSize>() {
        println!("\n{}", error.diagnostic());
    }
    Ok(())
}
