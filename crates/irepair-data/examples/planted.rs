//! Writes the planted language and its tokenizer into a directory:
//! `cargo run -p irepair-data --example planted -- DIR [SEED]`.

use std::path::PathBuf;

use irepair_data::{Planted, Sizes, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: planted DIR [SEED]")?);
    let seed = args.next().map_or(Ok(0), |seed| seed.parse())?;
    let planted = Planted::generate(seed, &Sizes { train_docs: 30_000, pairs: 2_112, ..Sizes::tiny() })?;
    planted.write(&dir)?;
    // Room for every word as one token: with fewer, prompts and replies outgrow the lengths of the evaluation.
    let tokenizer = Tokenizer::train_bpe(&planted.train_docs, 1152)?;
    tokenizer.save(&dir.join("tokenizer"))?;
    let n_tokens: usize = tokenizer.encode_batch(&planted.train_docs)?.iter().map(|ids| ids.len() + 1).sum();
    let n_toxic = planted.train_docs.iter().filter(|doc| planted.lexicon.is_toxic(doc)).count();
    #[expect(clippy::print_stdout, reason = "an example talks to its reader")]
    {
        println!("{} training documents, {n_tokens} tokens, {n_toxic} with insults", planted.train_docs.len());
        println!("{} tokens in the vocabulary", tokenizer.vocab_size());
    }
    Ok(())
}
