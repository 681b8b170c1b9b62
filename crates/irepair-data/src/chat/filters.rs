//! Filters of Jinja, and transformers' `tojson`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::methods::lines;
use super::object::Marked;
use super::python::{self, is_space};

/// Adds the filters, and takes away those of the engine that Jinja has in another form.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter("tojson", tojson);
    engine.add_filter("trim", trim);
    engine.add_filter("string", |value: &Value| python::text(value));
    engine.add_filter("indent", indent);
    engine.add_filter("safe", |value: &Value| python::text(value).map(|text| Value::from_object(Marked(text))));
    engine.add_filter("escape", escape);
    engine.add_filter("e", escape);
    engine.remove_filter("attr");
    engine.remove_filter("pprint");
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}

fn trim(value: &Value, chars: Option<String>) -> Result<Value, Error> {
    let text = python::text(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).into(),
        None => text.trim_matches(is_space).into(),
    })
}

fn escape(value: &Value) -> Result<Value, Error> {
    let mut text = python::text(value)?;
    for (from, to) in [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('\'', "&#39;"), ('"', "&#34;")] {
        text = text.replace(from, to);
    }
    Ok(Value::from_object(Marked(text)))
}

/// Jinja's `indent`, which keeps a line end at the end.
fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let text = python::text(value)? + "\n";
    let width = width.map_or_else(|| options.get::<Option<Value>>("width"), |width| Ok(Some(width)))?;
    let flag = |given: Option<bool>, name| Ok::<_, Error>(given.or(options.get::<Option<bool>>(name)?) == Some(true));
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    options.assert_all_used()?;
    let space = match width {
        None => " ".repeat(4),
        Some(width) if width.kind() == ValueKind::String => width.to_string(),
        Some(width) => " ".repeat(usize::try_from(width)?.min(256)),
    };
    let mut made = if first { space.clone() } else { String::new() };
    for (i, line) in lines(&text).into_iter().enumerate() {
        if i > 0 {
            made.push('\n');
            if blank || !line.is_empty() {
                made += &space;
            }
        }
        made += line;
    }
    Ok(made)
}

/// Python's `json.dumps` with the defaults of transformers.
fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(refuse("tojson of a value that is not defined"));
    }
    if value.kind() == ValueKind::Plain && value.downcast_object_ref::<Marked>().is_none() {
        return Err(refuse("tojson of a method"));
    }
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) if value.kind() == ValueKind::String => Some(value.to_string()),
        Some(value) => Some(" ".repeat(usize::try_from(value)?.min(64))),
    };
    let separators = match options.get::<Option<Value>>("separators")?.filter(|value| !value.is_none()) {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(two) => (two.get_item_by_index(0)?.to_string(), two.get_item_by_index(1)?.to_string()),
    };
    let flag = |name| Ok::<_, Error>(options.get::<Option<bool>>(name)?.unwrap_or(false));
    let style = python::Json { ascii: flag("ensure_ascii")?, sorted: flag("sort_keys")?, indent, separators };
    options.assert_all_used()?;
    let value = serde_json::to_value(value).map_err(|error| refuse(&error.to_string()))?;
    Ok(style.of(&value).into())
}
