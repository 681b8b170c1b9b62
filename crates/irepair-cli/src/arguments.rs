//! The command line: subcommands, and settings from flags over a file.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use irepair_config::{
    CheckOptions, Error, EvalOptions, FixOptions, GenerateOptions, GradeOptions, Options, PairsOptions, PlantOptions,
    PretrainOptions, Problem, RelearnOptions, RepairOptions, ScoreOptions, ScorerApplyOptions, ScorerEvalOptions,
    ScorerTrainOptions, SensitivityOptions, from_toml, number_out_of_range, resolve,
};
use irepair_core::{ExitKind, NUMBERS_VERSION};

use crate::rank::RanksArgs;

/// Repair language models: find the few transformer blocks that carry an error, change only those, prove it.
#[derive(Parser)]
#[command(name = "irepair", version = version(), max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Version of the package and of the numbers, as `cargo xtask reproduce` reads them.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (numbers {NUMBERS_VERSION})", env!("CARGO_PKG_VERSION")));
    &VERSION
}

/// The command line; a wrong one ends the program with its message.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        if error.kind() == ErrorKind::DisplayHelp {
            let help = error.render();
            let text =
                if crate::output::colours(&std::io::stdout()) { help.ansi().to_string() } else { help.to_string() };
            let shown = crate::output::print(&without_sources(&text));
            std::process::exit(shown.map_or(ExitKind::Bug as i32, |()| 0))
        }
        let Some(problem) = out_of_range(&error) else { error.exit() };
        let error = Error::Problems { place: "the command line".to_owned(), problems: vec![problem] };
        let _ = crate::diagnose::report(&error.into());
        std::process::exit(ExitKind::Usage as i32)
    })
}

/// A text without the sections of METHOD and the tags of origin that docs/CONFIG.md has, such as `(METHOD §17 [L,D])`
/// and `[O]`, on one line or broken between words.
fn without_sources(text: &str) -> String {
    let (mut kept, mut left) = (String::new(), text);
    while let Some(at) = left.find(['(', '[']) {
        let (before, from) = left.split_at(at);
        let end = if from.starts_with("(METHOD") { from.find(')') } else { tag_end(from) };
        match end {
            Some(end) => {
                kept += before.trim_end();
                left = &from[end + 1..];
            }
            None => {
                kept += before;
                kept += &from[..1];
                left = &from[1..];
            }
        }
    }
    kept + left
}

/// Where a tag of origin that begins here ends.
fn tag_end(text: &str) -> Option<usize> {
    let end = text.find(']')?;
    let mut letters = text.get(1..end)?.split(',');
    letters.all(|letter| ["D", "F", "L", "O", "S"].contains(&letter)).then_some(end)
}

/// What clap says of a number that its type cannot hold, whatever the range of the flag.
const OF_TYPES: [&str; 5] = ["invalid digit", "invalid float", " is not in ", "number too large", "number too small"];

/// The problem of a flag that was given a number it cannot hold: clap's words do not say which numbers it can.
fn out_of_range(error: &clap::Error) -> Option<Problem> {
    let said = error.to_string();
    OF_TYPES.iter().find(|words| said.contains(**words))?;
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    // `--steps <STEPS>`
    let flag = text(ContextKind::InvalidArg)?.split([' ', '=']).next()?.strip_prefix("--")?;
    number_out_of_range(&flag.replace('-', "_"), text(ContextKind::InvalidValue)?)
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Repair a model with pairs of chosen and rejected continuations.
    Repair {
        #[command(flatten)]
        given: Box<Given<RepairOptions>>,
        #[command(flatten)]
        ranks: RanksArgs,
    },
    /// From prompts that go wrong and a judge to a repaired model: pairs, search, choice, proof.
    Fix(Box<Given<FixOptions>>),
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
    /// Make preference pairs of the model's own continuations of prompts, by a judge.
    Pairs(Box<Given<PairsOptions>>),
    /// Check a model against the suite of a repair: does the error stay away?
    Check(Given<CheckOptions>),
    /// Train the error back into copies of a model, on more and more texts: how durable is its repair?
    Relearn(Box<Given<RelearnOptions>>),
    /// Plant a known fault in chosen blocks, halves, heads or neurons of a model: truth for localisers.
    Plant(Given<PlantOptions>),
    /// Grade a ranking of units against a planted fault, next to a random ranking.
    Grade(Given<GradeOptions>),
    /// Train an offline toxicity scorer, or measure one on labelled texts.
    Scorer {
        #[command(subcommand)]
        action: ScorerAction,
    },
    /// Cut the data files of a profile from its source files.
    Data {
        /// The profile, which says which records.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
        /// The data directory; may be given several times: the first one that has a file is read.
        #[arg(long, value_name = "DIR", required = true)]
        data: Vec<PathBuf>,
        /// Directory to write to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A file of the profile to leave out; may be given several times.
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
    /// Write the repair of an imported model as a GGUF file again.
    Export(crate::export::ExportArgs),
    /// Write a repair of low rank as an adapter for the Python package peft.
    Adapter(crate::adapter::AdapterArgs),
    /// Create, apply, revert and show patch files: a repair as its changed tensors alone.
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

/// An action on a scorer.
#[derive(Subcommand)]
pub(crate) enum ScorerAction {
    /// Train a scorer on labelled texts.
    Train(Box<Given<ScorerTrainOptions>>),
    /// Measure a scorer on labelled texts: ranking, decisions, calibration, false positives on identity terms.
    Eval(Box<Given<ScorerEvalOptions>>),
    /// Score texts, one JSON line per text.
    Apply(Box<Given<ScorerApplyOptions>>),
}

/// Flags, and a file whose settings they replace.
#[derive(Args)]
pub(crate) struct Given<T: Options> {
    /// TOML file whose keys are the names of the flags; a flag that is given wins over the file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: T,
}

impl<T: Options> Given<T> {
    /// The settings as given, with what `settle` adds, and their plan, checked.
    pub(crate) fn given_and_plan(self, settle: fn(T) -> T) -> anyhow::Result<(T, T::Plan)> {
        let (options, place) = match self.config {
            Some(path) => (self.flags.over(from_toml(&path)?), format!("{} and the command line", path.display())),
            None => (self.flags, "the command line".to_owned()),
        };
        let options = settle(options);
        let plan = resolve(&options, &place)?;
        Ok((options, plan))
    }

    /// The plan.
    pub(crate) fn plan(self) -> anyhow::Result<T::Plan> {
        Ok(self.given_and_plan(|options| options)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_no_section_of_the_method() {
        use clap::CommandFactory as _;
        fn check(command: &mut clap::Command) {
            let help = without_sources(&command.render_long_help().to_string());
            assert!(!help.contains('§') && !help.contains("[O]"), "{help}");
            command.get_subcommands_mut().for_each(check);
        }
        check(&mut Cli::command());
    }

    #[test]
    fn text_loses_its_sources_alone() {
        let cases = [
            ("Tokens (METHOD §17 [L,D]). Default 20.", "Tokens. Default 20."),
            ("a (METHOD\n  §9 [S], which takes 25) b (c)", "a b (c)"),
            ("- adamw: AdamW\n      [O]\n- x [possible: a] [D,L] (METHOD", "- adamw: AdamW\n- x [possible: a] (METHOD"),
            ("[X] [] [", "[X] [] ["),
        ];
        for (text, want) in cases {
            assert_eq!(without_sources(text), want);
        }
    }
}
