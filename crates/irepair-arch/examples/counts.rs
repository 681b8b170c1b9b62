//! The size of the model of a `config.json`: `cargo run -p irepair-arch --example counts -- model/config.json`, or the
//! published shapes without an argument.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use irepair_arch::{Architecture, Published};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let line = |name: &str, of: &Architecture| {
        let (blocks, weights) = (of.n_block, of.n_weights());
        println!("{name}: {} of {blocks} blocks, {weights} weights, {} in a block", of.family.name, of.block_weights());
    };
    match std::env::args().nth(1) {
        Some(path) => line(&path, &Architecture::read(path.as_ref())?),
        None => {
            for published in Published::ALL {
                line(published.name, &published.shape().architecture()?);
            }
        }
    }
    Ok(())
}
