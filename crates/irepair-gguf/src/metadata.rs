//! Metadata by key and type, and errors that name the key.

use crate::file::GgufFile;
use crate::value::Value;
use crate::{Error, Result};

/// Largest size or count that a model has, but for its blocks.
const MAX_COUNT: i128 = 1 << 24;

impl GgufFile {
    /// The error of a key whose value is not supported.
    pub(crate) fn refuse(&self, key: &str, want: impl Into<String>) -> Error {
        let got = self.metadata().get(key).map_or_else(|| "nothing".to_owned(), Value::shown);
        Error::Metadata { path: self.path().to_owned(), key: key.to_owned(), want: want.into(), got }
    }

    /// What `read` makes of the value of `key`, if it is given; `want` is what it accepts.
    fn optional<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = self.metadata().get(key);
        value.map(|value| read(value).ok_or_else(|| self.refuse(key, want))).transpose()
    }

    /// A count from 1 on, if it is given.
    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        self.optional(key, &format!("one number from 1 to {MAX_COUNT}"), |value| match value {
            Value::Integer(n) if (1..=MAX_COUNT).contains(n) => Some(*n as usize),
            _ => None,
        })
    }

    /// A count from 1 on.
    pub(crate) fn count(&self, key: &str) -> Result<usize> {
        self.optional_count(key)?.ok_or_else(|| self.refuse(key, "a number"))
    }

    /// A positive number, if it is given.
    pub(crate) fn optional_positive(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a positive number", |value| match value {
            Value::Float(x) if x.is_finite() && *x > 0.0 => Some(*x),
            _ => None,
        })
    }

    /// A positive number.
    pub(crate) fn positive(&self, key: &str) -> Result<f64> {
        self.optional_positive(key)?.ok_or_else(|| self.refuse(key, "a number"))
    }

    /// A truth value, if it is given.
    pub(crate) fn optional_bool(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "true or false", |value| if let Value::Bool(on) = value { Some(*on) } else { None })
    }

    /// A string, if it is given.
    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>> {
        self.optional(key, "a string", |value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<&[String]> {
        match self.metadata().get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(self.refuse(key, "a list of strings")),
        }
    }
}
