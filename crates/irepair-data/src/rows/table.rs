//! Rows of CSV under the names of the first row, one row in memory at a time.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::{Error, MAX_LINE_BYTES, Place, Result};

/// The rows after the first, all values strings.
pub(crate) struct Table {
    path: PathBuf,
    names: Vec<String>,
    reader: csv::Reader<Bounded>,
    input: Rc<Input>,
    failed: bool,
}

/// What the parser was given.
struct Input {
    /// Bytes that the next row may still take.
    left: Cell<usize>,
    /// The last bytes, and the number of those before them.
    last: RefCell<(u64, Vec<u8>)>,
    /// The last read gave none: the input has ended.
    is_at_end: Cell<bool>,
}

/// A reader that fails where a row is longer than any real one: a quote that is not closed would take the whole file.
struct Bounded {
    inner: Box<dyn BufRead>,
    input: Rc<Input>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(into)?;
        self.input.is_at_end.set(n == 0 && !into.is_empty());
        let mut last = self.input.last.borrow_mut();
        if n > 0 {
            last.0 += last.1.len() as u64;
            last.1.clear();
            last.1.extend_from_slice(&into[..n]);
        }
        match self.input.left.get().checked_sub(n) {
            Some(left) => self.input.left.set(left),
            None => return Err(std::io::Error::other("row is too long")),
        }
        Ok(n)
    }
}

impl Table {
    /// Reads the names of the columns.
    ///
    /// # Errors
    /// `BadRow` for names that cannot be read, for one that occurs twice, and for a table with another separator.
    pub(super) fn new(path: &Path, inner: Box<dyn BufRead>, delimiter: u8) -> Result<Self> {
        let (left, last) = (Cell::new(MAX_LINE_BYTES), RefCell::default());
        let input = Rc::new(Input { left, last, is_at_end: Cell::new(false) });
        let bounded = Bounded { inner, input: input.clone() };
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.delimiter(delimiter).has_headers(false).flexible(true).from_reader(bounded);
        let mut table = Self { path: path.to_owned(), names: Vec::new(), reader, input, failed: false };
        let (line, names) = table.next_fields()?.unwrap_or((1, Vec::new()));
        let bad = |why: String| Error::BadRow { path: path.to_owned(), line, why };
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(bad(format!("the column `{}` occurs twice", twice.1)));
        }
        if let [only] = &names[..]
            && let Some(separator) = other_separator(only, delimiter)
        {
            let want = if delimiter == b'\t' { "a tab" } else { "a comma" };
            return Err(bad(format!(
                "the first row is one name, `{only}`: its separator looks like {separator}, not {want}"
            )));
        }
        table.names = names;
        Ok(table)
    }

    fn next_row(&mut self) -> Result<Option<(Place, Value)>> {
        let Some((line, fields)) = self.next_fields()? else { return Ok(None) };
        if fields.len() != self.names.len() {
            let why = format!("{} fields, not the {} of the first row", fields.len(), self.names.len());
            return Err(Error::BadRow { path: self.path.clone(), line, why });
        }
        let fields = self.names.iter().cloned().zip(fields.into_iter().map(Value::from));
        Ok(Some((Place::Line(line), Value::Object(Map::from_iter(fields)))))
    }

    /// The fields of the next row, with the line that it begins at.
    fn next_fields(&mut self) -> Result<Option<(usize, Vec<String>)>> {
        // What the reader has taken ahead is far less than a row may have.
        self.input.left.set(MAX_LINE_BYTES);
        let mut row = csv::ByteRecord::new();
        let before = self.reader.position().line() as usize;
        if !self.reader.read_byte_record(&mut row).map_err(|error| refused(&self.path, error, before))? {
            return Ok(None);
        }
        // The parser counts line feeds, and has not yet taken that of a CR LF; blank lines come before the row.
        let n_inside = row.iter().flatten().filter(|&&byte| byte == b'\n').count();
        let line = self.reader.position().line() as usize - n_inside - usize::from(self.ended_by_line_feed());
        let text = |field: &[u8]| std::str::from_utf8(field).map(str::to_owned);
        let fields = row.iter().map(text).collect::<Result<_, _>>();
        Ok(Some((line, fields.map_err(|_| Error::NotUtf8 { path: self.path.clone(), line })?)))
    }

    /// Whether a line feed ended the row: it is the last byte that the parser has taken. One that the end of the file
    /// follows, within a quote that is not closed, is of the field.
    fn ended_by_line_feed(&self) -> bool {
        if self.input.is_at_end.get() {
            return false;
        }
        let (start, last) = &*self.input.last.borrow();
        let taken = self.reader.position().byte().checked_sub(start + 1);
        taken.and_then(|at| last.get(at as usize)) == Some(&b'\n')
    }
}

/// The separator that a table of one column seems to have.
fn other_separator(only: &str, delimiter: u8) -> Option<&'static str> {
    let others = [(',', "`,`"), (';', "`;`"), ('\t', "a tab"), ('|', "`|`")];
    let is_one = |separator: char| {
        let names: Vec<&str> = only.split(separator).collect();
        names.len() > 1 && names.iter().all(|name| !name.trim().is_empty())
    };
    others.into_iter().find(|(c, _)| *c as u32 != u32::from(delimiter) && is_one(*c)).map(|(_, name)| name)
}

fn refused(path: &Path, error: csv::Error, line: usize) -> Error {
    let path = path.to_owned();
    match error.kind() {
        csv::ErrorKind::Io(cause) if cause.to_string() == "row is too long" => {
            Error::LineTooLong { path, line, max_bytes: MAX_LINE_BYTES }
        }
        csv::ErrorKind::Io(cause) => {
            let cause = std::io::Error::new(cause.kind(), cause.to_string());
            irepair_core::Error::io("read", &path)(cause).into()
        }
        _ => Error::BadRow { path, line, why: error.to_string() },
    }
}

impl Iterator for Table {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_row();
        self.failed = next.is_err();
        next.transpose()
    }
}
