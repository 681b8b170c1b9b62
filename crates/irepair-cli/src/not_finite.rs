//! A run whose numbers are no longer finite: the texts of its last step go to a file, which the error names.

use std::path::Path;

use irepair_core::{Columns, Diagnose};
use irepair_data::{Limits, RecordFile, Sides, TextKind, Tokenizer, tokenize_chats, tokenize_pairs};
use irepair_report::write_result;
use irepair_train::{Error, RepairData};
use serde_json::json;

use crate::error::CliError;
use crate::run_dir::STATE;

/// The file in the output directory.
pub(crate) const DUMP: &str = "not-finite.json";

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
    pub(crate) columns: &'a Columns,
    pub(crate) limits: Limits,
    pub(crate) sides: Sides,
}

/// Writes the texts that a run stopped at to `out` and returns an error that names the file; any other error unchanged.
pub(crate) fn explain(error: anyhow::Error, source: &Source<'_>, out: &Path) -> anyhow::Error {
    let Some(found @ Error::NotFinite { what, step, scope, sampled }) = error.downcast_ref() else { return error };
    // `text` is null when the tokenizer refuses the ids.
    let tokens = |ids: &[u32]| json!({ "ids": ids, "text": source.tokenizer.decode(ids).ok() });
    let records = source.file.as_ref().map(|file| file.records(source.tokenizer)).unwrap_or_default();
    // `index` counts the training pairs from 0, `record` the records of the file from 1, without blank lines.
    let pair = |&index: &usize| {
        let pair = source.data.pairs.get(index)?;
        let [prompt, chosen, rejected] = [&pair.prompt, &pair.chosen, &pair.rejected].map(|ids| tokens(ids));
        let record = records.get(index);
        Some(json!({ "index": index, "record": record, "prompt": prompt, "chosen": chosen, "rejected": rejected }))
    };
    let text = |&index: &usize| Some(json!({ "index": index, "text": tokens(source.data.utility.get(index)?) }));
    let dump = json!({
        "what": what,
        "step": step,
        "blocks": scope.as_ref().map(ToString::to_string),
        "pairs_file": source.file.as_ref().map(|file| file.path),
        "pairs": sampled.pairs.iter().filter_map(pair).collect::<Vec<_>>(),
        "utility": sampled.utility.iter().filter_map(text).collect::<Vec<_>>(),
    });
    let (path, state) = (out.join(DUMP), out.join(STATE));
    if let Err(failed) = write_result(&path, &dump).map_err(anyhow::Error::from) {
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
        let file = RecordFile { path: self.path, columns: self.columns };
        let Ok(pairs) = file.pairs(Some(tokenizer), self.sides) else { return Vec::new() };
        let tokenize = match pairs.kind() {
            TextKind::Plain => tokenize_pairs,
            TextKind::Chat => tokenize_chats,
        };
        let is_kept =
            |pair| tokenize(&[pair], tokenizer, self.limits, self.sides).is_ok_and(|(kept, _)| !kept.is_empty());
        (1..).zip(pairs).filter_map(|(record, pair)| is_kept(pair.ok()?).then_some(record)).collect()
    }
}
