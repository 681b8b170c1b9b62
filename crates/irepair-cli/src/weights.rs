//! Opening a model directory: settings and tokenizer first, weights when everything else is known to fit.

use std::path::{Path, PathBuf};

use irepair_config::Dtype;
use irepair_data::Tokenizer;
use irepair_model::{Architecture, BlockModel, CausalLm, first_not_finite, parse_device};
use tch::Kind;

use crate::refusal::Refusal;

/// A model directory of which everything but the weights was read.
pub(crate) struct Described {
    dir: PathBuf,
    pub(crate) config: Architecture,
    pub(crate) tokenizer: Tokenizer,
    /// Fills padding, starts and ends texts.
    pub(crate) eos_id: u32,
}

/// A model with the tokenizer that lies beside it.
pub(crate) struct Opened {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: Tokenizer,
    /// Fills padding, starts and ends texts.
    pub(crate) eos_id: u32,
}

/// Sets the number of CPU threads libtorch uses; one per core when not given.
pub(crate) fn use_threads(threads: Option<u32>) {
    if let Some(n) = threads {
        tch::set_num_threads(n as i32);
    }
}

/// Loads a model and its tokenizer and says on stderr what was loaded.
pub(crate) fn open(dir: &Path, device: &str, dtype: Dtype) -> anyhow::Result<Opened> {
    Described::read(dir)?.open(device, dtype)
}

impl Described {
    /// Reads `config.json` and the tokenizer, and refuses a tokenizer that can give ids the model has no embedding for.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let config = Architecture::read(&dir.join("config.json"))?;
        let tokenizer = Tokenizer::load(dir)?;
        let eos_id = tokenizer.eos_id();
        let (n_model, n_tokenizer) = (config.n_vocab, tokenizer.vocab_size());
        if n_tokenizer > n_model {
            return Err(Refusal::Vocabulary { dir: dir.to_owned(), n_model, n_tokenizer }.into());
        }
        if let Some(&id) = tokenizer.end_ids().iter().find(|&&id| id as usize >= n_model) {
            return Err(Refusal::EndToken { dir: dir.to_owned(), id, n_model }.into());
        }
        if tokenizer.end_ids().is_empty() {
            tracing::warn!(
                "{}: generation_config.json names no end token: generated texts run to their longest",
                dir.display()
            );
        }
        let begin = tokenizer.begin_tokens()?.concat();
        if !begin.is_empty() {
            tracing::warn!(
                "{}: transformers puts `{begin}` before every text of this tokenizer; irepair does not, so losses, \
                 perplexities and generated texts differ from those with it",
                dir.display()
            );
        }
        Ok(Self { dir: dir.to_owned(), config, tokenizer, eos_id })
    }

    /// Reads the weights too.
    pub(crate) fn open(self, device: &str, dtype: Dtype) -> anyhow::Result<Opened> {
        let kind = match dtype {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        };
        let (model, report) = CausalLm::load(&self.dir, parse_device(device)?, kind)?;
        if report.unused.is_empty() && !report.head_differs {
            tracing::info!("{}: {report}", self.dir.display());
        } else {
            // What is stored is not quite what config.json describes: worth a look.
            tracing::warn!("{}: {report}", self.dir.display());
        }
        if let Some((parameter, n)) = first_not_finite(model.parameters()) {
            return Err(Refusal::BadWeights { dir: self.dir, tensor: parameter.name.clone(), n }.into());
        }
        Ok(Opened { model, tokenizer: self.tokenizer, eos_id: self.eos_id })
    }
}
