//! A data file cut from others: some of their records, some of their fields.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::draw::without_replacement;
use crate::read::{Documents, END_OF_TEXT, Record, is_jsonl, not_empty, read_records};
use crate::write::{write_jsonl, write_lines};
use crate::{Lines, Result, write_texts};

/// Which records, in the order it is applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Fields and the values they must have; for JSONL.
    pub only: Vec<(String, Value)>,
    /// Seed of a shuffle; none = records keep their order.
    pub shuffle: Option<u64>,
    /// Records skipped.
    pub skip: usize,
    /// Records kept at most; none = all that are left.
    pub take: Option<usize>,
    /// Names of the fields that are kept, and those they have in the source; empty = all as they are. For JSONL.
    pub fields: Vec<(String, String)>,
}

/// Writes `out` from the records of `sources`, and returns how many there are.
///
/// What a record is follows from `out`: an object of JSONL; else a document when the sources are texts that end with a
/// line [`END_OF_TEXT`]; else a line, blank ones too.
///
/// # Errors
/// Any of this crate's file and line errors; `NoRecords` when nothing is left; `BadKey` when a field is not there.
pub fn cut(sources: &[PathBuf], out: &Path, selection: &Selection) -> Result<usize> {
    if is_jsonl(out) {
        let mut records: Vec<Map<String, Value>> = Vec::new();
        for source in sources {
            // A filter that leaves nothing of one source may leave something of the next.
            let kept = read_records(source, "records", |record| keep(record, selection))?;
            records.extend(kept.into_iter().flatten());
        }
        let records = not_empty(selection.slice(records), out, "records")?;
        write_jsonl(out, &records)?;
        return Ok(records.len());
    }
    let read = |source: &PathBuf| Lines::open(source)?.map(|line| Ok(line?.1)).collect::<Result<Vec<String>>>();
    let sources: Vec<Vec<String>> = sources.iter().map(read).collect::<Result<_>>()?;
    if sources.iter().flatten().any(|line| line.trim_end() == END_OF_TEXT) {
        let documents = sources.into_iter().flat_map(Documents::of).collect();
        let texts = not_empty(selection.slice(documents), out, "documents")?;
        write_texts(out, &texts)?;
        return Ok(texts.len());
    }
    let lines = not_empty(selection.slice(sources.into_iter().flatten().collect()), out, "lines")?;
    write_lines(out, &lines)?;
    Ok(lines.len())
}

impl Selection {
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
fn keep(record: &Record<'_>, selection: &Selection) -> Result<Option<Map<String, Value>>> {
    let Some(object) = record.value.as_object() else {
        return Err(record.bad("the line", "an object", None));
    };
    if selection.only.iter().any(|(field, wanted)| object.get(field) != Some(wanted)) {
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
            let path = dir.path().join(format!("{i}.txt"));
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
    fn what_is_not_there_is_named() {
        let renamed = Selection { fields: vec![("rejected".into(), "rejected_matched".into())], ..selection() };
        let error = cut_text(&["{\"rejected\":\"x\"}\n"], "o.jsonl", &renamed).unwrap_err();
        assert!(matches!(&error, Error::BadKey { key, line: 1, .. } if key == "rejected_matched"), "{error:?}");
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
