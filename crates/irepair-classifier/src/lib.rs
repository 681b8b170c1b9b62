//! BERT, RoBERTa and DistilBERT text classifiers as toxicity scorers: load, run, train a small one.
//!
//! ```no_run,standalone_crate
//! use irepair_classifier::Classifier;
//! use irepair_scorer::Scorer;
//! use tch::Device;
//!
//! let classifier = Classifier::load("toxic-bert".as_ref(), None, Device::Cpu, 32)?;
//! println!("{}: {:?}", classifier.name(), classifier.score("good day, Anna"));
//! # Ok::<(), irepair_classifier::Error>(())
//! ```
//!
//! Reading order: [`ClassifierConfig`] (what a `config.json` means), `labels` (which of them are toxic), `params`
//! (names and shapes by family), `forward` (the arithmetic), `tokens`, [`Classifier`]; then `train` and its [`Record`].
//!
//! **Invariants.** Scores do not depend on padding or on the batch a text comes in beyond rounding. What is not
//! computed here is refused by name. **Boundary.** No causal language model and no repair; irepair-model reads the
//! weights files.

mod classifier;
mod config;
mod error;
mod forward;
mod labels;
mod params;
mod record;
mod tokens;
mod train;

pub use classifier::Classifier;
pub use config::{ClassifierConfig, Family};
pub use error::{Error, Result};
pub use irepair_arch::Activation;
pub use record::Record;
pub use train::{TrainSettings, train_classifier};
