//! Reading data files record by record, with errors that name file, line and key.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::found::Found;
use crate::record::Record;
use crate::rows::{Rows, has_records};
use crate::{Error, Lines, RecordFile, Result};

/// The line that ends a document in a text file, and the text of the end-of-text token [S].
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// One repair example: a prompt with its refined and its error-inducing continuation (METHOD §2 [D]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// The text both continuations follow; may be empty.
    pub prompt: String,
    /// The refined continuation, y⁺.
    pub chosen: String,
    /// The error-inducing continuation, y⁻.
    pub rejected: String,
}

/// Which continuations of a pair are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// Chosen and rejected.
    Both,
    /// The rejected one alone, as unlearning has it (METHOD §7: NPO).
    Rejected,
    /// The chosen one alone, as training on it has it (METHOD §7: DAPT).
    Chosen,
}

impl Sides {
    /// True when the chosen one is wanted.
    pub fn chosen(self) -> bool {
        self != Self::Rejected
    }

    /// True when the rejected one is wanted.
    pub fn rejected(self) -> bool {
        self != Self::Chosen
    }
}

/// A stereotype and the same sentence with it turned round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stereotype {
    /// The stereotype.
    pub stereotype: String,
    /// The anti-stereotype.
    pub anti: String,
}

/// One last-word item, as LAMBADA has them (METHOD §10 [S]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClozeItem {
    /// All but the last word, without trailing space.
    pub context: String,
    /// A space and the last word.
    pub target: String,
}

impl ClozeItem {
    /// Splits a text before its last word; `None` when it has fewer than two words.
    pub fn split(text: &str) -> Option<Self> {
        let (context, word) = text.trim().rsplit_once(char::is_whitespace)?;
        Some(Self { context: context.trim_end().to_owned(), target: format!(" {word}") })
    }

    /// The whole text again.
    pub fn text(&self) -> String {
        format!("{}{}", self.context, self.target)
    }
}

/// Pairs, one after the other, as [`RecordFile::pairs`] reads them; message lists are refused, because no template is
/// known.
///
/// # Errors
/// Any of this crate's file and line errors, at once or as an item.
pub fn each_pair(path: &Path, sides: Sides) -> Result<impl Iterator<Item = Result<Pair>>> {
    RecordFile::plain(path).pairs(None, sides)
}

/// All of [`each_pair`].
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no pair.
pub fn read_pairs(path: &Path, sides: Sides) -> Result<Vec<Pair>> {
    Ok(RecordFile::plain(path).read_pairs(None, sides)?.items)
}

/// Texts, one after the other: `text` of the records of a file that ends in `.jsonl`, `.json`, `.csv`, `.tsv` or
/// `.parquet`, otherwise documents of plain text that end with a line [`END_OF_TEXT`]. Blank documents are left out.
///
/// # Errors
/// Any of this crate's file and line errors, at once or as an item.
pub fn each_text(path: &Path) -> Result<Box<dyn Iterator<Item = Result<String>>>> {
    if has_records(path) {
        return Ok(Box::new(each_record(path, Some(&["text"]), |record| record.string("text"))?));
    }
    let (mut lines, mut documents) = (Lines::open(path)?, Documents::default());
    Ok(Box::new(std::iter::from_fn(move || {
        for line in lines.by_ref() {
            match line.map(|(_, line)| documents.push(line)) {
                Ok(None) => {}
                Ok(Some(text)) => return Some(Ok(text)),
                Err(error) => return Some(Err(error)),
            }
        }
        documents.end().map(Ok)
    })))
}

/// All of [`each_text`].
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no text.
pub fn read_texts(path: &Path) -> Result<Vec<String>> {
    not_empty(each_text(path)?.collect::<Result<_>>()?, path, "texts")
}

/// Lines becoming documents.
#[derive(Default)]
pub(crate) struct Documents {
    open: Vec<String>,
}

impl Documents {
    /// All documents of some lines.
    pub(crate) fn of(lines: Vec<String>) -> Vec<String> {
        let mut documents = Self::default();
        let mut finished: Vec<String> = lines.into_iter().filter_map(|line| documents.push(line)).collect();
        finished.extend(documents.end());
        finished
    }

