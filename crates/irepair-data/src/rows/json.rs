//! A record as JSON, and the numbers that Python's `json` writes and JSON lacks, where their keys are not read.

use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// What Python's `json` writes for numbers that are not finite, longest first.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The keys of a record that are read.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Option<Vec<String>>);

impl Keys {
    /// These, or all.
    pub(crate) fn new(keys: Option<&[&str]>) -> Self {
        Self(keys.map(|keys| keys.iter().map(|&key| key.to_owned()).collect()))
    }

    fn read(&self, key: &str) -> bool {
        self.0.as_ref().is_none_or(|keys| keys.iter().any(|known| known == key))
    }
}

/// The record `text`, which begins at `line`. A number that is not finite is null where its key is not read.
///
/// # Errors
/// `NotFinite` for such a number under a key that is read, `NotTable` for the first record of a table, `NotJson`.
pub(super) fn record(path: &Path, line: usize, text: &str, keys: &Keys, is_first: bool) -> Result<Value> {
    let source = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some((finite, read)) = without_not_finite(text, keys)
        && let Ok(value) = serde_json::from_str(&finite)
    {
        return match read {
            None => Ok(value),
            Some(NotFinite { key, word, n_lines }) => {
                Err(Error::NotFinite { path: path.to_owned(), line: line + n_lines, key, word })
            }
        };
    }
    let path = path.to_owned();
    if is_first && !text.trim_start().starts_with(['{', '[']) && text.contains([',', ';', '\t']) {
        return Err(Error::NotTable { path, line });
    }
    Err(Error::NotJson { path, line: line + source.line().saturating_sub(1), source })
}

/// A number that is not finite, under a key that is read.
struct NotFinite {
    /// The key of the record that holds it; empty where there is none.
    key: String,
    word: &'static str,
    /// Line feeds before it.
    n_lines: usize,
}

/// The text with null for every number that is not finite, and the first of these under a key that is read; none where
/// there is no such number.
fn without_not_finite(text: &str, keys: &Keys) -> Option<(String, Option<NotFinite>)> {
    let (mut finite, mut read, mut n_found) = (String::with_capacity(text.len()), None, 0_usize);
    let (mut depth, mut last_string, mut key, mut rest) = (0_usize, "", String::new(), text);
    while let Some(c) = rest.chars().next() {
        let mut n = c.len_utf8();
        match c {
            '"' => {
                n = string_length(rest);
                last_string = &rest[..n];
            }
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' if depth == 1 => key = serde_json::from_str(last_string).unwrap_or_default(),
            '-' | 'I' | 'N' => {
                if let Some(word) = NOT_FINITE.into_iter().find(|word| rest.starts_with(word)) {
                    if read.is_none() && keys.read(&key) {
                        let n_lines = text[..text.len() - rest.len()].matches('\n').count();
                        read = Some(NotFinite { key: key.clone(), word, n_lines });
                    }
                    n_found += 1;
                    finite += "null";
                    rest = &rest[word.len()..];
                    continue;
                }
            }
            _ => {}
        }
        finite += &rest[..n];
        rest = &rest[n..];
    }
    (n_found > 0).then_some((finite, read))
}

/// Bytes of the string that a text begins with, quotes included; all of the text where it is not closed.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value> {
        record(Path::new("p.jsonl"), 7, text, &Keys::new(Some(&["prompt", "a\"b"])), false)
    }

    #[test]
    fn a_number_that_is_not_finite_is_null_where_nobody_reads_it() {
        let text =
            r#"{"prompt": "NaN: \"Infinity\", -Infinity", "score": NaN, "list": [1, -Infinity, {"prompt": Infinity}]}"#;
        let want =
            json!({"prompt": "NaN: \"Infinity\", -Infinity", "score": null, "list": [1, null, {"prompt": null}]});
        assert_eq!(read(text).unwrap(), want);
        for (text, of) in [
            (r#"{"prompt": NaN}"#, ("prompt", "NaN", 7)),
            ("{\"other\": NaN,\n\"prompt\": [{\"weight\":\n-Infinity}]}", ("prompt", "-Infinity", 9)),
            (r#"{"a\"b": Infinity}"#, ("a\"b", "Infinity", 7)),
        ] {
            let Err(Error::NotFinite { key, word, line, .. }) = read(text) else { panic!("{text}") };
            assert_eq!((&*key, word, line), of, "{text}");
        }
        for text in ["{\"other\": NaNs}", "{\"other\": NaN", "NaN, \"open", "{\"other\": 1 NaN}"] {
            assert!(matches!(read(text), Err(Error::NotJson { .. })), "{text}");
        }
    }
}
