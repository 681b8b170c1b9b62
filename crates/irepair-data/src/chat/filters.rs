//! Filters of Jinja, and transformers' `tojson`.

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};

use super::lazy::{Lazy, entries};
use super::methods::{is_shown_otherwise, lines};
use super::object::Marked;
use super::operators::order;
use super::python::{self, is_space};

/// What a filter over entries gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Value,
    /// What is no list yet.
    Lazy,
}

/// What a filter makes of none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OfNone {
    Nothing,
    Refused,
}

/// Adds the filters, and takes away those of the engine that Jinja has in another form, or lacks.
pub(super) fn add(engine: &mut Environment<'_>) {
    use minijinja::filters as engines;
    engine.add_filter("tojson", tojson);
    engine.add_filter("trim", trim);
    engine.add_filter("string", |value: &Value| text(value));
    engine.add_filter("indent", indent);
    engine.add_filter("safe", |value: &Value| python::text(value).map(|text| Value::from_object(Marked(text))));
    engine.add_filter("escape", escape);
    engine.add_filter("e", escape);
    engine.add_filter("upper", |value: &Value| text(value).map(|text| text.to_uppercase()));
    engine.add_filter("lower", |value: &Value| text(value).map(|text| text.to_lowercase()));
    engine.add_filter("title", |value: &Value| text(value).map(|text| engines::title(text.into())));
    engine.add_filter("capitalize", |state: &mut State, value: &Value| {
        let text = Value::from(text(value)?);
        Ok::<_, Error>(engines::capitalize(StringInput::new(state, &text)?))
    });
    engine.add_filter("replace", replace);
    engine.add_filter("join", join);
    engine.add_filter("list", |value: &Value| entries(value).map(Value::from));
    engine.add_filter("reverse", reverse);
    engine.add_filter("first", |value: &Value| match value.downcast_object_ref::<Lazy>() {
        Some(lazy) => Ok(lazy.next().unwrap_or(Value::UNDEFINED)),
        None => engines::first(value),
    });
    for (name, original, gives, of_none) in [
        ("map", Value::from_function(engines::map), Gives::Lazy, OfNone::Nothing),
        ("select", Value::from_function(engines::select), Gives::Lazy, OfNone::Nothing),
        ("reject", Value::from_function(engines::reject), Gives::Lazy, OfNone::Nothing),
        ("selectattr", Value::from_function(engines::selectattr), Gives::Lazy, OfNone::Nothing),
        ("rejectattr", Value::from_function(engines::rejectattr), Gives::Lazy, OfNone::Nothing),
        ("unique", Value::from_function(engines::unique), Gives::Lazy, OfNone::Refused),
        ("batch", Value::from_function(engines::batch), Gives::Lazy, OfNone::Refused),
        ("slice", Value::from_function(engines::slice), Gives::Lazy, OfNone::Refused),
        ("items", Value::from_function(engines::items), Gives::Lazy, OfNone::Refused),
        ("sort", Value::from_function(engines::sort), Gives::Value, OfNone::Refused),
        ("sum", Value::from_function(engines::sum), Gives::Value, OfNone::Refused),
        ("min", Value::from_function(engines::min), Gives::Value, OfNone::Refused),
        ("max", Value::from_function(engines::max), Gives::Value, OfNone::Refused),
        ("groupby", Value::from_function(engines::groupby), Gives::Value, OfNone::Refused),
    ] {
        engine.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let mut args = args.into_values();
            if let Some(first) = args.first_mut() {
                *first = match first.downcast_object_ref::<Lazy>().is_some() {
                    true => Value::from(entries(first)?),
                    false if first.is_none() && of_none == OfNone::Refused => {
                        return Err(refuse("none has no entries"));
                    }
                    false => first.clone(),
                };
            }
            if ["sort", "min", "max"].contains(&name) {
                refuse_mixed(&args)?;
            }
            let made = original.call(state, &args)?;
            if gives == Gives::Lazy { entries(&made).map(Lazy::of) } else { Ok(made) }
        });
    }
    for (name, original) in
        [("int", Value::from_function(engines::int)), ("float", Value::from_function(engines::float))]
    {
        engine.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            if args.first().is_some_and(Value::is_undefined) {
                return Err(refuse("a number of a value that is not defined"));
            }
            original.call(state, &args)
        });
    }
    let original = Value::from_function(engines::format);
    engine.add_filter("format", move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let args = args.into_values();
        let form = args.first().and_then(Value::as_str).unwrap_or_default().replace("%%", "");
        let n = args.iter().skip(1).filter(|value| !value.is_kwargs()).count();
        if n > form.matches('%').count() + form.matches('*').count() || args.iter().any(is_shown_otherwise) {
            return Err(refuse("format of more values than it names, or of a list with text beyond ASCII"));
        }
        original.call(state, &args)
    });
    for name in ["attr", "pprint", "bool", "split", "lines", "chain", "zip"] {
        engine.remove_filter(name);
    }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}

