//! From files of text to the token data of a run.

use std::path::{Path, PathBuf};

use irepair_core::{Diagnose, Diagnostic, ExitKind};
use irepair_data::{Limits, Tokenizer, read_pairs, read_texts, split_validation, tokenize_pairs};
use irepair_model::{CausalLm, Decoding};
use irepair_train::RepairData;

use crate::progress;
use crate::weights::Opened;

/// Texts sampled for the KL term when the user gives none.
const N_SAMPLED: usize = 512;
/// New tokens per sampled text (METHOD §2: 101 [F]).
const SAMPLED_TOKENS: usize = 101;
/// Texts sampled at a time.
const SAMPLE_BATCH: usize = 32;

/// What the command line refuses that no library can.
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
            Self::OutExists { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give another --out: nothing is written over, least of all the model being repaired"),
        }
    }
}

/// Refuses a tokenizer that can give ids the model has no embedding for.
pub(crate) fn check_vocabulary(dir: &Path, model: &CausalLm, tokenizer: &Tokenizer, eos_id: u32) -> anyhow::Result<()> {
    let (n_model, n_tokenizer) = (model.config().n_vocab, tokenizer.vocab_size().max(eos_id as usize + 1));
    if n_tokenizer <= n_model {
        return Ok(());
    }
    Err(Refusal::Vocabulary { dir: dir.to_owned(), n_model, n_tokenizer }.into())
}

/// Tokens of every document of a file, each after the start token and cut to `max_tokens` (METHOD §2).
pub(crate) fn documents(path: &Path, opened: &Opened, max_tokens: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let texts = read_texts(path)?;
    let mut rows = opened.tokenizer.encode_batch(&texts)?;
    rows.retain(|row| !row.is_empty());
    for row in &mut rows {
        row.insert(0, opened.eos_id);
        row.truncate(max_tokens);
    }
    Ok(rows)
}

/// Texts sampled from the model itself: start token, nucleus 0.9, temperature 1 (METHOD §2 [F]).
pub(crate) fn sample(
    opened: &Opened,
    n: usize,
    n_new: usize,
    top_p: f64,
    temperature: f64,
    seed: u64,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let bar = progress::bar("sampling", n as u64);
    let n_new = n_new.min(opened.model.config().n_positions - 1);
    let mut texts = Vec::with_capacity(n);
    while texts.len() < n {
        let prompts = vec![vec![opened.eos_id]; SAMPLE_BATCH.min(n - texts.len())];
        let decoding =
            Decoding::Nucleus { top_p, temperature, seed: seed.wrapping_mul(1_000_003) + texts.len() as u64 };
        let rows = opened.model.generate(&prompts, n_new, decoding, Some(opened.eos_id))?;
        texts.extend(rows);
        bar.set_position(texts.len() as u64);
    }
    bar.finish_and_clear();
    Ok(texts)
}

/// Where a run's data come from.
pub(crate) struct Sources<'a> {
    pub(crate) pairs: &'a Path,
    pub(crate) general: Option<&'a Path>,
    pub(crate) limits: Limits,
    pub(crate) n_validation: usize,
    pub(crate) needs_utility: bool,
    pub(crate) seed: u64,
}

/// Reads, tokenises and splits the data of a repair; says on stderr what was cut or dropped.
pub(crate) fn repair_data(opened: &Opened, sources: &Sources<'_>) -> anyhow::Result<RepairData> {
    let pairs = read_pairs(sources.pairs)?;
    let (pairs, counts) = tokenize_pairs(&pairs, &opened.tokenizer, sources.limits)?;
    opened.model.check_length(sources.limits.max_prompt + sources.limits.max_continuation)?;
    tracing::info!(
        "{}: {} pairs, {} prompts and {} continuations cut, {} dropped as empty",
        sources.pairs.display(),
        counts.n_total,
        counts.n_truncated_prompts,
        counts.n_truncated_continuations,
        counts.n_dropped_empty
    );
    let (pairs, validation) = split_validation(pairs, sources.n_validation)?;
    let (utility, validation_utility) = if sources.needs_utility {
        let max_tokens = (SAMPLED_TOKENS + 1).min(opened.model.config().n_positions);
        let texts = match sources.general {
            Some(path) => documents(path, opened, max_tokens)?,
            None => with_start(sample(opened, N_SAMPLED, SAMPLED_TOKENS, 0.9, 1.0, sources.seed)?, opened.eos_id),
        };
        // A tenth, and no more than there are validation pairs, is held out to judge the KL term on.
        let n_held_out = (texts.len() / 10).clamp(1, sources.n_validation.max(1));
        split_validation(texts, n_held_out)?
    } else {
        (Vec::new(), Vec::new())
    };
    Ok(RepairData { pairs, validation, utility, validation_utility, pad_id: opened.eos_id })
}

fn with_start(texts: Vec<Vec<u32>>, eos_id: u32) -> Vec<Vec<u32>> {
    texts.into_iter().map(|text| std::iter::once(eos_id).chain(text).collect()).collect()
}
