//! One record of a data file: values by key, and errors that name its place.

use std::path::Path;

use irepair_core::Columns;
use serde_json::Value;

use crate::{Error, Place, Result};

/// A record, with the names of its keys.
pub(crate) struct Record<'a> {
    pub(crate) path: &'a Path,
    pub(crate) place: Place,
    pub(crate) value: Value,
    pub(crate) columns: &'a Columns,
}

impl Record<'_> {
    /// The value of a key; none where it is not there.
    pub(crate) fn get(&self, key: &'static str) -> Option<&Value> {
        self.value.get(self.columns.of(key))
    }

    pub(crate) fn string(&self, key: &'static str) -> Result<String> {
        match self.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(self.bad(self.columns.of(key), "a string", other)),
        }
    }

    /// A string, or the string `text` of an object; `dotted` is the name of the latter.
    pub(crate) fn text(&self, key: &'static str, dotted: &'static str) -> Result<String> {
        match self.get(key) {
            Some(Value::Object(object)) => match object.get("text") {
                Some(Value::String(text)) => Ok(text.clone()),
                other => Err(self.bad(&dotted.replacen(key, self.columns.of(key), 1), "a string", other)),
            },
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(self.bad(self.columns.of(key), "a string, or an object with `text`", other)),
        }
    }

    /// The error of a value that is missing or of the wrong kind; `key` as it is in the file.
    pub(crate) fn bad(&self, key: &str, want: &'static str, got: Option<&Value>) -> Error {
        let got = if self.value.is_object() { got.map_or("nothing", kind_of) } else { kind_of(&self.value) };
        let want = if self.value.is_object() { want } else { "an object with this key" };
        Error::BadKey { path: self.path.to_owned(), place: self.place, key: key.to_owned(), want, got: got.to_owned() }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
