//! One record of a data file: values by key, and errors that name its place.

use std::path::Path;

use irepair_core::Columns;
use serde_json::Value;

use crate::found::{Found, OtherForm};
use crate::rows::Unread;
use crate::{Error, Place, Result};

/// True in records whose texts a chat template has rendered already.
pub(crate) const RENDERED: &str = "rendered";

/// A record, with the names of its keys.
pub(crate) struct Record<'a> {
    pub(crate) path: &'a Path,
    pub(crate) place: Place,
    pub(crate) value: Value,
    /// The names that `--columns` gives; none where that is no setting.
    pub(crate) columns: Option<&'a Columns>,
    /// What the file has and the values lack.
    pub(crate) unread: &'a [Unread],
}

impl Record<'_> {
    /// The value of a key; none where it is not there.
    pub(crate) fn get(&self, key: &'static str) -> Option<&Value> {
        self.value.get(self.name(key))
    }

    /// The name of a key in the file.
    pub(crate) fn name(&self, key: &'static str) -> &str {
        self.columns.map_or(key, |columns| columns.of(key))
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

    /// A string. A null is an empty one, in every format, as an empty cell of CSV is: that cannot say which of the two
    /// it is.
    pub(crate) fn string(&self, key: &'static str) -> Result<String> {
        match self.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Ok(String::new()),
            other => Err(self.bad(self.name(key), "a string", other)),
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
            let (path, key) = (self.path.to_owned(), self.name(key).to_owned());
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
            _ => Err(self.bad(self.name(key), "true, false, 1 or 0", value)),
        }
    }

    /// A string, or the string `text` of an object; `dotted` is the name of the latter.
    pub(crate) fn text(&self, key: &'static str, dotted: &'static str) -> Result<String> {
        match self.get(key) {
            Some(Value::Object(object)) => match object.get("text") {
                Some(Value::String(text)) => Ok(text.clone()),
                other => Err(self.bad(&dotted.replacen(key, self.name(key), 1), "a string", other)),
            },
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Ok(String::new()),
            other => Err(self.bad(self.name(key), "a string, or an object with `text`", other)),
        }
    }

    /// The error of a value that is missing or of the wrong kind; `key` as it is in the file.
    pub(crate) fn bad(&self, key: &str, want: &'static str, got: Option<&Value>) -> Error {
        let want = if self.value.is_object() { want } else { "an object with this key" };
        let value = if self.value.is_object() { got } else { Some(&self.value) };
        let keys = self.keys();
        let form = OtherForm::of(&self.value, &keys, got);
        let value = value.map(|value| kind_of(value).to_owned());
        let found = Box::new(Found { value, keys, column: self.column(key), form });
        Error::BadKey { path: self.path.to_owned(), place: self.place, key: key.to_owned(), want, found }
    }

    /// The keys of the record, those of columns that are not read included.
    fn keys(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|column| &column.name);
        self.value.as_object().into_iter().flat_map(|object| object.keys()).chain(unread).cloned().collect()
    }

    /// What `--columns` calls the key `name` of the file, and the names of the others.
    fn column(&self, name: &str) -> Option<(&'static str, Vec<String>)> {
        let columns = self.columns?;
        let others = columns.names().filter(|other| *other != name).map(str::to_owned).collect();
        Some((columns.key_of(name)?, others))
    }

    /// The error of a pair without a prompt whose sides do not begin with the same text.
    pub(crate) fn no_common_prompt(&self) -> Error {
        let found = Found { keys: self.keys(), column: self.column("prompt"), ..Found::default() };
        Error::NoCommonPrompt { path: self.path.to_owned(), place: self.place, found: Box::new(found) }
    }

    /// Keys of text that nothing reads; those of numbers, dates and the like that are written as text are none.
    pub(crate) fn unread_texts(&self, read: &[&str]) -> Vec<String> {
        let is_text = |value: &Value| {
            value.as_str().is_some_and(|text| text.chars().any(char::is_alphabetic) && text.parse::<f64>().is_err())
        };
        let here = self.value.as_object().into_iter().flatten();
        let here = here.filter(|(key, value)| !read.contains(&key.as_str()) && is_text(value)).map(|(key, _)| key);
        here.chain(self.unread.iter().filter(|column| column.is_text).map(|column| &column.name)).cloned().collect()
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
