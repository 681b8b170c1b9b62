//! A JSON list of records, one record in memory at a time.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json::{self, Keys};
use crate::{Error, MAX_LINE_BYTES, Place, Result};

/// The entries of a list, with the lines that they begin at.
pub(crate) struct List {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: usize,
    state: State,
    keys: Keys,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Next,
    Ended,
}

impl List {
    /// Of a file that begins with a bracket.
    pub(super) fn new(path: &Path, reader: Box<dyn BufRead>, keys: Keys) -> Self {
        Self { path: path.to_owned(), reader, line: 1, state: State::Begin, keys }
    }

    /// The next byte, which is not taken; none at the end of the file.
    fn peek(&mut self) -> Result<Option<u8>> {
        let buffer = self.reader.fill_buf().map_err(irepair_core::Error::io("read", &self.path))?;
        Ok(buffer.first().copied())
    }

    fn take(&mut self, byte: u8) {
        self.line += usize::from(byte == b'\n');
        self.reader.consume(1);
    }

    /// The next byte that is no white space, which is not taken.
    fn peek_past_space(&mut self) -> Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.take(byte);
        }
        Ok(None)
    }

    fn bad(&self, why: &str) -> Error {
        Error::BadRow { path: self.path.clone(), line: self.line, why: why.to_owned() }
    }

    fn next_entry(&mut self) -> Result<Option<(Place, Value)>> {
        let before = self.peek_past_space()?;
        match (self.state, before) {
            (State::Begin, Some(b'[')) | (State::Next, Some(b',')) => self.take(b'['),
            (State::Next, Some(b']')) => return self.end(),
            _ => return Err(self.bad("the list has no end")),
        }
        match self.peek_past_space()? {
            Some(b']') if self.state == State::Begin => return self.end(),
            None => return Err(self.bad("the list has no end")),
            _ => {}
        }
        self.state = State::Next;
        let line = self.line;
        let bytes = self.entry(line)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::NotUtf8 { path: self.path.clone(), line })?;
        Ok(Some((Place::Line(line), json::record(&self.path, line, &text, &self.keys, false)?)))
    }

    /// Takes the closing bracket, after which nothing may follow.
    fn end(&mut self) -> Result<Option<(Place, Value)>> {
        self.take(b']');
        self.state = State::Ended;
        match self.peek_past_space()? {
            None => Ok(None),
            Some(_) => Err(self.bad("text follows the end of the list; with one record a line, no line is a list")),
        }
    }

    /// The bytes up to a comma or closing bracket that belongs to the list.
    fn entry(&mut self, line: usize) -> Result<Vec<u8>> {
        let (mut bytes, mut depth, mut in_string, mut is_escaped) = (Vec::new(), 0_usize, false, false);
        while let Some(byte) = self.peek()? {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_string => is_escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'[' | b'{' => depth += 1,
                b',' | b']' if depth == 0 => break,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.take(byte);
            bytes.push(byte);
            if bytes.len() >= MAX_LINE_BYTES {
                return Err(Error::LineTooLong { path: self.path.clone(), line, max_bytes: MAX_LINE_BYTES });
            }
        }
        Ok(bytes)
    }
}

impl Iterator for List {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.next_entry();
        if next.is_err() {
            self.state = State::Ended;
        }
        next.transpose()
    }
}
