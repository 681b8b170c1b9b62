//! What the command line refuses and no library can.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("tokenizer and model do not fit together")]
    Vocabulary { dir: PathBuf, n_model: usize, n_tokenizer: usize },
    #[error("a base model failed its precondition")]
    Precondition { what: String, want: String, got: String },
    #[error("{what} is not complete")]
    Missing { what: String, want: String },
    #[error("output directory is in use")]
    OutExists { path: PathBuf },
    #[error("too few {what}")]
    TooFew { what: &'static str, path: PathBuf, n_held_out: usize, n: usize },
    #[error("scorer is no word list, linear scorer or classifier directory")]
    NoScorer { path: PathBuf },
    #[error("two scorers have one name")]
    SameScorer { name: String },
    #[error("interrupted after step {n_done} of {n_steps}")]
    Interrupted { state: PathBuf, n_done: u64, n_steps: u64 },
    #[error("log does not hold every step up to the checkpoint")]
    BadLog { path: PathBuf, n_steps: u64, n_logged: usize },
    #[error("not enough memory")]
    Memory { needed: String, free: String, smallest: bool },
}

impl Diagnose for Refusal {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Vocabulary { dir, n_model, n_tokenizer } => Diagnostic::new(ExitKind::Data, self)
                .at(dir.display())
                .want_got(format!("token ids below {n_model}"), format!("a tokenizer with {n_tokenizer} tokens"))
                .help("put the tokenizer that belongs to this checkpoint into its directory"),
            Self::Precondition { what, want, got } => {
                Diagnostic::new(ExitKind::Outcome, self).at(what).want_got(want, got).help(
                    "the profile's base models must learn the language and show the error before repair means anything",
                )
            }
            Self::Missing { want, .. } => Diagnostic::new(ExitKind::Usage, self).help(format!("give {want}")),
            Self::TooFew { path, n_held_out, n, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("more than the {n_held_out} held out for validation"), n.to_string())
                .help("give more of them, or hold fewer out with --n-validation"),
            Self::Memory { needed, free, smallest } => {
                let smaller = if *smallest { "" } else { "a smaller --batch-size, " };
                let help = format!(
                    "use shorter texts (--max-prompt, --max-continuation), {smaller}--dtype bf16 or a larger --memory-budget"
                );
                let free = format!("{free} free");
                Diagnostic::new(ExitKind::Device, self).want_got(format!("about {needed}"), free).help(help)
            }
            Self::Interrupted { state, .. } => Diagnostic::new(ExitKind::Interrupted, self)
                .at(state.display())
                .help("nothing is lost: the same command goes on from there"),
            Self::BadLog { path, n_steps, n_logged } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("{n_steps} steps"), n_logged)
                .help("it was changed by somebody else: remove the output directory, and the same command starts anew"),
            Self::NoScorer { path } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .help("give a `.txt` word list, a file of `irepair scorer train`, or a Hugging Face directory with `config.json`"),
            Self::SameScorer { name } => Diagnostic::new(ExitKind::Usage, self)
                .at(name)
                .help("the same scorer was given twice: give each one once"),
            Self::OutExists { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give another --out: nothing is written over, least of all the model being repaired"),
        }
    }
}
