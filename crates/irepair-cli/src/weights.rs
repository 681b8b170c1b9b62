//! Opening a model directory: device, threads, weights, tokenizer.

use std::path::Path;

use irepair_config::Dtype;
use irepair_data::Tokenizer;
use irepair_model::{CausalLm, parse_device};
use tch::Kind;

/// A model with the tokenizer that lies beside it.
pub(crate) struct Opened {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: Tokenizer,
    /// Fills padding and ends texts.
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
    let device = parse_device(device)?;
    let kind = match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::Bf16 => Kind::BFloat16,
    };
    let (model, report) = CausalLm::load(dir, device, kind)?;
    let tokenizer = Tokenizer::load(dir)?;
    if report.unused.is_empty() && !report.head_differs {
        tracing::info!("{}: {report}", dir.display());
    } else {
        // What is stored is not quite what config.json describes: worth a look.
        tracing::warn!("{}: {report}", dir.display());
    }
    let eos_id = model.config().eos_id.unwrap_or_else(|| tokenizer.eos_id());
    crate::texts::check_vocabulary(dir, &model, &tokenizer, eos_id)?;
    Ok(Opened { model, tokenizer, eos_id })
}
