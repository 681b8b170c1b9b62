//! Writes a checkpoint of a published shape with random weights: what size costs, without a download.
//!
//! `cargo run --release -p irepair-model --example random_checkpoint -- gpt2-large DIR [f32|bf16]`
//!
//! Shapes: gpt2 (124M), gpt2-large (774M), gpt2-xl (1.5B), gpt-neo-125m, gpt-neo-1.3b. No tokenizer is written: put one
//! next to the weights, such as that of `irepair pretrain`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::path::Path;

use irepair_arch::Published;
use irepair_model::{BlockModel, CausalLm, parse_dtype};
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: random_checkpoint SHAPE DIR [f32|bf16]";
    let (shape, dir) = (args.first().ok_or(usage)?, args.get(1).ok_or(usage)?);
    let kind = parse_dtype(args.get(2).map_or("f32", String::as_str))?;
    let published = Published::ALL.into_iter().find(|published| published.name == shape);
    let published = published.ok_or_else(|| format!("no shape is called `{shape}`; {usage}"))?;
    let model = CausalLm::random(published.shape().architecture()?, 0, Device::Cpu, kind)?;
    model.save(Path::new(dir))?;
    let n_weights: usize = model.parameters().iter().map(|p| p.tensor.numel()).sum();
    println!("{shape}: {n_weights} weights in {dir}");
    Ok(())
}
