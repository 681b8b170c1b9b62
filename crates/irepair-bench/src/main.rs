//! `irepair-bench`: times one part of a repair on random weights of a published shape and prints one JSON object.
//!
//! `cargo xtask bench` runs it in alternation with a PyTorch peer on the same arguments (`bench/peer.py`).
#![expect(clippy::print_stdout, reason = "the result is what it prints")]

mod parts;
mod steps;
mod turns;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use irepair_arch::{Architecture, Published};
use irepair_core::{Resident, SliceSize};
use irepair_model::{BlockModel, CausalLm, parse_device, parse_dtype};
use irepair_torch::device_memory;
use serde::Serialize;
use tch::Device;

/// Times one part of a repair.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct Args {
    /// What to time
    #[arg(long)]
    pub(crate) what: What,
    /// A published shape; --n-layer and the like change it
    #[arg(long, default_value = "gpt2", value_parser = PossibleValuesParser::new(Published::ALL.map(|s| s.name)))]
    shape: String,
    #[arg(long)]
    n_layer: Option<usize>,
    #[arg(long)]
    n_embd: Option<usize>,
    #[arg(long)]
    n_head: Option<usize>,
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Blocks a sliced step updates: `20` is percent, `1b` is one
    #[arg(long, default_value = "1b")]
    pub(crate) top_k: SliceSize,
    /// Pairs or texts at a time
    #[arg(long, default_value_t = 4)]
    pub(crate) batch: usize,
    /// Tokens of a text
    #[arg(long, default_value_t = 128)]
    pub(crate) tokens: usize,
    /// Repetitions counted
    #[arg(long, default_value_t = 5)]
    pub(crate) repeat: usize,
    /// Repetitions before those
    #[arg(long, default_value_t = 1)]
    pub(crate) warm_up: usize,
    /// Say `ready`, then do one repetition for every line on stdin and answer with its seconds; --repeat is not read
    #[arg(long)]
    pub(crate) paced: bool,
    /// Threads; all cores unless given
    #[arg(long)]
    threads: Option<i32>,
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// A model directory: read by `load`, written by `save`
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
}

/// Parts of a repair, and what they are measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Irepair,
    IrepairNoKl,
    Dapt,
    DaptKl,
    Dpo,
    /// Greedy continuations: 16 tokens of prompt, 20 new
    Generate,
    Perplexity,
    /// Last words of two tokens, as LAMBADA asks for them
    LastWords,
    /// A checkpoint's weights
    Load,
    /// Square matrix products: what the machine could do
    Gemm,
    /// Writes the shape's weights
    Save,
}

/// What is printed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Seconds of each counted repetition.
    pub(crate) seconds: Vec<f64>,
    /// Tokens worked on in one repetition.
    pub(crate) tokens: f64,
    /// Counted matrix-multiplication work of one repetition.
    pub(crate) flops: f64,
    /// Blocks updated, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) slices: Vec<String>,
    /// Largest resident memory of the process.
    pub(crate) peak_rss_bytes: u64,
    /// The most that libtorch has taken from a GPU at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_device_bytes: Option<i64>,
    /// The most of it that was in tensors at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_used_bytes: Option<i64>,
    /// Bytes of the model's weights.
    pub(crate) weight_bytes: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    irepair_model::keep_freed_memory();
    if let Some(n) = args.threads {
        tch::set_num_threads(n);
    }
    let mut measured = match args.what {
        What::Gemm => parts::gemm(&args)?,
        What::Load => parts::load(&args)?,
        What::Save => parts::save(&args)?,
        What::Generate => parts::generate(&args)?,
        What::Perplexity => parts::perplexity(&args)?,
        What::LastWords => parts::last_words(&args)?,
        _ => steps::steps(&args)?,
    };
    measured.peak_rss_bytes = Resident::own().map_or(0, |resident| resident.peak);
    let of_device = device_memory(args.device()?);
    measured.peak_device_bytes = of_device.map(|memory| memory.peak_reserved);
    measured.peak_used_bytes = of_device.map(|memory| memory.peak_allocated);
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

impl Args {
    pub(crate) fn device(&self) -> anyhow::Result<Device> {
        Ok(parse_device(&self.device)?)
    }

    pub(crate) fn kind(&self) -> anyhow::Result<tch::Kind> {
        Ok(parse_dtype(&self.dtype)?)
    }

    pub(crate) fn config(&self) -> anyhow::Result<Architecture> {
        let Some(published) = Published::ALL.iter().find(|published| published.name == self.shape) else {
            let names = Published::ALL.map(|published| published.name).join(", ");
            anyhow::bail!("no shape is called `{}`; there are {names}", self.shape)
        };
        let mut shape = published.shape();
        for (own, given) in [
            (&mut shape.n_layer, self.n_layer),
            (&mut shape.n_embd, self.n_embd),
            (&mut shape.n_head, self.n_head),
            (&mut shape.vocab_size, self.vocab_size),
        ] {
            *own = given.unwrap_or(*own);
        }
        // As `bench/peer.py` does: what is grouped stays grouped, and an MLP stays as wide for its model.
        let usual = published.shape();
        shape.n_kv_head = usual.n_kv_head.map(|n| (n * shape.n_head / usual.n_head).max(1));
        shape.n_inner = usual.n_inner.map(|n| n * shape.n_embd / usual.n_embd);
        anyhow::ensure!(
            shape.n_head > 0 && shape.n_embd.is_multiple_of(shape.n_head),
            "--n-embd wants to be a multiple of --n-head"
        );
        anyhow::ensure!(self.batch > 0 && self.repeat > 0, "--batch and --repeat want to be at least 1");
        anyhow::ensure!((4..=shape.n_positions).contains(&self.tokens), "--tokens wants 4 to {}", shape.n_positions);
        Ok(shape.architecture()?)
    }

    /// The shape with random weights, on a GPU drawn by the GPU: one thread takes a minute for 1.5 billion.
    pub(crate) fn random_model(&self) -> anyhow::Result<CausalLm> {
        let (config, device, kind) = (self.config()?, self.device()?, self.kind()?);
        Ok(match device {
            Device::Cpu => CausalLm::random(config, 0, device, kind)?,
            _ => CausalLm::random_on_device(config, 0, device, kind)?,
        })
    }
}

pub(crate) fn weight_bytes(model: &CausalLm) -> u64 {
    let bytes = |t: &tch::Tensor| (t.numel() * t.kind().elt_size_in_bytes()) as u64;
    model.parameters().iter().map(|p| bytes(&p.tensor)).sum()
}
