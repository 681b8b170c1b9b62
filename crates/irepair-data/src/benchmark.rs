//! Records of public benchmarks: minimal pairs, multiple choice, true continuations, running text.

use std::path::Path;

use serde_json::Value;

use crate::found::Found;
use crate::read::{Documents, not_empty, read_records};
use crate::rows::has_records;
use crate::wikitext::is_space;
use crate::{END_OF_TEXT, Error, Lines, Result, read_texts, wikitext_pages};

/// Two sentences of which the first is the acceptable one (METHOD §10: BLiMP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptability {
    /// The acceptable sentence.
    pub good: String,
    /// The same with one thing wrong.
    pub bad: String,
}

/// A beginning and its endings (METHOD §10: HellaSwag).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipleEndings {
    /// The beginning, without trailing space.
    pub context: String,
    /// The endings, each with the space before it.
    pub endings: Vec<String>,
    /// Index of the right one.
    pub label: usize,
}

/// A prompt and how its text continued (METHOD §10: token F1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrueContinuation {
    /// The prompt.
    pub prompt: String,
    /// What followed.
    pub continuation: String,
}

/// Text whose perplexity is measured as one text (METHOD §10: WIKI).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunningText {
    /// Documents of a text file that marks their ends with [`END_OF_TEXT`].
    Documents(Vec<String>),
    /// Rows of a raw text file, or of a JSONL file as the WikiText of the Hub has them: a line with its line end; empty
    /// where the line is blank.
    Rows(Vec<String>),
}

impl RunningText {
    /// The parts that are joined by a blank line.
    pub fn parts(&self) -> &[String] {
        match self {
            Self::Documents(parts) | Self::Rows(parts) => parts,
        }
    }

    /// The pages ([`wikitext_pages`]) of rows; none of documents.
    pub fn pages(&self) -> Vec<String> {
        let Self::Rows(rows) = self else { return Vec::new() };
        let mut lines: Vec<&str> = rows.iter().map(|row| row.strip_suffix('\n').unwrap_or(row)).collect();
        // The harness splits at line ends: after the last one comes an empty line.
        if rows.last().is_some_and(|row| row.is_empty() || row.ends_with('\n')) {
            lines.push("");
        }
        wikitext_pages(&lines)
    }
}

/// Reads minimal pairs from JSONL `{"sentence_good", "sentence_bad"}` (BLiMP).
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no pair.
pub fn read_acceptability(path: &Path) -> Result<Vec<Acceptability>> {
    read_records(path, "minimal pairs", Some(&["sentence_good", "sentence_bad"]), |record| {
        Ok(Acceptability { good: record.string("sentence_good")?, bad: record.string("sentence_bad")? })
    })
}

/// Keys of a question.
const QUESTION: [&str; 6] = ["ctx", "endings", "label", "activity_label", "ctx_a", "ctx_b"];

/// Reads questions from JSONL `{"ctx", "endings", "label"}` (HellaSwag), the label a number or a string that is one.
///
/// Texts are cleaned as the evaluation harness does: `[title]` becomes a full stop, other brackets go. Where a record
/// also has `activity_label`, `ctx_a` and `ctx_b`, the beginning is made of those, as there. Space at the end of a
/// beginning goes to the start of the endings.
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no question.
pub fn read_multiple_endings(path: &Path) -> Result<Vec<MultipleEndings>> {
    read_records(path, "questions", Some(&QUESTION), |record| {
        let text = |key: &str| record.value.get(key).and_then(Value::as_str);
        let beginning = match (text("activity_label"), text("ctx_a"), text("ctx_b")) {
            (Some(activity), Some(a), Some(b)) => cleaned(&format!("{activity}: {a} {}", capitalized(b))),
            _ => cleaned(&record.string("ctx")?),
        };
        let context = beginning.trim_end_matches(is_space);
        let space = &beginning[context.len()..];
        let given = record.value.get("endings");
        let endings: Option<Vec<String>> = given
            .and_then(Value::as_array)
            .and_then(|endings| endings.iter().map(|e| Some(format!("{space} {}", cleaned(e.as_str()?)))).collect());
        let endings = endings.ok_or_else(|| record.bad("endings", "a list of strings", given))?;
        let given = record.value.get("label");
        let label = match given {
            Some(Value::String(label)) => label.parse().ok(),
            Some(Value::Number(label)) => label.as_u64().and_then(|label| usize::try_from(label).ok()),
            _ => None,
        };
        let label =
            label.ok_or_else(|| record.bad("label", "the index of an ending, as a number or a string", given))?;
        if label >= endings.len() {
            let (path, key, want) = (record.path.to_owned(), "label".to_owned(), "the index of an ending, from 0");
            let found = Found::value(format!("{label}, of {} endings", endings.len()));
            return Err(Error::BadKey { path, place: record.place, key, want, found });
        }
        Ok(MultipleEndings { context: context.to_owned(), endings, label })
    })
}

/// Reads prompts with their true continuations from JSONL `{"prompt", "continuation"}`, each a string or an object with
/// `text` (RealToxicityPrompts).
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no prompt.
pub fn read_continuations(path: &Path) -> Result<Vec<TrueContinuation>> {
    read_records(path, "prompts with continuations", Some(&["prompt", "continuation"]), |record| {
        Ok(TrueContinuation {
            prompt: record.text("prompt", "prompt.text")?,
            continuation: record.text("continuation", "continuation.text")?,
        })
    })
}

