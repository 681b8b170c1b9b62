//! Records of a file, one after the other, whatever its format: JSONL, a JSON list, CSV, Parquet.

mod columnar;
pub(crate) mod json;
mod list;
mod table;

use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use irepair_core::shards::parts_of;
use serde_json::Value;

use self::columnar::Columnar;
use self::json::Keys;
use self::list::List;
use self::table::Table;
use crate::lines::unpacked;
use crate::{Error, Lines, Place, Result};

/// The first bytes of a Parquet file, and the ending of its name.
const PARQUET: (&[u8], &str) = (b"PAR1", ".parquet");
/// Endings of the names of CSV files.
const TABLES: [&str; 2] = [".csv", ".tsv"];

/// Records of JSONL.
struct Records {
    path: PathBuf,
    lines: Lines,
    keys: Keys,
    n_read: usize,
}

/// A column of the file that is not read, and that the values lack.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    pub(crate) name: String,
    pub(crate) is_text: bool,
}

/// Records with their places, of a file or of its parts, one after the other.
pub(crate) struct Rows {
    columns: Option<Vec<String>>,
    now: Format,
    /// The number of the part that is read now; none of a file in one piece.
    part: Option<usize>,
    later: std::vec::IntoIter<PathBuf>,
}

/// Records of one file. Blank lines of JSONL are left out.
enum Format {
    Lines(Box<Records>),
    List(List),
    Table(Table),
    Columnar(Columnar),
}

impl Rows {
    /// Opens a file, or the first part of `NAME-*-of-00003.END`, whose parts must all be there ([`Format::open`]).
    ///
    /// # Errors
    /// Those of [`Format::open`]; `File` with the first part that is missing.
    pub(crate) fn open(path: &Path, columns: Option<&[&str]>) -> Result<Self> {
        let parts = parts_of(path);
        for part in parts.iter().flatten() {
            std::fs::metadata(part).map_err(irepair_core::Error::io("read", part))?;
        }
        let part = parts.as_ref().map(|_| 0);
        let mut later = parts.unwrap_or_else(|| vec![path.to_owned()]).into_iter();
        let now = Format::open(&later.next().unwrap_or_else(|| path.to_owned()), columns)?;
        let columns = columns.map(|columns| columns.iter().map(|name| (*name).to_owned()).collect());
        Ok(Self { columns, now, part, later })
    }

    /// Columns that the values lack, because they are not read.
    pub(crate) fn unread(&self) -> &[Unread] {
        match &self.now {
            Format::Columnar(rows) => &rows.unread,
            _ => &[],
        }
    }

    fn open_next(&mut self) -> Option<Result<()>> {
        let path = self.later.next()?;
        let columns: Option<Vec<&str>> = self.columns.as_ref().map(|names| names.iter().map(String::as_str).collect());
        Some(Format::open(&path, columns.as_deref()).map(|now| {
            self.now = now;
            self.part = self.part.map(|part| part + 1);
        }))
    }
}

