//! Rows of CSV under the names of the first row, one row in memory at a time.

use std::cell::Cell;
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
    /// Bytes that the next row may still take.
    left: Rc<Cell<usize>>,
    failed: bool,
}

/// A reader that fails where a row is longer than any real one: a quote that is not closed would take the whole file.
struct Bounded {
    inner: Box<dyn BufRead>,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(into)?;
        match self.left.get().checked_sub(n) {
            Some(left) => self.left.set(left),
            None => return Err(std::io::Error::other("row is too long")),
        }
        Ok(n)
    }
}

impl Table {
    /// Reads the names of the columns.
    ///
    /// # Errors
    /// `BadRow` for names that cannot be read and for one that occurs twice.
    pub(super) fn new(path: &Path, inner: Box<dyn BufRead>, delimiter: u8) -> Result<Self> {
        let left = Rc::new(Cell::new(MAX_LINE_BYTES));
        let bounded = Bounded { inner, left: left.clone() };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bounded);
        let names = reader.headers().map_err(|error| refused(path, error, 1))?;
        let names: Vec<String> = names.iter().map(str::to_owned).collect();
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            let why = format!("the column `{}` occurs twice", twice.1);
            return Err(Error::BadRow { path: path.to_owned(), line: 1, why });
        }
        Ok(Self { path: path.to_owned(), names, reader, left, failed: false })
    }

    fn next_row(&mut self) -> Result<Option<(Place, Value)>> {
        // What the reader has taken ahead is far less than a row may have.
        self.left.set(MAX_LINE_BYTES);
        let mut row = csv::StringRecord::new();
        let line = self.reader.position().line() as usize;
        if !self.reader.read_record(&mut row).map_err(|error| refused(&self.path, error, line))? {
            return Ok(None);
        }
        let line = row.position().map_or(line, |at| at.line() as usize);
        let fields = self.names.iter().zip(&row).map(|(name, value)| (name.clone(), Value::from(value)));
        Ok(Some((Place::Line(line), Value::Object(Map::from_iter(fields)))))
    }
}

fn refused(path: &Path, error: csv::Error, line: usize) -> Error {
    let line = error.position().map_or(line, |at| at.line() as usize);
    let path = path.to_owned();
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => Error::NotUtf8 { path, line },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::BadRow { path, line, why: format!("{len} fields, not the {expected_len} of the first row") }
        }
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