/// Reads text for perplexity: JSONL `{"text"}` gives its texts as rows; a plain file with [`END_OF_TEXT`] lines gives
/// documents, one without gives rows: every line with its line end, blank lines as nothing.
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no text.
pub fn read_running_text(path: &Path) -> Result<RunningText> {
    if has_records(path) {
        return Ok(RunningText::Rows(read_texts(path)?));
    }
    let mut source = Lines::open(path)?;
    let mut lines = Vec::new();
    for line in source.by_ref() {
        lines.push(line?.1);
    }
    if lines.iter().any(|line| line.trim_end() == END_OF_TEXT) {
        return Ok(RunningText::Documents(not_empty(Documents::of(lines), path, "texts")?));
    }
    if lines.iter().all(|line| is_blank(line)) {
        lines.clear();
    }
    let n = lines.len();
    let ended = source.last_line_ended();
    let row = |(i, line): (usize, String)| match line {
        line if is_blank(&line) => String::new(),
        line if i + 1 == n && !ended => line,
        line => line + "\n",
    };
    let rows = lines.into_iter().enumerate().map(row).collect();
    Ok(RunningText::Rows(not_empty(rows, path, "texts")?))
}

fn is_blank(line: &str) -> bool {
    line.chars().all(is_space)
}

/// HellaSwag's text without the marks of its WikiHow part.
fn cleaned(text: &str) -> String {
    let text = text.trim_matches(is_space).replace(" [title]", ". ");
    let mut out = String::with_capacity(text.len());
    let mut rest = &text[..];
    while let Some((before, after)) = rest.split_once('[') {
        out += before;
        // A bracket closes on its own line or not at all.
        rest = match after.split_once(']') {
            Some((inside, after)) if !inside.contains('\n') => after,
            _ => {
                out.push('[');
                after
            }
        };
    }
    (out + rest).replace("  ", " ")
}

/// The first letter large, all others small.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &letters.as_str().to_lowercase()
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    fn file(name: &str, content: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn a_raw_file_is_rows_and_a_marked_one_documents() {
        let rows = |content: &str| {
            let (_dir, path) = file("t.txt", content);
            read_running_text(&path).map(|text| text.parts().to_vec())
        };
        assert_eq!(rows(" \n = T = \r\n\n text").unwrap(), ["", " = T = \n", "", " text"]);
        assert_eq!(rows("a\n").unwrap(), ["a\n"]);
        assert_eq!(rows("one\n\n two\n<|endoftext|>\nthree").unwrap(), ["one\n\n two", "three"]);
        assert!(rows(" \n\n").is_err() && rows("<|endoftext|>\n").is_err() && rows("").is_err());
        let (_dir, path) = file("t.jsonl", "{\"text\":\"\"}\n{\"text\":\" = T = \\n\"}\n{\"text\":\"x\\n\"}\n");
        let text = read_running_text(&path).unwrap();
        assert_eq!(text.parts(), ["", " = T = \n", "x\n"]);
        assert_eq!(text.pages(), [" = T = \nx\n"]);
        assert!(RunningText::Documents(vec![" = T = ".into()]).pages().is_empty());
    }

    #[test]
    fn questions_are_cleaned_and_labels_may_be_strings() {
        let (_dir, path) = file(
            "q.jsonl",
            "{\"ctx\":\" How to mill [title] Take corn [step] \",\"endings\":[\"a  b\",\"[x] c\"],\"label\":\"1\"}\n\
             {\"ctx\":\"-\",\"activity_label\":\"Milling\",\"ctx_a\":\"A man\",\"ctx_b\":\"he Mills\",\"endings\":[\"d\"],\"label\":0}\n",
        );
        let found = read_multiple_endings(&path).unwrap();
        assert_eq!(found[0].context, "How to mill. Take corn");
        assert_eq!((&found[0].endings[..], found[0].label), (&["  a b".to_owned(), "   c".to_owned()][..], 1));
        assert_eq!(found[1].context, "Milling: A man He mills");
        assert_eq!(cleaned("a [b\nc] [d] [e"), "a [b\nc] [e");
    }

    #[test]
    fn wrong_records_are_named_by_line_and_key() {
        let error = |content: &str| {
            let (_dir, path) = file("q.jsonl", content);
            read_multiple_endings(&path).unwrap_err().to_string()
        };
        assert_eq!(error("{\"ctx\":\"a\",\"endings\":[1],\"label\":0}"), "record has a wrong `endings`");
        assert_eq!(error("{\"ctx\":\"a\",\"endings\":[\"b\"],\"label\":-1}"), "record has a wrong `label`");
        assert_eq!(error("{\"ctx\":\"a\",\"endings\":[\"b\"],\"label\":\"\"}"), "record has a wrong `label`");
        assert_eq!(error("{\"endings\":[\"b\"],\"label\":0}"), "record has a wrong `ctx`");
        let good = "{\"ctx\":\"a\",\"endings\":[\"b\",\"c\"],\"label\":1}\n";
        let (_dir, path) = file("q.jsonl", &format!("{good}{}", good.replace(":1}", ":\"7\"}")));
        let said = read_multiple_endings(&path).unwrap_err().diagnostic().to_string();
        assert!(said.contains("q.jsonl, line 2, key `label`") && said.contains("got: 7, of 2 endings"), "{said}");
        let (_dir, path) = file("f.jsonl", "{\"prompt\":\"a\",\"continuation\":{\"texts\":1}}");
        assert_eq!(read_continuations(&path).unwrap_err().to_string(), "record has a wrong `continuation.text`");
        let (_dir, path) = file("b.jsonl", "{\"sentence_good\":\"a\"}");
        assert_eq!(read_acceptability(&path).unwrap_err().to_string(), "record has a wrong `sentence_bad`");
    }

    #[test]
    fn continuations_are_strings_or_objects() {
        let (_dir, path) = file("f.jsonl", "{\"prompt\":\"a\",\"continuation\":{\"text\":\" b\"}}");
        let want = TrueContinuation { prompt: "a".into(), continuation: " b".into() };
        assert_eq!(read_continuations(&path).unwrap(), [want]);
    }
}