/// `str` of a value that a filter takes for text; what `safe` made would stay marked in Jinja.
fn text(value: &Value) -> Result<String, Error> {
    match value.downcast_object_ref::<Marked>() {
        Some(_) => Err(refuse("a filter of a plain object")),
        None => python::str(value),
    }
}

fn trim(value: &Value, chars: Option<String>) -> Result<Value, Error> {
    let text = text(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).into(),
        None => text.trim_matches(is_space).into(),
    })
}

fn replace(value: &Value, from: &Value, to: &Value, most: Option<i64>) -> Result<String, Error> {
    let (text, from, to) = (text(value)?, python::str(from)?, python::str(to)?);
    let n = match from.is_empty() {
        true => text.chars().count() + 1,
        false => text.matches(&from).count(),
    };
    refuse_long(text.len() + n * to.len())?;
    Ok(match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => text.replacen(&from, &to, most),
        None => text.replace(&from, &to),
    })
}

fn join(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut args = args.into_values();
    let options = match args.last().is_some_and(Value::is_kwargs) {
        true => Kwargs::try_from(args.pop().unwrap_or_default())?,
        false => Kwargs::from_iter(std::iter::empty::<(String, Value)>()),
    };
    let given = |at: usize, name| match args.get(at) {
        None if options.has(name) => options.get::<Value>(name).map(Some),
        given => Ok::<_, Error>(given.cloned()),
    };
    let (between, attribute) = (given(0, "d")?, given(1, "attribute")?);
    options.assert_all_used()?;
    let between = between.map_or(Ok(String::new()), |between| python::str(&between))?;
    let mut parts = Vec::new();
    for entry in entries(value)? {
        let entry = match attribute.as_ref().filter(|name| !name.is_none()) {
            None => entry,
            Some(name) => {
                let name = name
                    .as_str()
                    .filter(|name| !name.contains('.'))
                    .ok_or_else(|| refuse("join by no plain attribute"))?;
                if entry.kind() != ValueKind::Map {
                    return Err(refuse("join by an attribute of what is no object"));
                }
                entry.get_item(&name.into())?
            }
        };
        parts.push(python::str(&entry)?);
    }
    refuse_long(parts.iter().map(String::len).sum::<usize>() + parts.len() * between.len())?;
    Ok(parts.join(&between))
}

/// Refuses a text that would take more memory than any chat.
pub(super) fn refuse_long(n_bytes: usize) -> Result<(), Error> {
    const MOST: usize = 64 << 20;
    if n_bytes > MOST { Err(refuse("a text of more than 64 MiB")) } else { Ok(()) }
}

/// Refuses entries without an order.
fn refuse_mixed(args: &[Value]) -> Result<(), Error> {
    let options = args.last().filter(|options| options.is_kwargs());
    let by = options.map(|options| options.get_item(&"attribute".into())).transpose()?.filter(|by| !by.is_undefined());
    let key = |entry: Value| match by.as_ref().and_then(Value::as_str).filter(|name| !name.contains('.')) {
        Some(name) => entry.get_item(&name.into()),
        None => Ok(entry),
    };
    let Some(first) = args.first().filter(|first| !first.is_undefined()) else { return Ok(()) };
    let keys = entries(first)?.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
    keys.windows(2).try_for_each(|two| order(&two[0], &two[1]).map(drop))
}

/// A list of what is no list yet, and the other way round.
fn reverse(value: &Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().rev().collect::<String>().into());
    }
    let is_lazy = value.downcast_object_ref::<Lazy>().is_some();
    let mut entries = entries(value)?;
    entries.reverse();
    Ok(if is_lazy { Value::from(entries) } else { Lazy::of(entries) })
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
    let text = value.as_str().ok_or_else(|| refuse("indent of what is no text"))?.to_owned() + "\n";
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
    Ok(style.of(&python::json(value, 0)?).into())
}