    /// Takes a line; the document it ends, if that is not blank.
    pub(crate) fn push(&mut self, line: String) -> Option<String> {
        if line.trim_end() == END_OF_TEXT {
            return self.end();
        }
        self.open.push(line);
        None
    }

    fn end(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.open).join("\n");
        let text = text.trim_matches('\n');
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
}

/// Reads prompts as [`RecordFile::read_prompts`] does; message lists are refused, because no template is known.
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no prompt.
pub fn read_prompts(path: &Path) -> Result<Vec<String>> {
    Ok(RecordFile::plain(path).read_prompts(None)?.items)
}

/// Reads last-word items from JSONL `{"text"}` (LAMBADA).
///
/// # Errors
/// Any of this crate's file and line errors, a text of fewer than two words, and `NoRecords` when there is no item.
pub fn read_cloze(path: &Path) -> Result<Vec<ClozeItem>> {
    read_records(path, "texts", Some(&["text"]), |record| {
        let text = record.string("text")?;
        ClozeItem::split(&text).ok_or_else(|| Error::BadKey {
            path: record.path.to_owned(),
            place: record.place,
            key: "text".to_owned(),
            want: "at least two words",
            found: Found::value(format!("{} words", text.split_whitespace().count())),
        })
    })
}

/// Reads minimal pairs from JSONL `{"stereotype", "anti_stereotype"}` (METHOD §15).
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no pair.
pub fn read_minimal_pairs(path: &Path) -> Result<Vec<Stereotype>> {
    read_records(path, "minimal pairs", Some(&["stereotype", "anti_stereotype"]), |record| {
        Ok(Stereotype { stereotype: record.string("stereotype")?, anti: record.string("anti_stereotype")? })
    })
}

/// All records as `parse` makes them, of which it reads `columns`, or all.
pub(crate) fn read_records<T>(
    path: &Path,
    wanted: &'static str,
    columns: Option<&[&str]>,
    parse: impl Fn(&Record) -> Result<T>,
) -> Result<Vec<T>> {
    not_empty(each_record(path, columns, parse)?.collect::<Result<_>>()?, path, wanted)
}

/// What `parse` makes of every record, of which it reads `columns`, or all.
fn each_record<T, P>(
    path: &Path,
    columns: Option<&[&str]>,
    parse: P,
) -> Result<impl Iterator<Item = Result<T>> + use<T, P>>
where
    P: Fn(&Record) -> Result<T>,
{
    let (rows, path) = (Rows::open(path, columns)?, path.to_owned());
    let unread = rows.unread().to_vec();
    Ok(rows.map(move |row| {
        let (place, value) = row?;
        parse(&Record { path: &path, place, value, columns: None, unread: &unread })
    }))
}

