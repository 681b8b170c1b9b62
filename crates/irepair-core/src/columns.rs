//! Names that the keys of pairs and prompts have in a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Keys that can have another name in a file.
const KEYS: [&str; 5] = ["prompt", "chosen", "rejected", "completion", "label"];

/// Keys with their names in a file, as given by a flag or a key: `prompt=question,chosen=good`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Columns(Vec<(String, String)>);

impl Columns {
    /// Every key under its own name.
    pub const SAME: Self = Self(Vec::new());

    /// The name of a key in the file.
    pub fn of<'a>(&'a self, key: &'a str) -> &'a str {
        self.0.iter().find(|(from, _)| from == key).map_or(key, |(_, to)| to)
    }

    /// The key that has this name in the file.
    pub fn key_of(&self, name: &str) -> Option<&'static str> {
        KEYS.into_iter().find(|key| self.of(key) == name)
    }

    /// The names of all keys that can be mapped.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        KEYS.iter().map(|key| self.of(key))
    }
}

impl FromStr for Columns {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::BadColumns { got: text.to_owned(), why };
        let mut columns: Vec<(String, String)> = Vec::new();
        for entry in text.split(',') {
            let Some((key, name)) = entry.split_once('=').filter(|(_, name)| !name.is_empty()) else {
                return Err(refuse(format!("`{entry}` is not KEY=NAME")));
            };
            if !KEYS.contains(&key) {
                return Err(refuse(format!("`{key}` is none of {}", KEYS.join(", "))));
            }
            if columns.iter().any(|(known, _)| known == key) {
                return Err(refuse(format!("`{key}` is given twice")));
            }
            columns.push((key.to_owned(), name.to_owned()));
        }
        Ok(Self(columns))
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.0.iter().map(|(key, name)| format!("{key}={name}")).collect();
        f.write_str(&entries.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_mapped_by_key() {
        let columns: Columns = "prompt=question,rejected=the bad one".parse().unwrap();
        assert_eq!(["prompt", "chosen", "rejected"].map(|key| columns.of(key)), ["question", "chosen", "the bad one"]);
        assert_eq!(
            ["question", "chosen", "prompt"].map(|name| columns.key_of(name)),
            [Some("prompt"), Some("chosen"), None]
        );
        assert_eq!(columns.to_string(), "prompt=question,rejected=the bad one");
        for (text, why) in [
            ("prompt", "`prompt` is not KEY=NAME"),
            ("", "`` is not KEY=NAME"),
            ("prompt=", "`prompt=` is not KEY=NAME"),
            ("text=a", "`text` is none of prompt, chosen, rejected, completion, label"),
            ("chosen=a,chosen=b", "`chosen` is given twice"),
        ] {
            assert_eq!(
                text.parse::<Columns>().unwrap_err().to_string(),
                format!("names of columns cannot be read: {why}")
            );
        }
    }
}
