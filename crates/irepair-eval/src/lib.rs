//! Toxicity, perplexity, last-word accuracy, held-out KL, footprint: numbers that carry their definition.
//!
//! ```no_run,standalone_crate
//! use irepair_data::{Lexicon, Tokenizer};
//! use irepair_eval::{Evaluator, Generation, key, token_perplexity};
//! use irepair_model::{CausalLm, Architecture};
//! use tch::{Device, Kind};
//!
//! let tokenizer = Tokenizer::train_bpe(&["the mill by the river", "the river by the mill"], 280)?;
//! let shape = Architecture::gpt2(2, 16, 2, 64, tokenizer.vocab_size());
//! let model = CausalLm::random(shape, 0, Device::Cpu, Kind::Float)?;
//! let prompts = ["the mill".to_owned(), "the river by".to_owned()];
//! let evaluator = Evaluator::new(&model, &tokenizer, 32);
//! let found = evaluator.toxicity(&prompts, &Lexicon::new(["grubnik"]), &Generation::default())?;
//! assert_eq!(found.metrics.get(key::TOX).map(|m| m.n), Some(2));
//! let tokens = tokenizer.encode("the mill by the river by the mill")?;
//! println!("{:?}", token_perplexity(&model, &tokens, 4, 8)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reading order: [`Metric`] (value, unit, n, n failed, definition), [`Scorer`], [`Evaluator`], whose methods are the
//! metrics of texts: `toxicity` with its degeneration `guard` (METHOD §9), then `perplexity`, `word_perplexity`,
//! `cloze`, `choice` and `overlap` (METHOD §10), and `fault` (METHOD §15: bias, memorised text, wrong facts). Metrics
//! of two models or of token ids are functions: `kl`, `footprint`, [`token_perplexity`]. `own_pairs` makes pairs of the
//! model's own texts (METHOD §21).
//!
//! **Invariants.** What cannot be measured is missing and counted, never 0. A batch size changes speed and memory, no
//! result beyond rounding. Measuring records no gradient and changes no weight. Results come back in the order of the
//! input.
//! **Boundary.** No training method is known here: a model goes in, with a reference where one is needed.

mod choice;
mod cloze;
mod error;
mod evaluator;
mod fault;
mod footprint;
mod guard;
mod kl;
mod overlap;
mod own_pairs;
mod perplexity;
mod scorer;
mod texts;
mod toxicity;
mod word_perplexity;

pub use choice::{MinimalPair, MultipleChoice, Question};
pub use cloze::{Cloze, ClozeTokens, cloze_tokens};
pub use error::{Error, Result};
pub use evaluator::Evaluator;
pub use fault::WrongPreference;
pub use footprint::{Change, Footprint, footprint};
pub use guard::{copied_share, copies, degeneration};
pub use irepair_core::metric::{self as key, Metric, Metrics};
pub use irepair_scorer::Scorer;
pub use kl::{Divergence, kl_heldout};
pub use overlap::{bag_f1, token_f1};
pub use own_pairs::{OwnPairs, PairCounts, PairRule};
pub use perplexity::{continuation_perplexity, joined_tokens, strided_perplexity, texts_perplexity, token_perplexity};
pub use scorer::Scores;
pub use texts::{TextNll, text_nlls, windowed_nlls};
pub use toxicity::{Continuations, Generation, Sampling, Toxicity};
pub use word_perplexity::{DocumentTokens, word_perplexity_tokens};
