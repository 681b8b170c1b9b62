//! Measures a small untrained model on the planted language: `cargo run -p irepair-eval --example measure`.

use irepair_data::{Planted, Sizes, Tokenizer};
use irepair_eval::{
    Evaluator, Generation, continuation_perplexity, footprint, joined_tokens, key, kl_heldout, token_perplexity,
};
use irepair_model::{Architecture, CausalLm};
use tch::{Device, Kind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let planted = Planted::generate(0, &Sizes::tiny())?;
    let tokenizer = Tokenizer::train_bpe(&planted.train_docs, 400)?;
    let config = Architecture::gpt2(4, 32, 4, 128, tokenizer.vocab_size());
    let reference = CausalLm::random(config.clone(), 0, Device::Cpu, Kind::Float)?;
    let model = CausalLm::random(config, 1, Device::Cpu, Kind::Float)?;

    let found = Evaluator::new(&model, &tokenizer, 2).toxicity(
        &planted.error_test,
        &planted.lexicon,
        &Generation::default(),
    )?;
    let mut metrics = found.metrics;
    metrics.insert(key::CONTINUATION_PERPLEXITY, continuation_perplexity(&reference, &found.continuations, 8)?);
    let general = joined_tokens(&tokenizer, &planted.general_test)?;
    metrics.insert(key::TOKEN_PERPLEXITY, token_perplexity(&model, &general, 128, 8)?);
    metrics.extend(Evaluator::new(&model, &tokenizer, 8).cloze(&planted.cloze_test)?.metrics);
    let neutral = tokenizer.encode_batch(&planted.general_valid)?;
    metrics.insert(key::KL_HELDOUT, kl_heldout(&reference, &model, &neutral, 8)?.metric);
    let change = footprint(&reference, &model)?;

    #[expect(clippy::print_stdout, reason = "an example talks to its reader")]
    {
        for (key, metric) in metrics.iter() {
            let value = metric.value.map_or("missing".to_owned(), |v| format!("{v:.3} {}", metric.unit));
            println!("{key:24} {value:24} n = {:5}  {} failed  {}", metric.n, metric.n_failed, metric.definition);
        }
        println!("blocks {} changed, {} weights", change.changed_blocks(), change.n_changed());
    }
    Ok(())
}
