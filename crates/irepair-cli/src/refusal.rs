//! What the command line refuses and no library can.

use std::path::{Path, PathBuf};

use irepair_core::{Diagnose, Diagnostic, DirLock, ExitKind, is_temporary, is_unfinished, mark_unfinished};

use crate::steps::STATE;

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
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

/// Refuses an output directory that holds anything, unless a run began to fill it and has not finished.
pub(crate) fn refuse_foreign(out: &Path) -> Result<(), Refusal> {
    if is_unfinished(out) || out.join(STATE).exists() {
        return Ok(());
    }
    let names = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.file_name());
    // A file that a killed process was writing does not count.
    match names.map(|name| name.to_string_lossy().into_owned()).filter(|name| !is_temporary(name)).min() {
        Some(found) => Err(Refusal::OutNotEmpty { path: out.to_owned(), found }),
        None => Ok(()),
    }
}

/// Takes an output directory for this run: held against other processes, not another's, and marked until it is whole.
pub(crate) fn claim(out: &Path) -> anyhow::Result<DirLock> {
    let held = DirLock::take(out)?;
    // Looked at under the lock: another process may have filled the directory just before.
    refuse_foreign(out)?;
    mark_unfinished(out)?;
    Ok(held)
}

impl Diagnose for Refusal {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Vocabulary { dir, n_model, n_tokenizer } => Diagnostic::new(ExitKind::Data, self)
                .at(dir.display())
                .want_got(format!("token ids below {n_model}"), format!("a tokenizer with {n_tokenizer} tokens"))
                .help("put the tokenizer that belongs to this checkpoint into its directory"),
            Self::EndToken { dir, id, n_model } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("{}, key `eos_token_id`", dir.display()))
                .want_got(format!("an id below {n_model}"), id)
                .help("correct it in generation_config.json or, without that file, in config.json"),
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
            Self::OutNotEmpty { path, found } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.join(found).display())
                .want_got("a new or empty directory, or one that this run began to fill", "a file that it did not write")
                .help("give another --out: nothing is written over"),
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
            EndToken: [Refusal::EndToken { dir: "gpt2".into(), id: 50256, n_model: 512 }],
            Missing: [Refusal::Missing { what: "the profile".into(), want: "a [language] table".into() }],
            OutExists: [Refusal::OutExists { path: "repaired".into() }],
            OutNotEmpty: [Refusal::OutNotEmpty { path: "repaired".into(), found: "metrics.jsonl".into() }],
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
