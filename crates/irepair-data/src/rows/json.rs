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
/// `NotFinite` and `WideNumber` for such a number under a key that is read, `NotTable` for the first record of a table,
/// `NotJson`.
pub(super) fn record(path: &Path, line: usize, text: &str, keys: &Keys, is_first: bool) -> Result<Value> {
    let source = match serde_json::from_str(text) {
        Ok(value) if !has_odd_number(text) => return Ok(value),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let words = words(text);
    let mut settled = String::with_capacity(text.len());
    let (mut done, mut n_settled) = (0, 0);
    for word in &words {
        let instead = match word.text {
            text if NOT_FINITE.contains(&text) => "null",
            // Python reads a whole number, which has no sign.
            "-0" => "0",
            _ => continue,
        };
        settled += &text[done..word.at];
        settled += instead;
        done = word.at + word.text.len();
        n_settled += 1;
    }
    settled += &text[done..];
    if (source.is_none() || n_settled > 0)
        && let Ok(value) = serde_json::from_str(&settled)
    {
        let line_of = |word: &Word<'_>| line + text[..word.at].matches('\n').count();
        let mut read = words.iter().filter(|word| keys.read(&word.key));
        return match read.find(|word| NOT_FINITE.contains(&word.text) || is_wide(word.text)) {
            None => Ok(value),
            Some(word) => Err(match NOT_FINITE.into_iter().find(|known| *known == word.text) {
                Some(known) => {
                    Error::NotFinite { path: path.to_owned(), line: line_of(word), key: word.key.clone(), word: known }
                }
                None => Error::WideNumber {
                    path: path.to_owned(),
                    line: line_of(word),
                    key: word.key.clone(),
                    number: word.text.to_owned(),
                },
            }),
        };
    }
    let path = path.to_owned();
    if is_first && !text.trim_start().starts_with(['{', '[']) && text.contains([',', ';', '\t']) {
        return Err(Error::NotTable { path, line });
    }
    let Some(source) = source else {
        return serde_json::from_str(text).map_err(|source| Error::NotJson { path, line, source });
    };
    Err(Error::NotJson { path, line: line + source.line().saturating_sub(1), source })
}

/// The value of a JSON text, whose numbers are those that Python reads; none where it is no JSON, or has a number that
/// is not finite or over 64 bits.
pub(crate) fn exact(text: &str) -> Option<Value> {
    record(Path::new(""), 1, text, &Keys(None), false).ok()
}

/// A number outside of texts, or what stands in place of one.
struct Word<'a> {
    at: usize,
    text: &'a str,
    /// The key of the record that holds it; empty where there is none.
    key: String,
}

/// Whether a text may have a number that Python reads in another way: a whole one over 64 bits, or `-0`.
fn has_odd_number(text: &str) -> bool {
    let is_long = text.as_bytes().split(|c| !c.is_ascii_digit()).any(|digits| digits.len() >= 19);
    is_long || text.contains("-0")
}

/// True for a whole number over 64 bits.
fn is_wide(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    !digits.is_empty()
        && digits.bytes().all(|c| c.is_ascii_digit())
        && word.parse::<i64>().is_err()
        && word.parse::<u64>().is_err()
}

fn words(text: &str) -> Vec<Word<'_>> {
    let (mut found, mut depth, mut last_string, mut key) = (Vec::new(), 0_usize, "", String::new());
    let mut rest = text;
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
            '-' | 'I' | 'N' | '0'..='9' => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                n = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                found.push(Word { at: text.len() - rest.len(), text: &rest[..n], key: key.clone() });
            }
            _ => {}
        }
        rest = &rest[n..];
    }
    found
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
        let wide = r#"{"id": 123456789012345678901, "a\"b": 18446744073709551615, "prompt": [{"n":
 -9223372036854775809}]}"#;
        let Err(Error::WideNumber { key, number, line, .. }) = read(wide) else { panic!("{wide}") };
        assert_eq!((&*key, &*number, line), ("prompt", "-9223372036854775809", 8));
        let text = r#"{"id": 123456789012345678901, "prompt": [18446744073709551615, -0, -0.0, "-0", 1e400]}"#;
        assert!(matches!(read(text), Err(Error::NotJson { .. })));
        let value = read(&text.replace("1e400", "1e22")).unwrap();
        assert_eq!(value["prompt"].to_string(), r#"[18446744073709551615,0,-0.0,"-0",1e+22]"#);
        for text in ["{\"other\": NaNs}", "{\"other\": NaN", "NaN, \"open", "{\"other\": 1 NaN}"] {
            assert!(matches!(read(text), Err(Error::NotJson { .. })), "{text}");
        }
    }
}
