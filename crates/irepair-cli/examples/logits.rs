//! Token ids, logits and greedy text of a model on some texts, as JSON for other programs to compare with.
//!
//! `cargo run -p irepair-cli --example logits -- MODEL_DIR TEXTS.json > GOLDEN.json`; `parity/interop/check.py` reads
//! it.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::path::PathBuf;

use anyhow::Context;
use irepair_core::PaddedTokens;
use irepair_data::Tokenizer;
use irepair_model::{BlockModel, CausalLm, Decoding, TextBatch};
use serde_json::json;
use tch::{Device, Kind, no_grad};

const N_NEW_TOKENS: usize = 8;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (dir, texts) = args.next().zip(args.next()).context("usage: logits MODEL_DIR TEXTS.json")?;
    let texts: Vec<String> = serde_json::from_str(&irepair_core::fs::read_to_string(&texts)?)?;
    let (model, _) = CausalLm::load(&dir, Device::Cpu, Kind::Float)?;
    let tokenizer = Tokenizer::load(&dir)?;
    let mut rows = Vec::new();
    for text in texts {
        let ids = tokenizer.encode(&text)?;
        model.check_length(ids.len() + N_NEW_TOKENS)?;
        let batch =
            TextBatch::new(PaddedTokens::right_padded(std::slice::from_ref(&ids), tokenizer.eos_id())?, Device::Cpu);
        let logits = no_grad(|| model.logits(&batch)).view([ids.len() as i64, -1]);
        let logits = Vec::<Vec<f32>>::try_from(logits)?;
        let greedy = model.generate(std::slice::from_ref(&ids), N_NEW_TOKENS, Decoding::Greedy, &[])?;
        let decoded = tokenizer.decode(&ids)?;
        rows.push(json!({"text": text, "ids": ids, "decoded": decoded, "logits": logits, "greedy": greedy[0]}));
    }
    println!("{}", json!({"eos_id": tokenizer.eos_id(), "texts": rows}));
    Ok(())
}
