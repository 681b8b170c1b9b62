//! Python's text of values: `str`, `json.dumps`, numbers and white space.

use std::fmt::Write as _;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json_;

use super::lazy::is_list;
use super::object::Marked;

/// White space as `str.strip` has it: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Lists and dictionaries in one another.
const MOST_DEPTH: usize = 200;

fn refuse(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// Text of a value that a template prints.
///
/// # Errors
/// For lists and objects: a template that prints one was written for messages of another form.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain => {
            Err(refuse(format!("the template prints a {} where text is wanted", value.kind())))
        }
        _ => str(value),
    }
}

/// `str` of a value.
///
/// # Errors
/// For what Python prints with the name of a type.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    match (value.as_str(), value.downcast_object_ref::<Marked>()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(Marked(text))) => Ok(text.clone()),
        (None, None) if value.is_undefined() => Ok(String::new()),
        (None, None) => repr(value, 0),
    }
}

/// `repr` of a value that stands in so many others.
///
/// # Errors
/// For what Python prints with the name of a type, and for what is nested too deep.
pub(super) fn repr(value: &Value, depth: usize) -> Result<String, Error> {
    if depth > MOST_DEPTH {
        return Err(refuse(format!("a value is nested over {MOST_DEPTH} deep")));
    }
    let all =
        |values: &Value| value_list(values)?.iter().map(|value| repr(value, depth + 1)).collect::<Result<Vec<_>, _>>();
    Ok(match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::Bool | ValueKind::Number | ValueKind::None => value.to_string(),
        _ if is_list(value) => match (all(value)?, value.is_tuple()) {
            (one, true) if one.len() == 1 => format!("({},)", one[0]),
            (all, true) => format!("({})", all.join(", ")),
            (all, false) => format!("[{}]", all.join(", ")),
        },
        ValueKind::Map if !is_namespace(value) => {
            let entry =
                |key: &Value| Ok(format!("{}: {}", repr(key, depth + 1)?, repr(&value.get_item(key)?, depth + 1)?));
            let entries = value_list(value)?.iter().map(entry).collect::<Result<Vec<_>, Error>>()?;
            format!("{{{}}}", entries.join(", "))
        }
        _ => return Err(refuse(format!("the template writes a {} as text", value.kind()))),
    })
}

fn value_list(values: &Value) -> Result<Vec<Value>, Error> {
    values.try_iter()?.checked().collect()
}

/// True for what `namespace()` gives: no dictionary, although it has keys.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().to_lowercase().contains("namespace"))
}

/// A value as JSON.
///
/// # Errors
/// Where `json.dumps` raises, and for whole numbers over 64 bits.
pub(super) fn json(value: &Value, depth: usize) -> Result<Json_, Error> {
    if depth > MOST_DEPTH {
        return Err(refuse(format!("a value is nested over {MOST_DEPTH} deep")));
    }
    if let Some(Marked(text)) = value.downcast_object_ref() {
        return Ok(text.as_str().into());
    }
    let no_json = || refuse(format!("tojson of a {}", value.kind()));
    Ok(match value.kind() {
        ValueKind::None => Json_::Null,
        ValueKind::Bool => value.is_true().into(),
        ValueKind::String => value.as_str().into(),
        ValueKind::Number if value.is_integer() => match (i64::try_from(value.clone()), u64::try_from(value.clone())) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => return Err(refuse(format!("tojson of {value}, a whole number over 64 bits"))),
        },
        ValueKind::Number => {
            let number = f64::try_from(value.clone())?;
            Json_::Number(serde_json::Number::from_f64(number).ok_or_else(|| refuse(format!("tojson of {number}")))?)
        }
        _ if is_list(value) => {
            value_list(value)?.iter().map(|value| json(value, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
        }
        ValueKind::Map if !is_namespace(value) => {
            let entry = |key: &Value| {
                let name = match key.kind() {
                    ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                    ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
                    ValueKind::Number => str(key)?,
                    kind => return Err(refuse(format!("tojson of a key that is a {kind}"))),
                };
                Ok((name, json(&value.get_item(key)?, depth + 1)?))
            };
            value_list(value)?.iter().map(entry).collect::<Result<serde_json::Map<_, _>, Error>>()?.into()
        }
        _ => return Err(no_json()),
    })
}

/// `repr` of a text.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut made = String::from(quote);
    for c in text.chars() {
        // The character after another one, since Rust escapes marks that stand alone.
        let is_shown =
            c.is_ascii_graphic() || c == ' ' || !c.is_ascii() && !format!("x{c}").escape_debug().any(|c| c == '\\');
        let _ = match (c, c as u32) {
            ('\\', _) => write!(made, "\\\\"),
            (c, _) if c == quote => write!(made, "\\{c}"),
            ('\n', _) => write!(made, "\\n"),
            ('\r', _) => write!(made, "\\r"),
            ('\t', _) => write!(made, "\\t"),
            (c, _) if is_shown => write!(made, "{c}"),
            (_, code @ ..0x100) => write!(made, "\\x{code:02x}"),
            (_, code @ ..0x10000) => write!(made, "\\u{code:04x}"),
            (_, code) => write!(made, "\\U{code:08x}"),
        };
    }
    made.push(quote);
    made
}

