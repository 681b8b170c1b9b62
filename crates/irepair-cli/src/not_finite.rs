//! A run whose numbers are no longer finite: the texts of its last step go to a file, which the error names.

use std::path::Path;

use irepair_core::Diagnose;
use irepair_core::fs::write_atomic;
use irepair_data::{Limits, Sides, Tokenizer, each_pair, tokenize_pairs};
use irepair_train::{Error, RepairData};
use serde::Serialize;

use crate::error::CliError;
use crate::run_dir::STATE;

/// The file in the output directory.
pub(crate) const DUMP: &str = "not-finite.json";

/// The texts of the step that a run stopped at.
#[derive(Serialize)]
struct Dump<'a> {
    what: &'a str,
    step: u64,
    /// The blocks that the step would have updated, where they are known.
    blocks: Option<String>,
    /// The file that `record` counts in.
    pairs_file: Option<&'a Path>,
    pairs: Vec<DumpedPair>,
    utility: Vec<DumpedText>,
}

#[derive(Serialize)]
struct DumpedPair {
    /// Place among the training pairs, from 0.
    index: usize,
    /// Place among the records of the file, from 1; blank lines are not counted.
    record: Option<usize>,
    prompt: Tokens,
    chosen: Tokens,
    rejected: Tokens,
}

#[derive(Serialize)]
struct DumpedText {
    /// Place among the utility texts to train on, from 0.
    index: usize,
    text: Tokens,
}

#[derive(Serialize)]
struct Tokens {
    ids: Vec<u32>,
    /// The ids decoded; none when the tokenizer refuses them.
    text: Option<String>,
}

/// Where the texts of a run come from.
pub(crate) struct Source<'a> {
    pub(crate) data: &'a RepairData,
    pub(crate) tokenizer: &'a Tokenizer,
    /// The file whose records are the pairs, where one is.
    pub(crate) file: Option<PairsFile<'a>>,
}

/// A file of pairs, and how it was read.
pub(crate) struct PairsFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) limits: Limits,
    pub(crate) sides: Sides,
}

/// Writes the texts that a run stopped at to `out` and returns an error that names the file; any other error unchanged.
pub(crate) fn explain(error: anyhow::Error, source: &Source<'_>, out: &Path) -> anyhow::Error {
    let Some(found @ Error::NotFinite { what, step, scope, drawn }) = error.downcast_ref() else { return error };
    let tokens = |ids: &[u32]| Tokens { ids: ids.to_vec(), text: source.tokenizer.decode(ids).ok() };
    let records = source.file.as_ref().map(|file| file.records(source.tokenizer)).unwrap_or_default();
    let pair = |&index: &usize| {
        let pair = source.data.pairs.get(index)?;
        Some(DumpedPair {
            index,
            record: records.get(index).copied(),
            prompt: tokens(&pair.prompt),
            chosen: tokens(&pair.chosen),
            rejected: tokens(&pair.rejected),
        })
    };
    let text = |&index: &usize| Some(DumpedText { index, text: tokens(source.data.utility.get(index)?) });
    let dump = Dump {
        what,
        step: *step,
        blocks: scope.as_ref().map(ToString::to_string),
        pairs_file: source.file.as_ref().map(|file| file.path),
        pairs: drawn.pairs.iter().filter_map(pair).collect(),
        utility: drawn.utility.iter().filter_map(text).collect(),
    };
    let (path, state) = (out.join(DUMP), out.join(STATE));
    let json = serde_json::to_string_pretty(&dump).map_err(anyhow::Error::from);
    if let Err(failed) = json.and_then(|json| Ok(write_atomic(&path, (json + "\n").as_bytes())?)) {
        tracing::warn!("the texts of step {step} cannot be written to a file: {failed:#}");
        return error;
    }
    CliError::NotFinite { found: Box::new(found.diagnostic()), dump: path, state: Some(state).filter(|s| s.exists()) }
        .into()
}

impl PairsFile<'_> {
    /// The record of the file that each pair comes from: those without a side that is read were dropped. Empty when the
    /// file cannot be read again.
    fn records(&self, tokenizer: &Tokenizer) -> Vec<usize> {
        let Ok(pairs) = each_pair(self.path, self.sides) else { return Vec::new() };
        let is_kept =
            |pair| tokenize_pairs(&[pair], tokenizer, self.limits, self.sides).is_ok_and(|(kept, _)| !kept.is_empty());
        (1..).zip(pairs).filter_map(|(record, pair)| is_kept(pair.ok()?).then_some(record)).collect()
    }
}