pub(crate) fn not_empty<T>(records: Vec<T>, path: &Path, wanted: &'static str) -> Result<Vec<T>> {
    if records.is_empty() {
        return Err(Error::NoRecords { path: path.to_owned(), wanted });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use irepair_core::Diagnose;

    use super::*;
    use crate::MAX_LINE_BYTES;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_last_word_is_what_stands_behind_the_last_white_space() {
        let split = |text: &str| ClozeItem::split(text).map(|item| (item.context, item.target)).unwrap();
        let parts = |context: &str, target: &str| (context.to_owned(), target.to_owned());
        assert_eq!(split("she hung up the drapes\n"), parts("she hung up the", " drapes"));
        assert_eq!(split("“he said” — “drapes”\n\n"), parts("“he said” —", " “drapes”"));
        assert_eq!(split("ein Wort\u{a0}größer"), parts("ein Wort", " größer"));
        assert_eq!(ClozeItem::split("one"), None);
    }

    #[test]
    fn pairs_may_carry_a_mark_carriage_returns_blank_lines_and_other_keys() {
        let text = "\u{feff}{\"prompt\":\"p\",\"chosen\":\" c\",\"rejected\":\" r\",\"id\":7}\r\n\r\n";
        let want = Pair { prompt: "p".into(), chosen: " c".into(), rejected: " r".into() };
        for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes())] {
            let (_dir, path) = file("pairs.jsonl", &bytes);
            assert_eq!(read_pairs(&path, Sides::Both).unwrap(), std::slice::from_ref(&want));
        }
    }

    #[test]
    fn a_bad_record_names_file_line_key_want_and_got() {
        let good = "{\"prompt\":\"\",\"chosen\":\"\",\"rejected\":\"\"}\n";
        for (bad, at, want, got) in [
            ("{\"prompt\":\"p\",\"chosen\":3}", ", line 2, key `chosen`", "a string", "a number"),
            (
                "{\"prompt\":\"p\",\"chosen\":\"c\"}",
                ", line 2, key `rejected`",
                "a string",
                "nothing; the keys are `prompt`, `chosen`",
            ),
            ("[1]", ", line 2, key `prompt`", "an object with this key", "a list"),
            ("\"a b\"", ", line 2, key `prompt`", "an object with this key", "a string"),
        ] {
            let (_dir, path) = file("p.jsonl", format!("{good}{bad}\n").as_bytes());
            let d = read_pairs(&path, Sides::Both).unwrap_err().diagnostic();
            assert_eq!(d.at, Some(format!("{}{at}", path.display())));
            assert_eq!(d.want_got, Some((want.into(), got.into())));
        }
        let (_dir, path) = file("p.jsonl", format!("{good}{{\"prompt\": \n").as_bytes());
        let d = read_pairs(&path, Sides::Both).unwrap_err().diagnostic();
        assert_eq!((d.what.as_str(), d.at), ("line is not JSON", Some(format!("{}, line 2", path.display()))));
    }

    #[test]
    fn impostors_are_named() {
        for (bytes, what) in [
            (&b""[..], "data file is empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "data file is a git-LFS pointer"),
            (b"\n<!DOCTYPE html><html>", "data file is a web page"),
            (b"\n \n", "file holds no pairs"),
            (b"\xff\xfe\n", "line is not UTF-8"),
        ] {
            let (_dir, path) = file("p.jsonl", bytes);
            assert_eq!(read_pairs(&path, Sides::Both).unwrap_err().to_string(), what);
        }
        let missing = read_pairs(Path::new("nowhere/p.jsonl"), Sides::Both).unwrap_err().diagnostic();
        assert_eq!(missing.at.as_deref(), Some("nowhere/p.jsonl"));
        let (_dir, path) = file("p.jsonl", &gzip(b"{\"prompt\":\"a\"}")[..20]);
        assert_eq!(read_pairs(&path, Sides::Both).unwrap_err().to_string(), "read failed");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let (_dir, path) = file("t.txt", &gzip(&vec![b'a'; MAX_LINE_BYTES + 1]));
        let error = read_texts(&path).unwrap_err();
        assert_eq!(error.to_string(), "line is longer than 16777216 bytes");
    }

    #[test]
    fn documents_are_split_at_the_separator_line() {
        let (_dir, path) = file("t.txt", b"one\n\n two\n<|endoftext|>\n\n<|endoftext|>\r\nthree");
        assert_eq!(read_texts(&path).unwrap(), ["one\n\n two", "three"]);
        let (_dir, path) = file("t.jsonl", b"{\"text\":\"one\"}\n{\"text\":\"two\"}");
        assert_eq!(read_texts(&path).unwrap(), ["one", "two"]);
    }

    #[test]
    fn prompts_are_strings_or_objects_with_text() {
        let (_dir, path) = file("p.jsonl", b"{\"prompt\":\"a\"}\n{\"prompt\":{\"text\":\"b\",\"toxicity\":null}}\n");
        assert_eq!(read_prompts(&path).unwrap(), ["a", "b"]);
        let (_dir, path) = file("p.jsonl", b"{\"prompt\":{\"txt\":\"b\"}}\n");
        let d = read_prompts(&path).unwrap_err().diagnostic();
        assert!(d.at.unwrap().ends_with("line 1, key `prompt.text`"));
    }

    #[test]
    fn cloze_splits_before_the_last_word() {
        let (_dir, path) = file("c.jsonl", b"{\"text\":\"he came  home\"}\n");
        let item = ClozeItem { context: "he came".into(), target: " home".into() };
        assert_eq!(read_cloze(&path).unwrap(), [item]);
        let (_dir, path) = file("c.jsonl", b"{\"text\":\"home\"}\n");
        let d = read_cloze(&path).unwrap_err().diagnostic();
        assert_eq!(d.want_got, Some(("at least two words".into(), "1 words".into())));
    }
}
