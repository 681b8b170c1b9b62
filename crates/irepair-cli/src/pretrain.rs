//! `irepair pretrain`: a small base model from text, by the same engine as every repair.

use std::path::Path;
use std::sync::Arc;

use irepair_config::{Memory, PretrainOptions, PretrainPlan};
use irepair_core::fs::remove;
use irepair_core::mark_finished;
use irepair_core::spec::{Side, Term};
use irepair_data::{Tokenizer, pack, read_texts, read_token_texts};
use irepair_eval::{Evaluator, Metric, joined_tokens};
use irepair_model::{CausalLm, parse_device};
use irepair_train::{Engine, Localise, OptimizerKind, RepairData, Schedule, Settings};
use serde::Serialize;
use tch::Kind;

use crate::error::CliError;
use crate::memory;
use crate::model_dir::use_threads;
use crate::not_finite::{self, Source};
use crate::output::{four_decimals, print, print_json};
use crate::run_dir::{claim, refuse_used, remove_state};
use crate::train_loop::TrainLoop;

/// The log of the steps, removed when the model is complete.
const MAKER: &str = "irepair pretrain";
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
pub(crate) fn command(plan: &PretrainPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let out = &plan.out;
    refuse_used(out, MAKER)?;
    let device = parse_device(&plan.device)?;
    let (tokenizer, documents) = match &plan.tokenizer {
        Some(path) => {
            let tokenizer = Tokenizer::load(tokenizer_dir(path)?)?;
            let documents = read_token_texts(&plan.data, &tokenizer)?;
            (tokenizer, documents)
        }
        None => {
            let texts = read_texts(&plan.data)?;
            let tokenizer = Tokenizer::train_bpe(&texts, plan.vocab_size)?;
            let documents = tokenizer.encode_batch(&texts)?;
            (tokenizer, documents)
        }
    };
    let valid = plan.valid.as_deref().map(|path| read_valid(path, &tokenizer)).transpose()?;
    let window = plan.window.unwrap_or(plan.n_positions);
    let n_documents = documents.len();
    let windows = if plan.pack {
        let documents: Vec<_> = documents.into_iter().map(|ids| tokenizer.begin_text(ids)).collect();
        pack(&documents, tokenizer.eos_id(), window)
    } else {
        rows(documents, &tokenizer, window)
    };
    tracing::info!("{n_documents} documents, {} windows of {window} tokens", windows.len());

    let config = PretrainOptions::from(plan.clone()).shape(tokenizer.vocab_size()).architecture()?;
    let needed = Memory::of_pretraining(&config, plan.batch_size, window, VALID_BATCH).total();
    let instead = "a smaller --n-layer, --n-embd, --vocab-size, --batch-size or --window";
    memory::fit(needed, memory::free(&plan.device, None), instead)?;
    let model = CausalLm::random(config, plan.seed, device, Kind::Float)?;

    let data = Arc::new(RepairData::of_texts(windows, tokenizer.eos_id()));
    let settings = Settings {
        n_steps: plan.steps,
        batch_size: plan.batch_size,
        optimizer: OptimizerKind::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: plan.weight_decay },
        lr: plan.lr,
        schedule: Schedule::Cosine,
        warmup_steps: plan.warmup_steps,
        clip_norm: 1.0,
        seed: plan.seed,
        ..Settings::default()
    };
    let unsliced: Box<dyn Localise + Send> = Box::new(irepair_baselines::Unsliced);
    let mut engine = Engine::new(&model, Term::Nll(Side::Chosen), unsliced, &data, settings)?
        .identified_by("the tokenizer", &tokenizer.sha256()?);
    // From here on something is written.
    let _held = claim(out, MAKER)?;
    let train_loop = TrainLoop::new("pretrain", out, STEPS, plan.steps, plan.checkpoint_every);
    remove(&out.join(not_finite::DUMP))?;
    let source = Source { data: &data, tokenizer: &tokenizer, file: None };
    let records = train_loop
        .run(&mut engine, None)
        .and_then(|records| engine.finish().map(|_| records).map_err(Into::into))
        .map_err(|error| not_finite::explain(error, &source, out))?;
    let last = records.last().map_or(f64::NAN, |record| record.loss);
    let seconds: f64 = records.iter().map(|record| record.seconds).sum();
    tokenizer.save(out)?;
    model.save(out)?;
    // A checkpoint without the log of its steps could not be continued.
    remove_state(out)?;
    remove(&out.join(STEPS))?;
    mark_finished(out)?;
    let evaluator = Evaluator::new(&model, &tokenizer, VALID_BATCH);
    let valid = valid.map(|tokens| evaluator.token_perplexity(&tokens, window)).transpose()?;
    if plan.json {
        let summary = Summary { out, n_steps: plan.steps, train_seconds: seconds, last_loss: last, valid };
        return print_json(&summary);
    }
    let held_out =
        |valid: &Metric| format!("held-out perplexity per token {}, n = {}\n", four_decimals(valid.value), valid.n);
    let valid = valid.as_ref().map(held_out).unwrap_or_default();
    print(&format!(
        "trained {} steps in {seconds:.1} s, last loss {last:.4} nats a token\n{valid}model: {}\n",
        plan.steps,
        out.display()
    ))
}

/// The tokens of the held-out text, of which all but the first are predicted.
fn read_valid(path: &Path, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
    let tokens = joined_tokens(tokenizer, &read_texts(path)?)?;
    if tokens.len() < 2 {
        return Err(CliError::TooLittle {
            path: path.to_owned(),
            option: "--valid",
            want: "at least 2 tokens".to_owned(),
            got: tokens.len().to_string(),
            help: "give more text",
        }
        .into());
    }
    Ok(tokens)
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

/// Every document between a start and an end token, cut to one window.
fn rows(documents: Vec<Vec<u32>>, tokenizer: &Tokenizer, window: usize) -> Vec<Vec<u32>> {
    let (start, end) = ([tokenizer.start_id()], [tokenizer.eos_id()]);
    let row = |document: Vec<u32>| start.into_iter().chain(document).chain(end).take(window).collect();
    documents.into_iter().map(row).collect()
}
