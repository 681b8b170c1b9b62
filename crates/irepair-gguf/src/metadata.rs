//! Metadata by key and type, and refusals that name the key.

use crate::file::GgufFile;
use crate::value::Value;
use crate::{Error, Result};

/// Largest size or count that a model has, but for its blocks.
const MAX_COUNT: i128 = 1 << 24;

impl GgufFile {
    /// Refuses what `key` says.
    pub(crate) fn refuse(&self, key: &str, want: impl Into<String>) -> Error {
        let got = self.metadata().get(key).map_or_else(|| "nothing".to_owned(), Value::shown);
        Error::Metadata { path: self.path().to_owned(), key: key.to_owned(), want: want.into(), got }
    }

    /// A count from 1 on, if it is given.
    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata().get(key) {
            None => Ok(None),
            Some(Value::Integer(n)) if (1..=MAX_COUNT).contains(n) => Ok(Some(*n as usize)),
            Some(_) => Err(self.refuse(key, format!("one number from 1 to {MAX_COUNT}"))),
        }
    }

    /// A count from 1 on.
    pub(crate) fn count(&self, key: &str) -> Result<usize> {
        self.optional_count(key)?.ok_or_else(|| self.refuse(key, "a number"))
    }

    /// A positive number, if it is given.
    pub(crate) fn optional_positive(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata().get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() && *x > 0.0 => Ok(Some(*x)),
            Some(_) => Err(self.refuse(key, "a positive number")),
        }
    }

    /// A positive number.
    pub(crate) fn positive(&self, key: &str) -> Result<f64> {
        self.optional_positive(key)?.ok_or_else(|| self.refuse(key, "a number"))
    }

    /// A truth value, if it is given.
    pub(crate) fn optional_bool(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata().get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.refuse(key, "true or false")),
        }
    }

    /// A string, if it is given.
    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata().get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(key, "a string")),
        }
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<&[String]> {
        match self.metadata().get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(self.refuse(key, "a list of strings")),
        }
    }
}
