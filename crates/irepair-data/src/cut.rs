//! A data file cut from others: some of their records, some of their fields.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use irepair_core::fs::sha256_hex;
use serde_json::{Map, Value};

use crate::draw::without_replacement;
use crate::read::{Documents, END_OF_TEXT, not_empty, read_records};
use crate::record::Record;
use crate::rows::{has_records, is_jsonl};
use crate::write::{write_jsonl, write_lines};
use crate::{Lines, Part, Place, Result, write_texts};

/// Which records, in the order it is applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Fields and the values they must have; an array stands for any of its values.
    pub only: Vec<(String, Value)>,
    /// Words of a text at most: longer ones are cut into several, of equal length.
    pub words: Option<usize>,
    /// The part kept, and the shares of validation and test texts ([`Part::of`]); none = all.
    pub part: Option<(Part, f64, f64)>,
    /// Leave out what is equal to an earlier record.
    pub distinct: bool,
    /// Seed of a shuffle; none = records keep their order.
    pub shuffle: Option<u64>,
    /// Records skipped.
    pub skip: usize,
    /// Records kept at most; none = all that are left.
    pub take: Option<usize>,
    /// Names of the fields that are kept, and those they have in the source; empty = all as they are.
    pub fields: Vec<(String, String)>,
    /// Write plain text as documents, also when it was read line by line.
    pub documents: bool,
}

/// A record: plain text has the one field [`TEXT`].
type Fields = Map<String, Value>;

/// The field of plain text, and the one that decides a record's part where there are several.
const TEXT: &str = "text";

/// Writes `out` from the records of `sources`, and returns how many there are.
///
/// A record is an object of JSONL, a row of CSV, else a document when the sources are texts that end with a line
/// [`END_OF_TEXT`], else a line. Blank lines count where lines are written, and nowhere else.
///
/// # Errors
/// Any of this crate's file and line errors; `NoRecords` when nothing is left; `BadKey` when a field is not there.
pub fn cut(sources: &[PathBuf], out: &Path, selection: &Selection) -> Result<usize> {
    let (mut records, mut lines): (Vec<Fields>, Vec<String>) = (Vec::new(), Vec::new());
    for source in sources {
        if has_records(source) || (is_jsonl(out) && !is_text(source)) {
            // A filter that leaves nothing of one source may leave something of the next.
            let kept = read_records(source, "records", None, |record| keep(record, selection))?;
            records.extend(kept.into_iter().flatten());
        } else {
            lines.extend(Lines::open(source)?.map(|line| Ok(line?.1)).collect::<Result<Vec<String>>>()?);
        }
    }
    let are_documents = lines.iter().any(|line| line.trim_end() == END_OF_TEXT);
    if are_documents {
        lines = Documents::of(lines);
    }
    let documents = are_documents || selection.documents;
    if documents || is_jsonl(out) {
        lines.retain(|line| !line.trim().is_empty());
    }
    for line in lines {
        let value = Value::from(Fields::from_iter([(TEXT.to_owned(), Value::from(line))]));
        records
            .extend(keep(&Record { path: out, place: Place::Line(0), value, columns: None, unread: &[] }, selection)?);
    }
    let records = not_empty(selection.slice(selection.parted(records)), out, "records")?;
    let texts = || records.iter().map(|record| text_of(record).unwrap_or_default());
    match (is_jsonl(out), documents) {
        (true, _) => write_jsonl(out, &records)?,
        (false, true) => write_texts(out, texts())?,
        (false, false) => write_lines(out, texts())?,
    }
    Ok(records.len())
}

fn is_text(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.ends_with(".txt")
}

/// The text of a record: its field `text`, or `prompt`, or its only one.
fn text_of(record: &Fields) -> Option<&str> {
    let only = || record.values().next().filter(|_| record.len() == 1);
    let value = record.get(TEXT).or_else(|| record.get("prompt")).or_else(only)?;
    value.as_str().or_else(|| value.get(TEXT)?.as_str())
}

impl Selection {
    /// Cuts long texts, keeps one part and drops repeated records.
    fn parted(&self, records: Vec<Fields>) -> Vec<Fields> {
        let in_part = |record: &Fields| {
            let text = text_of(record).unwrap_or_default();
            self.part.is_none_or(|(part, valid, test)| Part::of(text, valid, test) == part)
        };
        let mut seen = HashSet::new();
        let mut is_new = |record: &Fields| {
            let line = serde_json::to_string(record).unwrap_or_default();
            !self.distinct || seen.insert(sha256_hex(line.as_bytes()))
        };
        // A long text is in one part as a whole.
        let records = records.into_iter().filter(in_part).flat_map(|record| self.pieces(record));
        records.filter(|record| is_new(record)).collect()
    }