impl Iterator for Rows {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match (self.now.next(), self.part) {
                (Some(Ok((place, value))), Some(part)) => return Some(Ok((place.of_part(part), value))),
                (Some(row), _) => return Some(row),
                (None, _) => match self.open_next()? {
                    Ok(()) => {}
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

impl Format {
    /// Opens a file. Parquet is known by its first bytes; then a name that ends in `.csv` or `.tsv` (before `.gz`) is a
    /// table; of the others, one that begins with `[` is a JSON list, and all else is JSONL. No more than `columns` is
    /// read, where they are given.
    ///
    /// # Errors
    /// `File`, `NotData`, `BadRow` for the first row of a table, `BadTable` for Parquet.
    fn open(path: &Path, columns: Option<&[&str]>) -> Result<Self> {
        if let Some(file) = parquet(path)? {
            return Ok(Self::Columnar(Columnar::new(path, file, columns)?));
        }
        let mut reader = unpacked(path)?;
        if name_of(path).ends_with(PARQUET.1) {
            let why = "it does not begin as Parquet does, or it is packed";
            return Err(Error::BadTable { path: path.to_owned(), row: None, why: why.to_owned() });
        }
        if let Some(end) = table_of(path) {
            return Ok(Self::Table(Table::new(path, reader, if end == ".tsv" { b'\t' } else { b',' })?));
        }
        let head = reader.fill_buf().map_err(irepair_core::Error::io("read", path))?;
        if head.trim_ascii_start().starts_with(b"[") {
            return Ok(Self::List(List::new(path, reader, Keys::new(columns))));
        }
        let lines = Lines::of(path, reader);
        Ok(Self::Lines(Box::new(Records { path: path.to_owned(), lines, keys: Keys::new(columns), n_read: 0 })))
    }
}

impl Iterator for Format {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Lines(records) => records.next(),
            Self::List(list) => list.next(),
            Self::Table(table) => table.next(),
            Self::Columnar(rows) => rows.next(),
        }
    }
}

impl Iterator for Records {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, text) = match self.lines.next()? {
                Ok(next) => next,
                Err(error) => return Some(Err(error)),
            };
            if !text.trim().is_empty() {
                self.n_read += 1;
                let value = json::record(&self.path, line, &text, &self.keys, self.n_read == 1);
                return Some(value.map(|value| (Place::Line(line), value)));
            }
        }
    }
}

/// The file, where it is Parquet. A pipe is none: its rows are not in order.
fn parquet(path: &Path) -> Result<Option<File>> {
    let io = irepair_core::Error::io("read", path);
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Ok(None);
    }
    let (mut head, mut file) = ([0; 4], File::open(path).map_err(io)?);
    Ok((file.read_exact(&mut head).is_ok() && head == PARQUET.0).then_some(file))
}

/// The name of a file in small letters, without `.gz`.
fn name_of(path: &Path) -> String {
    let name = path.to_string_lossy().to_ascii_lowercase();
    name.strip_suffix(".gz").unwrap_or(&name).to_owned()
}

fn table_of(path: &Path) -> Option<&'static str> {
    let name = name_of(path);
    TABLES.into_iter().find(|end| name.ends_with(end))
}

/// True for names that end in `.csv` or `.tsv`, before `.gz`.
fn is_table(path: &Path) -> bool {
    table_of(path).is_some()
}

/// True for names that end in `.jsonl` or `.json`, before `.gz`.
pub(crate) fn is_jsonl(path: &Path) -> bool {
    let name = name_of(path);
    name.ends_with(".jsonl") || name.ends_with(".json")
}

/// True for names that end in `.jsonl`, `.json`, `.csv` or `.tsv`, before `.gz`, or in `.parquet`: the file holds
/// records, not plain text.
pub(crate) fn has_records(path: &Path) -> bool {
    is_jsonl(path) || is_table(path) || name_of(path).ends_with(PARQUET.1)
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn the_parts_of_a_file_are_read_in_order_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("train-*-of-00002.jsonl");
        let put = |part: usize, text: &str| {
            std::fs::write(dir.path().join(format!("train-0000{part}-of-00002.jsonl")), text).unwrap();
        };
        put(0, "{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n");
        let Err(Error::File(missing)) = Rows::open(&all, None).map(drop) else { panic!("a part is missing") };
        assert!(missing.diagnostic().to_string().contains("train-00001-of-00002.jsonl"), "{missing}");
        put(1, "{\"text\":\"c\"}\n{\"text\":");
        let rows: Vec<_> = Rows::open(&all, None).unwrap().collect();
        let read: Vec<String> = rows
            .iter()
            .flatten()
            .map(|(place, value)| format!("{}, {place}", value["text"].as_str().unwrap()))
            .collect();
        assert_eq!(read, ["a, line 1 of part 00000", "b, line 3 of part 00000", "c, line 1 of part 00001"]);
        let said = rows[3].as_ref().unwrap_err().diagnostic().to_string();
        assert!(said.contains("train-00001-of-00002.jsonl") && said.contains("line 2"), "{said}");
    }
}