/// `json.dumps` with these options.
pub(super) struct Json {
    pub(super) ascii: bool,
    pub(super) sorted: bool,
    pub(super) indent: Option<String>,
    /// Between entries, and after a key.
    pub(super) separators: (String, String),
}

impl Json {
    pub(super) fn of(&self, value: &Json_) -> String {
        let mut out = String::new();
        self.put(&mut out, value, 0);
        out
    }

    fn put(&self, out: &mut String, value: &Json_, depth: usize) {
        match value {
            Json_::Null => *out += "null",
            Json_::Bool(value) => *out += if *value { "true" } else { "false" },
            Json_::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(value) => *out += &float(value),
                None => *out += &number.to_string(),
            },
            Json_::String(text) => self.quote(out, text),
            Json_::Array(list) => self.entries(out, ('[', ']'), depth, list.iter().map(|value| (None, value))),
            Json_::Object(map) => {
                let mut entries: Vec<_> = map.iter().map(|(key, value)| (Some(&**key), value)).collect();
                if self.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.entries(out, ('{', '}'), depth, entries.into_iter());
            }
        }
    }

    fn entries<'a>(
        &self,
        out: &mut String,
        (open, close): (char, char),
        depth: usize,
        entries: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Json_)>,
    ) {
        let is_empty = entries.len() == 0;
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !is_empty) {
                out.push('\n');
                *out += &indent.repeat(depth);
            }
        };
        out.push(open);
        for (i, (key, value)) in entries.enumerate() {
            if i > 0 {
                *out += &self.separators.0;
            }
            line(out, depth + 1);
            if let Some(key) = key {
                self.quote(out, key);
                *out += &self.separators.1;
            }
            self.put(out, value, depth + 1);
        }
        line(out, depth);
        out.push(close);
    }

    fn quote(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => *out += "\\\"",
                '\\' => *out += "\\\\",
                '\n' => *out += "\\n",
                '\r' => *out += "\\r",
                '\t' => *out += "\\t",
                '\u{8}' => *out += "\\b",
                '\u{c}' => *out += "\\f",
                c if c < ' ' || self.ascii && !(' '..='~').contains(&c) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                        let _ = write!(out, "\\u{unit:04x}");
                    });
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// `repr` of a float: the shortest digits, with an exponent below -4 and from 16 on.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_those_of_python() {
        for (value, want) in [
            (0.5, "0.5"),
            (2.0, "2.0"),
            (-0.0, "-0.0"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (0.00001234, "1.234e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(float(value), want);
        }
    }

    #[test]
    fn json_is_that_of_python() {
        let value = json!({"b": [1, null, true, {}], "a": "ü\u{1}\u{7f}\"/🙂", "c": []});
        let style = |ascii, sorted, indent: Option<&str>| Json {
            ascii,
            sorted,
            indent: indent.map(str::to_owned),
            separators: (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        };
        let plain = "{\"b\": [1, null, true, {}], \"a\": \"ü\\u0001\u{7f}\\\"/🙂\", \"c\": []}";
        assert_eq!(style(false, false, None).of(&value), plain);
        let ascii = r#"{"a": "\u00fc\u0001\u007f\"/\ud83d\ude42", "b": [1, null, true, {}], "c": []}"#;
        assert_eq!(style(true, true, None).of(&value), ascii);
        let lines =
            "{\n \"b\": [\n  1,\n  null,\n  true,\n  {}\n ],\n \"a\": \"ü\\u0001\u{7f}\\\"/🙂\",\n \"c\": []\n}";
        assert_eq!(style(false, false, Some(" ")).of(&value), lines);
    }
}
