//! Errors of the command line itself; those of the libraries stand in the libraries.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("tokenizer and model do not fit together")]
    Vocabulary { dir: PathBuf, n_model: usize, n_tokenizer: usize },
    #[error("end token is outside the model's vocabulary")]
    EndToken { dir: PathBuf, id: u32, n_model: usize },
    #[error("{what} is not complete")]
    Missing { what: String, want: String },
    #[error("output is there already")]
    OutExists { path: PathBuf },
    #[error("output directory is not empty")]
    OutNotEmpty { path: PathBuf, found: String },
    #[error("negative log-likelihood is not finite")]
    NoNumber { path: PathBuf, index: usize },
    #[error("patch file is inside the output directory")]
    PatchInside { path: PathBuf },
    #[error("too few {what}")]
    TooFew { what: &'static str, path: PathBuf, n_held_out: usize, n: usize },
    #[error("scorer is not a word list, a linear scorer or a classifier directory")]
    NoScorer { path: PathBuf },
    #[error("two scorers have one name")]
    SameScorer { name: String },
    #[error("interrupted after step {n_done} of {n_steps}")]
    Interrupted { state: PathBuf, n_done: u64, n_steps: u64 },
    #[error("{}", .found.what)]
    NotFinite { found: Box<Diagnostic>, dump: PathBuf, state: Option<PathBuf> },
    #[error("log does not hold every step up to the checkpoint")]
    BadLog { path: PathBuf, n_steps: u64, n_logged: usize },
    #[error("weights are not finite")]
    BadWeights { dir: PathBuf, tensor: String, n: i64 },
    #[error("not enough memory")]
    Memory { needed: String, free: String, instead: String },
}

impl Diagnose for CliError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Vocabulary { dir, n_model, n_tokenizer } => Diagnostic::new(ExitKind::Data, self)
                .at(dir.display())
                .want_got(format!("token ids below {n_model}"), format!("a tokenizer with {n_tokenizer} tokens"))
                .help("put the tokenizer of this checkpoint into its directory"),
            Self::EndToken { dir, id, n_model } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("{}, key `eos_token_id`", dir.display()))
                .want_got(format!("an id below {n_model}"), id)
                .help("correct it in generation_config.json or, without that file, in config.json"),
            Self::BadWeights { dir, tensor, n } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("{}: {tensor}", dir.display()))
                .want_got("finite numbers", format!("{n} NaN or infinite"))
                .help("the checkpoint is damaged, or its training diverged: use an earlier one"),
            Self::Missing { want, .. } => Diagnostic::new(ExitKind::Usage, self).help(format!("give {want}")),
            Self::TooFew { path, n_held_out, n, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("more than the {n_held_out} held out for validation"), n.to_string())
                .help("give more of them, or hold out fewer with --n-validation"),
            Self::Memory { needed, free, instead } => Diagnostic::new(ExitKind::Device, self)
                .want_got(format!("about {needed}"), format!("{free} free"))
                .help(format!("use {instead}")),
            Self::Interrupted { state, .. } => Diagnostic::new(ExitKind::Interrupted, self)
                .at(state.display())
                .help("nothing is lost: run the same command again to continue from this state"),
            Self::NotFinite { found, dump, state } => {
                let kept = state.as_ref().map_or(String::new(), |s| format!("; {} is the last good state", s.display()));
                (**found).clone().help(format!(
                    "read the texts of that step in {}, then run again with a lower --lr and another --out{kept}",
                    dump.display()
                ))
            }
            Self::BadLog { path, n_steps, n_logged } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("{n_steps} steps"), n_logged)
                .help("the log was changed after the run was stopped: remove the output directory, then run the same command again to start from the first step"),
            Self::NoNumber { path, index } => Diagnostic::new(ExitKind::Outcome, self)
                .at(format!("{}, text {index}", path.display()))
                .help("the weights are so large that numbers overflow: their training diverged, or the file is damaged"),
            Self::PatchInside { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give --patch a file outside the --out directory"),
            Self::NoScorer { path } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .help("give a `.txt` word list, a file of `irepair scorer train`, or a Hugging Face directory with `config.json`"),
            Self::SameScorer { name } => Diagnostic::new(ExitKind::Usage, self)
                .at(name)
                .help("give each scorer once"),
            Self::OutNotEmpty { path, found } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.join(found).display())
                .want_got("a new or empty directory, or that of this run when it was stopped", "a file of something else")
                .help("give another --out: existing files are never overwritten"),
            Self::OutExists { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give another --out: existing files are never overwritten"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let drawn = irepair_train::SampledIndices { pairs: vec![9, 2], utility: vec![] };
        let error =
            irepair_train::Error::NotFinite { what: "the loss is not finite".into(), step: 7, scope: None, drawn };
        let found = || Box::new(error.diagnostic());
        insta::assert_snapshot!(irepair_core::every_diagnostic!(CliError {
            Vocabulary: [CliError::Vocabulary { dir: "gpt2".into(), n_model: 300, n_tokenizer: 301 }],
            EndToken: [CliError::EndToken { dir: "gpt2".into(), id: 50256, n_model: 512 }],
            Missing: [CliError::Missing { what: "the profile".into(), want: "a [language] table".into() }],
            OutExists: [CliError::OutExists { path: "repaired".into() }],
            OutNotEmpty: [CliError::OutNotEmpty { path: "repaired".into(), found: "metrics.jsonl".into() }],
            NoNumber: [CliError::NoNumber { path: "texts.jsonl".into(), index: 3 }],
            PatchInside: [CliError::PatchInside { path: "repaired/fix.patch".into() }],
            TooFew: [CliError::TooFew { what: "pairs", path: "pairs.jsonl".into(), n_held_out: 64, n: 64 }],
            NoScorer: [CliError::NoScorer { path: "scorer.bin".into() }],
            SameScorer: [CliError::SameScorer { name: "words".into() }],
            Interrupted: [CliError::Interrupted { state: "out/state".into(), n_done: 3, n_steps: 400 }],
            BadLog: [CliError::BadLog { path: "out/metrics.jsonl".into(), n_steps: 8, n_logged: 6 }],
            NotFinite: [
                CliError::NotFinite {
                    found: found(),
                    dump: "out/not-finite.json".into(),
                    state: Some("out/state".into())
                },
                CliError::NotFinite { found: found(), dump: "out/not-finite.json".into(), state: None },
            ],
            Memory: [CliError::Memory {
                needed: "2.00 GiB".into(),
                free: "1.00 GiB".into(),
                instead: "shorter texts".into()
            },],
            BadWeights: [CliError::BadWeights { dir: "gpt2".into(), tensor: "h.3.ln_1.weight".into(), n: 2 }],
        }));
    }
}
