//! `irepair pretrain`: a small base model from text, by the same engine as every repair.

use std::path::Path;
use std::sync::Arc;

use irepair_config::{Memory, PretrainOptions};
use irepair_core::fs::remove;
use irepair_core::mark_finished;
use irepair_core::spec::{Side, Term};
use irepair_data::{TokenPair, Tokenizer, pack, read_texts, read_token_texts};
use irepair_eval::{Metric, joined_tokens, token_perplexity};
use irepair_model::{CausalLm, parse_device};
use irepair_train::{Engine, Localise, OptimizerKind, RepairData, Schedule, Settings};
use serde::Serialize;
use tch::Kind;

use crate::memory;
use crate::not_finite::{self, Source};
use crate::refusal::{claim, refuse_foreign};
use crate::repair::print;
use crate::steps::{self, Keep};
use crate::weights::use_threads;

/// The log of the steps, which goes once the model is whole.
const STEPS: &str = ".irepair-steps.jsonl";

/// Windows of the held-out text computed at once.
const VALID_BATCH: usize = 8;

#[derive(Serialize)]
struct Summary<'a> {
    out: &'a Path,
    n_steps: u64,
    train_seconds: f64,
    last_loss: f64,
    /// Perplexity on the held-out text, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<Metric>,
}

/// Runs the command.
pub(crate) fn command(options: PretrainOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(data), Some(out)) = (&options.data, &options.out) else { unreachable!("validated") };
    refuse_foreign(out)?;
    let device = parse_device(&options.device())?;
    let (tokenizer, documents) = match &options.tokenizer {
        Some(path) => {
            let tokenizer = Tokenizer::load(tokenizer_dir(path)?)?;
            let documents = read_token_texts(data, &tokenizer)?;
            (tokenizer, documents)
        }
        None => {
            let texts = read_texts(data)?;
            let tokenizer = Tokenizer::train_bpe(&texts, options.vocab_size())?;
            let documents = tokenizer.encode_batch(&texts)?;
            (tokenizer, documents)
        }
    };
    let valid = match &options.valid {
        Some(path) => Some(joined_tokens(&tokenizer, &read_texts(path)?)?),
        None => None,
    };
    if let Some(n) = valid.as_ref().map(Vec::len).filter(|&n| n < 2) {
        return Err(irepair_data::Error::TooFew { wanted: 2, n }.into());
    }
    let window = options.window.unwrap_or(options.n_positions());
    let n_documents = documents.len();
    let windows = if options.pack() {
        pack(&documents, tokenizer.eos_id(), window)
    } else {
        rows(documents, tokenizer.eos_id(), window)
    };
    tracing::info!("{n_documents} documents, {} windows of {window} tokens", windows.len());

    let config = options.shape(tokenizer.vocab_size()).architecture()?;
    let needed = Memory::of_pretraining(&config, options.batch_size(), window, VALID_BATCH).total();
    let instead = "a smaller --n-layer, --n-embd, --vocab-size, --batch-size or --window";
    memory::fit(needed, memory::free(&options.device(), None), instead)?;
    let model = CausalLm::random(config, options.seed(), device, Kind::Float)?;

    let only_chosen = |chosen| TokenPair { prompt: Vec::new(), chosen, rejected: Vec::new() };
    let data = Arc::new(RepairData {
        pairs: windows.into_iter().map(only_chosen).collect(),
        pad_id: tokenizer.eos_id(),
        ..RepairData::default()
    });
    let settings = Settings {
        n_steps: options.steps(),
        batch_size: options.batch_size(),
        optimizer: OptimizerKind::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: options.weight_decay() },
        lr: options.lr(),
        schedule: Schedule::Cosine,
        warmup_steps: options.warmup_steps(),
        clip_norm: 1.0,
        seed: options.seed(),
        ..Settings::default()
    };
    let unsliced: Box<dyn Localise + Send> = Box::new(irepair_baselines::Unsliced);
    let mut engine = Engine::new(&model, Term::Nll(Side::Chosen), unsliced, &data, settings)?
        .identified_by("the tokenizer", &tokenizer.sha256()?);
    // From here on something is written.
    let _held = claim(out)?;
    let keep = Keep::new("pretrain", out, STEPS, options.steps(), options.checkpoint_every());
    remove(&out.join(not_finite::DUMP))?;
    let source = Source { data: &data, tokenizer: &tokenizer, file: None };
    let records = keep
        .run(&mut engine, None)
        .and_then(|records| engine.finish().map(|_| records).map_err(Into::into))
        .map_err(|error| not_finite::explain(error, &source, out))?;
    let last = records.last().map_or(f64::NAN, |record| record.loss);
    let seconds: f64 = records.iter().map(|record| record.seconds).sum();
    tokenizer.save(out)?;
    model.save(out)?;
    // A checkpoint without the log of its steps could not be taken up.
    steps::forget(out)?;
    remove(&out.join(STEPS))?;
    mark_finished(out)?;
    let valid = match valid {
        Some(tokens) => Some(token_perplexity(&model, &tokens, window, VALID_BATCH)?),
        None => None,
    };
    if options.json() {
        let summary = Summary { out, n_steps: options.steps(), train_seconds: seconds, last_loss: last, valid };
        return print(&(serde_json::to_string_pretty(&summary)? + "\n"));
    }
    let valid = valid.map_or(String::new(), |found| {
        let value = found.value.map_or("missing".to_owned(), |v| format!("{v:.4}"));
        format!("held-out perplexity per token {value}, n = {}\n", found.n)
    });
    print(&format!(
        "trained {} steps in {seconds:.1} s, last loss {last:.4} nats a token\n{valid}model: {}\n",
        options.steps(),
        out.display()
    ))
}

/// The directory that a tokenizer is given by, or one of whose files it is given by.
fn tokenizer_dir(path: &Path) -> irepair_data::Result<&Path> {
    let named = path.file_name().is_some_and(|name| name == "tokenizer.json" || name == "vocab.json");
    match path.parent() {
        _ if path.is_dir() => Ok(path),
        Some(dir) if named && path.is_file() => Ok(if dir.as_os_str().is_empty() { Path::new(".") } else { dir }),
        _ => Err(irepair_data::Error::NoTokenizer { dir: path.to_owned() }),
    }
}

/// Every document between two end-of-text tokens, cut to one window.
fn rows(documents: Vec<Vec<u32>>, eos_id: u32, window: usize) -> Vec<Vec<u32>> {
    let row = |document: Vec<u32>| std::iter::once(eos_id).chain(document).chain([eos_id]).take(window).collect();
    documents.into_iter().map(row).collect()
}
