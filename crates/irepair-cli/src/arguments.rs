//! The command line: subcommands, and settings from flags over a file.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use irepair_config::{
    EvalOptions, GenerateOptions, Options, PretrainOptions, RelearnOptions, RepairOptions, ScoreOptions,
    ScorerEvalOptions, ScorerTrainOptions, SensitivityOptions, from_toml, validate,
};
use irepair_core::NUMBERS_VERSION;

/// Repair language models: find the few transformer blocks that carry an error, change only those, prove it.
#[derive(Parser)]
#[command(name = "irepair", version = version(), max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Of the package, and of the numbers: what `cargo xtask reproduce` reads.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (numbers {NUMBERS_VERSION})", env!("CARGO_PKG_VERSION")));
    &VERSION
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Repair a model with pairs of chosen and rejected continuations.
    Repair(Box<Given<RepairOptions>>),
    /// Show how strongly an error moves each block.
    Sensitivity(Given<SensitivityOptions>),
    /// Measure a model: toxicity, perplexity, last-word accuracy, KL and footprint against a reference.
    Eval(Box<Given<EvalOptions>>),
    /// Negative log-likelihood of texts, one JSON line per text.
    Score(Given<ScoreOptions>),
    /// Continue prompts, or sample texts from nothing.
    Generate(Box<Given<GenerateOptions>>),
    /// Train a small base model from text.
    Pretrain(Box<Given<PretrainOptions>>),
    /// Train the error back into a model, on ever more texts: how durable is its repair?
    Relearn(Box<Given<RelearnOptions>>),
    /// Train an offline toxicity scorer, or measure one on labelled texts.
    Scorer {
        #[command(subcommand)]
        action: ScorerAction,
    },
    /// Cut the data files of a profile from those it is given.
    Data {
        /// The profile that says which records.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Directory to write to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A file of the profile that is not wanted; may be given several times.
        #[arg(long, value_name = "FILE")]
        skip: Vec<String>,
    },
    /// Write the generated language of the `planted` profile.
    Language {
        /// The profile that holds the language's seed and sizes.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
        /// Directory to write to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write the model of a GGUF file as a Hugging Face directory, dequantised, with its tokenizer.
    Import(crate::import::ImportArgs),
    /// Make, apply, revert and inspect patch files: a repair as its changed tensors alone.
    Patch {
        #[command(subcommand)]
        action: crate::patch::Action,
    },
    /// Repair and measure one row of a table, as `cargo xtask reproduce` asks for it.
    Job {
        /// The job file.
        #[arg(long, value_name = "FILE")]
        job: PathBuf,
        /// Directory for `result.json`, `metrics.jsonl` and the model.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// What to do with a scorer.
#[derive(Subcommand)]
pub(crate) enum ScorerAction {
    /// Train a scorer on labelled texts.
    Train(Box<Given<ScorerTrainOptions>>),
    /// Measure a scorer on labelled texts: ranking, decisions, calibration, false positives on identity terms.
    Eval(Box<Given<ScorerEvalOptions>>),
}

/// Flags, and a file they are laid over.
#[derive(Args)]
pub(crate) struct Given<T: Options> {
    /// TOML file whose keys equal the flags; a flag given wins over the file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: T,
}

impl<T: Options> Given<T> {
    /// The settings, checked.
    pub(crate) fn settings(self) -> anyhow::Result<T> {
        let (options, place) = match self.config {
            Some(path) => (self.flags.over(from_toml(&path)?), format!("{} and the command line", path.display())),
            None => (self.flags, "the command line".to_owned()),
        };
        validate(&options, &place)?;
        Ok(options)
    }
}
