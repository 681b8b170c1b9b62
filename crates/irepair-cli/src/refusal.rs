//! What the command line refuses and no library can.

use std::path::{Path, PathBuf};

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("tokenizer and model do not fit together")]
    Vocabulary { dir: PathBuf, n_model: usize, n_tokenizer: usize },
    #[error("{what} is not complete")]
    Missing { what: String, want: String },
    #[error("output is there already")]
    OutExists { path: PathBuf },
    #[error("negative log-likelihood is not finite")]
    NoNumber { path: PathBuf, index: usize },
    #[error("patch would lie inside the output")]
    PatchInside { path: PathBuf },
    #[error("too few {what}")]
    TooFew { what: &'static str, path: PathBuf, n_held_out: usize, n: usize },
    #[error("scorer is no word list, linear scorer or classifier directory")]
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

/// Refuses an output that is one of the inputs, or a file inside one.
pub(crate) fn spare_inputs(out: Option<&Path>, inputs: &[Option<&PathBuf>]) -> Result<(), Refusal> {
    let Some((out, found)) = out.and_then(|out| Some((out, out.canonicalize().ok()?))) else { return Ok(()) };
    let is_input = |input: &&PathBuf| input.canonicalize().is_ok_and(|input| found.starts_with(input));
    match inputs.iter().copied().flatten().find(is_input) {
        Some(_) => Err(Refusal::OutExists { path: out.to_owned() }),
        None => Ok(()),
    }
}

/// Refuses an output directory that holds a model or parts of one; what a killed run left there is finished.
pub(crate) fn refuse_finished(out: &Path) -> Result<(), Refusal> {
    let of_a_model = |name: &str| {
        let named = ["config.json", "vocab.json", "merges.txt"].contains(&name) || name.starts_with("tokenizer");
        named || (!name.starts_with('.') && name.contains(".safetensors"))
    };
    let mut found = std::fs::read_dir(out).into_iter().flatten().flatten();
    if !irepair_core::is_unfinished(out) && found.any(|entry| of_a_model(&entry.file_name().to_string_lossy())) {
        return Err(Refusal::OutExists { path: out.to_owned() });
    }
    Ok(())
}

impl Diagnose for Refusal {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Vocabulary { dir, n_model, n_tokenizer } => Diagnostic::new(ExitKind::Data, self)
                .at(dir.display())
                .want_got(format!("token ids below {n_model}"), format!("a tokenizer with {n_tokenizer} tokens"))
                .help("put the tokenizer that belongs to this checkpoint into its directory"),
            Self::BadWeights { dir, tensor, n } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("{}: {tensor}", dir.display()))
                .want_got("finite numbers", format!("{n} NaN or infinite"))
                .help("the checkpoint is damaged, or its training diverged: take an earlier one"),
            Self::Missing { want, .. } => Diagnostic::new(ExitKind::Usage, self).help(format!("give {want}")),
            Self::TooFew { path, n_held_out, n, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("more than the {n_held_out} held out for validation"), n.to_string())
                .help("give more of them, or hold fewer out with --n-validation"),
            Self::Memory { needed, free, instead } => Diagnostic::new(ExitKind::Device, self)
                .want_got(format!("about {needed}"), format!("{free} free"))
                .help(format!("use {instead}")),
            Self::Interrupted { state, .. } => Diagnostic::new(ExitKind::Interrupted, self)
                .at(state.display())
                .help("nothing is lost: the same command goes on from there"),
            Self::NotFinite { found, dump, state } => {
                let kept = state.as_ref().map_or(String::new(), |s| format!("; {} is the last good state", s.display()));
                (**found).clone().help(format!(
                    "look at the texts of that step in {}, then run again with a lower --lr and another --out{kept}",
                    dump.display()
                ))
            }
            Self::BadLog { path, n_steps, n_logged } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("{n_steps} steps"), n_logged)
                .help("it was changed by somebody else: remove the output directory, and the same command starts anew"),
            Self::NoNumber { path, index } => Diagnostic::new(ExitKind::Outcome, self)
                .at(format!("{}, text {index}", path.display()))
                .help("weights of this size overflow: the training that made them diverged, or the file is damaged"),
            Self::PatchInside { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give --patch a file beside the --out directory"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let drawn = irepair_train::SampledIndices { pairs: vec![9, 2], utility: vec![] };
        let error =
            irepair_train::Error::NotFinite { what: "the loss is not finite".into(), step: 7, scope: None, drawn };
        let found = || Box::new(error.diagnostic());
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Refusal {
            Vocabulary: [Refusal::Vocabulary { dir: "gpt2".into(), n_model: 300, n_tokenizer: 301 }],
            Missing: [Refusal::Missing { what: "the profile".into(), want: "a [language] table".into() }],
            OutExists: [Refusal::OutExists { path: "repaired".into() }],
            NoNumber: [Refusal::NoNumber { path: "texts.jsonl".into(), index: 3 }],
            PatchInside: [Refusal::PatchInside { path: "repaired/fix.patch".into() }],
            TooFew: [Refusal::TooFew { what: "pairs", path: "pairs.jsonl".into(), n_held_out: 64, n: 64 }],
            NoScorer: [Refusal::NoScorer { path: "scorer.bin".into() }],
            SameScorer: [Refusal::SameScorer { name: "words".into() }],
            Interrupted: [Refusal::Interrupted { state: "out/state".into(), n_done: 3, n_steps: 400 }],
            BadLog: [Refusal::BadLog { path: "out/metrics.jsonl".into(), n_steps: 8, n_logged: 6 }],
            NotFinite: [
                Refusal::NotFinite {
                    found: found(),
                    dump: "out/not-finite.json".into(),
                    state: Some("out/state".into())
                },
                Refusal::NotFinite { found: found(), dump: "out/not-finite.json".into(), state: None },
            ],
            Memory: [Refusal::Memory {
                needed: "2.00 GiB".into(),
                free: "1.00 GiB".into(),
                instead: "shorter texts".into()
            },],
            BadWeights: [Refusal::BadWeights { dir: "gpt2".into(), tensor: "h.3.ln_1.weight".into(), n: 2 }],
        }));
    }
}
