//! Writing data files in the formats that the readers read; a file is written whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::write_atomic_with;
use serde::Serialize;
use serde_json::{Value, json};

use crate::read::{ClozeItem, END_OF_TEXT};
use crate::record::RENDERED;
use crate::{Pair, Result, TextKind};

/// Writes `items`, each with `put`.
fn write_each<T>(
    path: &Path,
    items: impl IntoIterator<Item = T>,
    put: impl Fn(&mut dyn Write, T) -> std::io::Result<()>,
) -> Result<()> {
    Ok(write_atomic_with(path, |file| {
        let mut out = BufWriter::new(file);
        items.into_iter().try_for_each(|item| put(&mut out, item))?;
        out.flush()
    })?)
}

/// Writes one JSON object a line; [`crate::Pair`] is such a record.
///
/// # Errors
/// `File` with the path and the step that failed; the file is then as it was before.
pub fn write_jsonl<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    write_each(path, records, |out, record| {
        serde_json::to_writer(&mut *out, &record)?;
        out.write_all(b"\n")
    })
}

/// Writes documents as plain text, each followed by a line [`END_OF_TEXT`].
///
/// # Errors
/// `File` as for [`write_jsonl`], also when a document itself holds such a line.
pub fn write_texts<S: AsRef<str>>(path: &Path, texts: impl IntoIterator<Item = S>) -> Result<()> {
    write_each(path, texts, |out, text| {
        let text = text.as_ref();
        if text.lines().any(|line| line.trim_end() == END_OF_TEXT) {
            return Err(std::io::Error::other(format!("a document holds a line `{END_OF_TEXT}`")));
        }
        writeln!(out, "{text}\n{END_OF_TEXT}")
    })
}

/// Writes lines of plain text, each with a line end.
pub(crate) fn write_lines<S: AsRef<str>>(path: &Path, lines: impl IntoIterator<Item = S>) -> Result<()> {
    write_each(path, lines, |out, line| writeln!(out, "{}", line.as_ref()))
}

/// Writes prompts as JSONL `{"prompt"}`.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_prompts<S: AsRef<str>>(path: &Path, prompts: impl IntoIterator<Item = S>) -> Result<()> {
    write_prompts_of(path, prompts, TextKind::Plain)
}

/// [`write_prompts`] of texts of a kind: records of rendered ones say so, and are read back as such.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_prompts_of<S: AsRef<str>>(
    path: &Path,
    prompts: impl IntoIterator<Item = S>,
    kind: TextKind,
) -> Result<()> {
    write_jsonl(path, prompts.into_iter().map(|prompt| marked(json!({"prompt": prompt.as_ref()}), kind)))
}

/// Writes pairs of a kind as JSONL: records of rendered ones say so, and are read back as such.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_pairs_of(path: &Path, pairs: &[Pair], kind: TextKind) -> Result<()> {
    match kind {
        TextKind::Plain => write_jsonl(path, pairs),
        TextKind::Chat => {
            let record = |Pair { prompt, chosen, rejected }: &Pair| {
                marked(json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}), kind)
            };
            write_jsonl(path, pairs.iter().map(record))
        }
    }
}

/// A record with the mark of its kind.
fn marked(mut record: Value, kind: TextKind) -> Value {
    if kind == TextKind::Chat {
        record[RENDERED] = true.into();
    }
    record
}

/// Writes last-word items as JSONL `{"text"}`.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_cloze<'a>(path: &Path, items: impl IntoIterator<Item = &'a ClozeItem>) -> Result<()> {
    write_jsonl(path, items.into_iter().map(|item| json!({"text": item.text()})))
}
