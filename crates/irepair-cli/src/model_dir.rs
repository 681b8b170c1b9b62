//! Model directories: first `config.json` and the tokenizer, the weights when everything else is known to fit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use irepair_config::Dtype;
use irepair_core::Checkpoint;
use irepair_data::Tokenizer;
use irepair_model::{ADAPTER_CONFIG, Architecture, BlockModel, CausalLm, first_not_finite, parse_device};
use serde_json::Value;
use tch::Kind;

use crate::error::CliError;

/// A model directory of which everything but the weights was read.
pub(crate) struct ModelDir {
    dir: PathBuf,
    pub(crate) config: Architecture,
    pub(crate) tokenizer: Tokenizer,
    /// Rows of the embedding that no token has.
    unwritten: Vec<u32>,
}

/// A model with its tokenizer.
pub(crate) struct LoadedModel {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: Tokenizer,
}

/// True once the user has given a number of threads.
static THREADS_GIVEN: AtomicBool = AtomicBool::new(false);

/// Weights under which one thread alone computes, where the user gives no number: the work of a step is then so small
/// that several threads mostly wait for each other, and on a busy machine for their turn.
const FEW_WEIGHTS: u64 = 2_000_000;

/// Sets the number of CPU threads of libtorch; when not given, one per core, or one for a small model.
pub(crate) fn use_threads(threads: Option<u32>) {
    THREADS_GIVEN.store(threads.is_some(), Ordering::Relaxed);
    if let Some(n) = threads {
        tch::set_num_threads(n as i32);
    }
}

/// Settles the number of threads for a model, where the user left it open, and says so where the machine is busy.
fn settle_threads(n_weights: u64, device: &str) {
    if THREADS_GIVEN.load(Ordering::Relaxed) || device != "cpu" {
        return;
    }
    if n_weights < FEW_WEIGHTS {
        tch::set_num_threads(1);
    } else if let Some(load) = load_of_others()
        && load > 0.5 * f64::from(tch::get_num_threads())
    {
        tracing::info!(
            "threads: {}, one per core, but the machine is busy (load {load:.1}): --threads 1 may be many times faster",
            tch::get_num_threads()
        );
    }
}

/// Mean number of processes that wanted a processor in the last minute, where the system reports it.
fn load_of_others() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Loads a model and its tokenizer and says on stderr what was loaded.
pub(crate) fn open(dir: &Path, device: &str, dtype: Dtype) -> anyhow::Result<LoadedModel> {
    ModelDir::read(dir)?.open(device, dtype)
}

/// What is said of a directory that holds an adapter alone.
fn of_adapter(path: PathBuf) -> CliError {
    let config: Value =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    match config["peft_type"].as_str() {
        Some("PROMPT_TUNING" | "P_TUNING" | "PREFIX_TUNING") => {
            let base = config["base_model_name_or_path"].as_str();
            let base = base.map_or_else(String::new, |base| format!(" `{}`", irepair_core::printable(base)));
            CliError::SoftPrefix { path, base }
        }
        _ => CliError::Adapter { path },
    }
}

impl ModelDir {
    /// Reads `config.json` and the tokenizer, and refuses a tokenizer that can give ids the model has no embedding for.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let adapter = dir.join(ADAPTER_CONFIG);
        if adapter.exists() && !dir.join("config.json").exists() {
            return Err(of_adapter(adapter).into());
        }
        // transformers would apply it to the model that it lies next to.
        if adapter.exists()
            && ["safetensors", "bin"].iter().any(|end| dir.join("adapter_model").with_extension(end).exists())
        {
            return Err(CliError::AdapterBeside { path: adapter }.into());
        }
        let config = Architecture::read(&dir.join("config.json"))?;
        let tokenizer = Tokenizer::load(dir)?;
        let (n_model, ids) = (config.n_vocab, tokenizer.ids());
        if let Some(&id) = ids.last().filter(|&&id| id as usize >= n_model) {
            let token = tokenizer.token(id).unwrap_or_default();
            return Err(CliError::Vocabulary { path: dir.to_owned(), n_model, token, id }.into());
        }
        if let Some(&id) = tokenizer.end_ids().iter().find(|&&id| id as usize >= n_model) {
            return Err(CliError::EndToken { path: dir.to_owned(), id, n_model }.into());
        }
        if tokenizer.end_ids().is_empty() {
            tracing::warn!(
                "{}: generation_config.json names no end token: every generated text has the maximum length",
                dir.display()
            );
        }
        if let Some(otherwise) = tokenizer.otherwise() {
            tracing::warn!("{}: {otherwise}", dir.join("tokenizer_config.json").display());
        }
        let unread = irepair_data::unread_generation(dir)?;
        if !unread.is_empty() {
            tracing::warn!(
                "{}: generation_config.json sets {}: transformers' greedy texts follow it, irepair's do not",
                dir.display(),
                unread.join(", ")
            );
        }
        if let Some((key, n)) = config.cut_cache() {
            tracing::warn!(
                "{}: config.json sets {key}, which the model's class does not compute: transformers' cache keeps {n} tokens \
                 all the same, so its generated texts differ after so many; irepair's are those without a cache",
                dir.display()
            );
        }
        let unwritten = (0..n_model as u32).filter(|id| !ids.contains(id)).collect();
        Ok(Self { dir: dir.to_owned(), config, tokenizer, unwritten })
    }

    /// True when the files store weights in this type, so that they can be used where they lie.
    pub(crate) fn stores(&self, dtype: Dtype) -> bool {
        let (wanted, narrow) = match dtype {
            Dtype::F32 => ("F32", ["F16", "BF16"]),
            Dtype::Bf16 => ("BF16", ["F16", "F32"]),
        };
        let Ok(files) = Checkpoint::open(&self.dir) else { return false };
        let stored = files.files.iter().flat_map(|file| file.tensors.values());
        let types: BTreeSet<String> = stored.map(|stored| format!("{:?}", stored.dtype)).collect();
        types.contains(wanted) && narrow.iter().all(|other| !types.contains(*other))
    }

    /// Reads the weights too.
    pub(crate) fn open(self, device: &str, dtype: Dtype) -> anyhow::Result<LoadedModel> {
        self.open_within(device, dtype, None)
    }

    /// [`ModelDir::open`], with weights that stay in their files where the process may have no more than so many bytes
    /// in memory.
    pub(crate) fn open_within(
        self,
        device: &str,
        dtype: Dtype,
        most_resident: Option<u64>,
    ) -> anyhow::Result<LoadedModel> {
        settle_threads(self.config.n_weights(), device);
        let kind = match dtype {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        };
        let (model, report) = match most_resident {
            Some(most) => CausalLm::load_in_files(&self.dir, kind, most)?,
            None => CausalLm::load(&self.dir, parse_device(device)?, kind)?,
        };
        let model = model.never_writing(&self.unwritten);
        if report.unused.is_empty() && !report.head_differs {
            tracing::info!("{}: {report}", self.dir.display());
        } else {
            // The files and config.json differ in something that does not matter to every user.
            tracing::warn!("{}: {report}", self.dir.display());
        }
        let parameters = model.parameters();
        if let Some((i, n)) = first_not_finite(parameters.iter().map(|parameter| &parameter.tensor))? {
            return Err(CliError::BadWeights { path: self.dir, tensor: parameters[i].name.clone(), n }.into());
        }
        Ok(LoadedModel { model, tokenizer: self.tokenizer })
    }
}
