//! Writing data files in the formats the readers read, whole or not at all.

use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::write_atomic_with;
use serde::Serialize;

use crate::Result;
use crate::read::{ClozeItem, END_OF_TEXT};

/// Writes one JSON object a line; [`crate::Pair`] is such a record.
///
/// # Errors
/// `File` with the path and the step that failed; the file is then as it was before.
pub fn write_jsonl<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    Ok(write_atomic_with(path, |file| {
        let mut out = BufWriter::new(file);
        for record in records {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    })?)
}

/// Writes documents as plain text, each followed by a line [`END_OF_TEXT`].
///
/// # Errors
/// `File` as for [`write_jsonl`], also when a document itself holds such a line.
pub fn write_texts<S: AsRef<str>>(path: &Path, texts: impl IntoIterator<Item = S>) -> Result<()> {
    Ok(write_atomic_with(path, |file| {
        let mut out = BufWriter::new(file);
        for text in texts {
            let text = text.as_ref();
            if text.lines().any(|line| line.trim_end() == END_OF_TEXT) {
                return Err(std::io::Error::other(format!("a document holds a line `{END_OF_TEXT}`")));
            }
            writeln!(out, "{text}\n{END_OF_TEXT}")?;
        }
        out.flush()
    })?)
}

/// Writes lines of plain text, each with a line end.
pub(crate) fn write_lines<S: AsRef<str>>(path: &Path, lines: impl IntoIterator<Item = S>) -> Result<()> {
    Ok(write_atomic_with(path, |file| {
        let mut out = BufWriter::new(file);
        for line in lines {
            writeln!(out, "{}", line.as_ref())?;
        }
        out.flush()
    })?)
}

/// Writes prompts as JSONL `{"prompt"}`.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_prompts<S: AsRef<str>>(path: &Path, prompts: impl IntoIterator<Item = S>) -> Result<()> {
    #[derive(Serialize)]
    struct Prompt<S: AsRef<str>> {
        #[serde(serialize_with = "as_str")]
        prompt: S,
    }
    write_jsonl(path, prompts.into_iter().map(|prompt| Prompt { prompt }))
}

/// Writes last-word items as JSONL `{"text"}`.
///
/// # Errors
/// As for [`write_jsonl`].
pub fn write_cloze<'a>(path: &Path, items: impl IntoIterator<Item = &'a ClozeItem>) -> Result<()> {
    #[derive(Serialize)]
    struct Text {
        text: String,
    }
    write_jsonl(path, items.into_iter().map(|item| Text { text: item.text() }))
}

fn as_str<S: AsRef<str>, Z: serde::Serializer>(text: &S, serializer: Z) -> std::result::Result<Z::Ok, Z::Error> {
    serializer.serialize_str(text.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pair, Sides, read_cloze, read_pairs, read_prompts, read_texts};

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/file");
        let pairs = vec![Pair { prompt: "a\n".into(), chosen: " \"b\"".into(), rejected: String::new() }];
        write_jsonl(&path, &pairs).unwrap();
        assert_eq!(read_pairs(&path, Sides::Both).unwrap(), pairs);
        write_texts(&path, ["one\n\ntwo", "three"]).unwrap();
        assert_eq!(read_texts(&path).unwrap(), ["one\n\ntwo", "three"]);
        write_prompts(&path, ["p"]).unwrap();
        assert_eq!(read_prompts(&path).unwrap(), ["p"]);
        let items = [ClozeItem::split("he came home").unwrap()];
        write_cloze(&path, &items).unwrap();
        assert_eq!(read_cloze(&path).unwrap(), items);
    }

    #[test]
    fn a_document_with_a_separator_inside_is_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.txt");
        assert!(write_texts(&path, ["fine", "a\n<|endoftext|>\nb"]).is_err());
        assert!(!path.exists());
    }
}
