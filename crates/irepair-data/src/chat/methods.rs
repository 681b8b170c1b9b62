//! Methods of Python's strings, lists and dictionaries.

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::filters::refuse_long;
use super::lazy::{View, entries};
use super::object::Marked;
use super::python::{self, is_space};

/// Ends of lines as `str.splitlines` has them; CR LF is one.
const LINE_ENDS: [char; 10] =
    ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Calls a method.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let first = args.first().and_then(Value::as_str);
    match (value.as_str(), method, first, args) {
        (Some(text), "strip", None, []) => Ok(text.trim_matches(is_space).into()),
        (Some(text), "lstrip", None, []) => Ok(text.trim_start_matches(is_space).into()),
        (Some(text), "rstrip", None, []) => Ok(text.trim_end_matches(is_space).into()),
        (Some(text), "split", None, []) => Ok(text.split(is_space).filter(|word| !word.is_empty()).collect::<Value>()),
        (Some(text), "rsplit", Some(at), [_, most @ ..]) if !at.is_empty() && most.len() < 2 => {
            let most = most.first().map(|most| i64::try_from(most.clone())).transpose()?;
            let n = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |n| n.saturating_add(1));
            let mut parts: Vec<&str> = text.rsplitn(n, at).collect();
            parts.reverse();
            Ok(listed(parts))
        }
        (Some(text), "partition", Some(at), [_]) if !at.is_empty() => Ok(match text.split_once(at) {
            Some((before, after)) => listed([before, at, after]),
            None => listed([text, "", ""]),
        }),
        (Some(text), "rpartition", Some(at), [_]) if !at.is_empty() => Ok(match text.rsplit_once(at) {
            Some((before, after)) => listed([before, at, after]),
            None => listed(["", "", text]),
        }),
        (Some(text), "removeprefix", Some(part), [_]) => Ok(text.strip_prefix(part).unwrap_or(text).into()),
        (Some(text), "removesuffix", Some(part), [_]) => Ok(text.strip_suffix(part).unwrap_or(text).into()),
        (Some(text), "splitlines", None, []) => Ok(listed(lines(text))),
        (Some(text), "title", None, []) => title(text).map(Value::from),
        (Some(text), "join", _, [values]) => {
            let mut parts = Vec::new();
            for value in entries(values)? {
                match value.as_str().or_else(|| value.downcast_object_ref::<Marked>().map(|text| text.0.as_str())) {
                    Some(part) => parts.push(part.to_owned()),
                    None => return Err(unknown("join of what is no text")),
                }
            }
            refuse_long(parts.iter().map(String::len).sum::<usize>() + parts.len() * text.len())?;
            Ok(parts.join(text).into())
        }
        (Some(text), "isspace", None, []) => Ok((!text.is_empty() && text.chars().all(is_space)).into()),
        (Some(text), "isdigit" | "isnumeric" | "isalpha" | "isalnum" | "islower" | "isupper", None, [])
            if !text.is_ascii() =>
        {
            Err(unknown("a question about letters beyond ASCII"))
        }
        (Some(_), "startswith" | "endswith", None, [other, ..]) if !other.is_tuple() => {
            Err(unknown("startswith or endswith of what is no text"))
        }
        (Some(_), "format", ..) if args.iter().any(is_shown_otherwise) => {
            Err(unknown("format of a list or an object with text beyond ASCII"))
        }
        (None, "keys" | "values" | "items", None, []) if value.kind() == ValueKind::Map => {
            let entry = |key: Value| match (method, value.get_item(&key)) {
                ("keys", _) => Ok(key),
                ("values", found) => found,
                (_, found) => found.map(|found| Value::from(Tuple::from([key, found]))),
            };
            let keys = entries(value)?;
            Ok(Value::from_object(View(keys.into_iter().map(entry).collect::<Result<_, _>>()?)))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// True for lists and objects of whose text the engine has another form.
pub(super) fn is_shown_otherwise(value: &Value) -> bool {
    let has_form = |text: String| text.is_ascii() && !text.contains('\\');
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map) && !python::str(value).is_ok_and(has_form)
}

fn listed<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    parts.into_iter().collect()
}

fn unknown(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// Lines without their ends.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(LINE_ENDS) {
        let end = rest[at..].chars().next().map_or(0, char::len_utf8);
        let end = if rest[at..].starts_with("\r\n") { 2 } else { end };
        found.push(&rest[..at]);
        rest = &rest[at + end..];
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    found
}

/// A capital letter after whatever is no letter.
fn title(text: &str) -> Result<String, Error> {
    let (mut made, mut is_inside) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        let has_own_form = ('\u{1c4}'..='\u{1f3}').contains(&c) || c.to_uppercase().count() > 1;
        if has_own_form || c == 'Σ' {
            return Err(unknown("title of a letter with several capital forms"));
        }
        if is_inside {
            made.extend(c.to_lowercase())
        } else {
            made.extend(c.to_uppercase())
        }
        is_inside = c.is_lowercase() || c.is_uppercase();
    }
    Ok(made)
}