    fn pieces(&self, record: Fields) -> Vec<Fields> {
        let words: Vec<&str> = text_of(&record).unwrap_or_default().split_whitespace().collect();
        match self.words {
            Some(most) if words.len() > most => {
                let length = words.len().div_ceil(words.len().div_ceil(most));
                let piece = |words: &[&str]| Fields::from_iter([(TEXT.to_owned(), Value::from(words.join(" ")))]);
                words.chunks(length).map(piece).collect()
            }
            _ => vec![record],
        }
    }

    /// Shuffles, skips and takes.
    fn slice<T>(&self, records: Vec<T>) -> Vec<T> {
        let order = match self.shuffle {
            Some(seed) => without_replacement(seed, 0, records.len(), records.len()).unwrap_or_default(),
            None => (0..records.len()).collect(),
        };
        let mut records: Vec<Option<T>> = records.into_iter().map(Some).collect();
        let wanted = order.into_iter().skip(self.skip).take(self.take.unwrap_or(usize::MAX));
        wanted.filter_map(|i| records[i].take()).collect()
    }
}

/// The fields of a record that are kept; none when the record is not.
fn keep(record: &Record<'_>, selection: &Selection) -> Result<Option<Fields>> {
    let Some(object) = record.value.as_object() else {
        return Err(record.bad("the line", "an object", None));
    };
    let has = |field: &str, wanted: &Value| match wanted {
        Value::Array(any) => object.get(field).is_some_and(|value| any.contains(value)),
        one => object.get(field) == Some(one),
    };
    if !selection.only.iter().all(|(field, wanted)| has(field, wanted)) {
        return Ok(None);
    }
    if selection.fields.is_empty() {
        return Ok(Some(object.clone()));
    }
    let named = |(name, field): &(String, String)| match object.get(field) {
        Some(value) => Ok((name.clone(), value.clone())),
        None => Err(record.bad(field, "a value", None)),
    };
    selection.fields.iter().map(named).collect::<Result<_>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Sides, read_pairs};

    fn cut_text(sources: &[&str], out: &str, selection: &Selection) -> Result<(usize, String)> {
        let dir = tempfile::tempdir().unwrap();
        let write = |(i, text): (usize, &&str)| {
            let end = if text.starts_with('{') {
                "jsonl"
            } else if text.contains(",rank\n") {
                "csv"
            } else {
                "txt"
            };
            let path = dir.path().join(format!("{i}.{end}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let sources: Vec<PathBuf> = sources.iter().enumerate().map(write).collect();
        let out = dir.path().join(out);
        let n = cut(&sources, &out, selection)?;
        Ok((n, std::fs::read_to_string(out).unwrap()))
    }

    fn selection() -> Selection {
        Selection::default()
    }

    #[test]
    fn records_are_filtered_then_sliced_then_renamed() {
        let text = r#"{"t":1,"a":"x","b":[1]}
{"t":0,"a":"y","b":[2]}
{"t":1,"a":"z","b":[3]}
{"t":1,"a":"u","b":[4]}
"#;
        let selection = Selection {
            only: vec![("t".into(), Value::from(1))],
            skip: 1,
            take: Some(1),
            fields: vec![("name".into(), "a".into())],
            ..selection()
        };
        assert_eq!(cut_text(&[text], "o.jsonl", &selection).unwrap(), (1, "{\"name\":\"z\"}\n".to_owned()));
        let two = Selection { skip: 0, take: None, ..selection };
        assert_eq!(cut_text(&[text, text], "o.jsonl", &two).unwrap().0, 6);
    }

    #[test]
    fn parts_of_one_shuffle_share_nothing_and_lose_nothing() {
        let text: String = (0..50).map(|i| format!("{{\"i\":{i}}}\n")).collect();
        let part = |skip, take| {
            let selection = Selection { shuffle: Some(7), skip, take, ..selection() };
            cut_text(&[&text], "o.jsonl", &selection).unwrap().1
        };
        let (first, second) = (part(0, Some(20)), part(20, None));
        let mut all: Vec<&str> = first.lines().chain(second.lines()).collect();
        assert_ne!(all[..5], ["{\"i\":0}", "{\"i\":1}", "{\"i\":2}", "{\"i\":3}", "{\"i\":4}"], "shuffled");
        all.sort_unstable();
        let mut want: Vec<&str> = text.lines().collect();
        want.sort_unstable();
        assert_eq!(all, want);
    }

    #[test]
    fn plain_text_is_cut_into_documents_where_it_has_them_and_into_lines_where_not() {
        let documents = "one\nmore\n<|endoftext|>\ntwo\n<|endoftext|>\n";
        let one = Selection { take: Some(1), ..selection() };
        assert_eq!(cut_text(&[documents], "o.txt", &one).unwrap().1, "one\nmore\n<|endoftext|>\n");
        assert_eq!(cut_text(&["a\n\nb\n"], "o.txt", &Selection { take: Some(2), ..selection() }).unwrap().1, "a\n\n");
    }

    #[test]
    fn lines_become_prompts_and_rows_a_word_list() {
        let fields = |name: &str| vec![(name.to_owned(), "text".to_owned())];
        let selection = Selection { fields: fields("prompt"), distinct: true, ..selection() };
        let (n, text) = cut_text(&["a b\n\nc\n", "a b\n"], "o.jsonl", &selection).unwrap();
        assert_eq!((n, text.as_str()), (2, "{\"prompt\":\"a b\"}\n{\"prompt\":\"c\"}\n"));
        let only = vec![("rank".to_owned(), Value::from(vec!["high", "top"]))];
        let words = Selection { only, fields: fields("text"), ..Selection::default() };
        let table = "text,rank\ngrubnik,high\nzorbly,low\n\"a, b\",top\n";
        assert_eq!(cut_text(&[table], "o.txt", &words).unwrap(), (2, "grubnik\na, b\n".to_owned()));
        let uneven = cut_text(&["text,rank\ngrubnik\n"], "o.txt", &words).unwrap_err();
        assert!(matches!(uneven, Error::BadRow { line: 2, .. }), "{uneven:?}");
    }

    #[test]
    fn parts_by_hash_are_those_of_pairs_and_lose_nothing() {
        let text: String = (0..200).map(|i| format!("document {i} of many words\n")).collect();
        let part = |part| {
            let selection = Selection { part: Some((part, 0.2, 0.5)), documents: true, ..selection() };
            cut_text(&[&text], "o.txt", &selection).unwrap().1
        };
        let parts = [Part::Repair, Part::Valid, Part::Test].map(|name| (name, part(name)));
        for (name, text) in &parts {
            let documents = Documents::of(text.lines().map(str::to_owned).collect());
            assert!(documents.iter().all(|text| Part::of(text, 0.2, 0.5) == *name));
        }
        assert_eq!(parts.iter().map(|(_, text)| text.matches(END_OF_TEXT).count()).sum::<usize>(), 200);
    }

    #[test]
    fn long_texts_are_cut_into_equal_pieces_of_one_part() {
        let selection = Selection { words: Some(4), documents: true, ..selection() };
        let (n, text) = cut_text(&["1 2 3 4 5 6 7 8 9\na b\n"], "o.txt", &selection).unwrap();
        assert_eq!((n, text.replace("\n<|endoftext|>\n", "|")), (4, "1 2 3|4 5 6|7 8 9|a b|".to_owned()));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let renamed = Selection { fields: vec![("rejected".into(), "rejected_matched".into())], ..selection() };
        let error = cut_text(&["{\"rejected\":\"x\"}\n"], "o.jsonl", &renamed).unwrap_err();
        assert!(
            matches!(&error, Error::BadKey { key, place: Place::Line(1), .. } if key == "rejected_matched"),
            "{error:?}"
        );
        let none = Selection { only: vec![("t".into(), Value::from(2))], ..selection() };
        assert!(matches!(cut_text(&["{\"t\":1}\n"], "o.jsonl", &none), Err(Error::NoRecords { .. })));
    }

    #[test]
    fn pairs_that_were_cut_are_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let (source, out) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
        std::fs::write(&source, "{\"prompt\":\"\",\"chosen\":\"c\",\"rejected\":\"R\",\"matched\":\"r\"}\n").unwrap();
        let fields = [("prompt", "prompt"), ("chosen", "chosen"), ("rejected", "matched")];
        let fields = fields.map(|(name, field)| (name.to_owned(), field.to_owned())).to_vec();
        cut(&[source], &out, &Selection { fields, ..selection() }).unwrap();
        assert_eq!(read_pairs(&out, Sides::Both).unwrap()[0].rejected, "r");
    }
}
