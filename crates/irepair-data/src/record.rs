//! One record of a data file: values by key, and errors that name its place.

use std::path::Path;

use irepair_core::Columns;
use serde_json::Value;

use crate::{Error, Place, Result};

/// True in records whose texts a chat template has rendered already.
pub(crate) const RENDERED: &str = "rendered";

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

    /// True where the record says that a chat template has rendered its texts already.
    pub(crate) fn is_rendered(&self) -> bool {
        matches!(self.value.get(RENDERED), Some(Value::Bool(true)))
    }

    /// Refuses a record whose texts are of another kind than those of the first one, of which `rendered` is said.
    pub(crate) fn refuse_other_kind(&self, rendered: bool) -> Result<()> {
        match (rendered, self.is_rendered()) {
            (true, false) => Err(self.bad(RENDERED, "true, as in the first record", self.value.get(RENDERED))),
            (false, true) => Err(self.bad(RENDERED, "no such mark, as in the first record", self.value.get(RENDERED))),
            _ => Ok(()),
        }
    }

    pub(crate) fn string(&self, key: &'static str) -> Result<String> {
        match self.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(self.bad(self.columns.of(key), "a string", other)),
        }
    }

    /// A string that is no message list.
    pub(crate) fn plain(&self, key: &'static str) -> Result<String> {
        let text = self.string(key)?;
        self.refuse_written_list(key)?;
        Ok(text)
    }

    /// Refuses a message list that is held as text: it would be trained on with its brackets.
    pub(crate) fn refuse_written_list(&self, key: &'static str) -> Result<()> {
        let Some(Value::String(text)) = self.get(key) else { return Ok(()) };
        let text = text.trim();
        let is_list = text.starts_with("[{") && text.ends_with("}]");
        // JSON, and what Python prints.
        if is_list && ["\"role\"", "'role'"].iter().any(|word| text.contains(word)) {
            let (path, key) = (self.path.to_owned(), self.columns.of(key).to_owned());
            return Err(Error::WrittenList { path, place: self.place, key });
        }
        Ok(())
    }

    /// True, false, 1 or 0, which may be text.
    pub(crate) fn label(&self, key: &'static str) -> Result<bool> {
        let value = self.get(key);
        let text = value.and_then(Value::as_str).map(|text| text.trim().to_ascii_lowercase());
        match (value, text.as_deref()) {
            (Some(Value::Bool(label)), _) => Ok(*label),
            (Some(Value::Number(n)), _) if n.as_f64() == Some(1.0) => Ok(true),
            (Some(Value::Number(n)), _) if n.as_f64() == Some(0.0) => Ok(false),
            (_, Some("true" | "1" | "1.0")) => Ok(true),
            (_, Some("false" | "0" | "0.0")) => Ok(false),
            _ => Err(self.bad(self.columns.of(key), "true, false, 1 or 0", value)),
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
        let want = if self.value.is_object() { want } else { "an object with this key" };
        let got = match (self.value.as_object(), got) {
            (None, _) => kind_of(&self.value).to_owned(),
            (_, Some(got)) => kind_of(got).to_owned(),
            (Some(record), None) => nothing_but(record.keys()),
        };
        Error::BadKey { path: self.path.to_owned(), place: self.place, key: key.to_owned(), want, got }
    }
}

/// That a key is not there, and which keys are.
fn nothing_but<'k>(keys: impl Iterator<Item = &'k String>) -> String {
    const MOST: usize = 5;
    let keys: Vec<String> = keys.map(|key| format!("`{}`", key.escape_debug())).collect();
    match keys.len() {
        0 => "nothing".to_owned(),
        n => format!(
            "nothing; the keys are {}{}",
            keys[..n.min(MOST)].join(", "),
            if n > MOST { " and more" } else { "" }
        ),
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
