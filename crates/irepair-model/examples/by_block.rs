//! A tiny GPT-2: what its blocks hold, what it writes, and what freezing by block leaves to train.
//!
//! `cargo run -p irepair-model --example by_block`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;

use irepair_core::{BlockId, BlockSlice, PaddedTokens, Scope};
use irepair_model::{Architecture, BlockModel, CausalLm, Decoding, TextBatch};
use tch::{Device, Kind};

fn main() -> Result<(), Box<dyn Error>> {
    let model = CausalLm::random(Architecture::gpt2(4, 32, 4, 64, 100), 0, Device::Cpu, Kind::Float)?;
    let n_weights: usize = model.parameters().iter().map(|p| p.tensor.numel()).sum();
    println!("{n_weights} weights, {} in each of {} blocks", model.n_block_weights(BlockId(0)), model.n_blocks());

    // Prompts of any lengths go together; padding changes nothing.
    let prompts = vec![vec![3, 14, 15], vec![92]];
    for (prompt, new) in prompts.iter().zip(model.generate(&prompts, 6, Decoding::Greedy, &[])?) {
        println!("{prompt:?} continues as {new:?}");
    }

    // Only block 2 may change: gradients exist for its parameters and for no other.
    model.train_only(&Scope::Blocks(BlockSlice::from_indices([2])));
    let batch = TextBatch::new(PaddedTokens::right_padded(&prompts, 0)?, Device::Cpu);
    let some_loss = model.logits(&batch).logsumexp([-1].as_slice(), false).mean(Kind::Float);
    for (index, gradient) in model.gradients(&some_loss)? {
        println!("  {:<24} {:?}", model.parameters()[index].name, gradient.size());
    }
    Ok(())
}
