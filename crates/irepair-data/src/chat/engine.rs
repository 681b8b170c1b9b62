//! The template engine, set up as transformers sets up Jinja: trimmed blocks, loop controls, its functions and filters.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};

use super::python::{self, is_space};

/// Steps, and 64 bytes of text each, that a rendering may take: far over any chat, far under memory.
const FUEL: u64 = 1 << 20;

/// An engine without templates.
pub(super) fn new() -> Environment<'static> {
    let mut engine = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    engine.set_syntax(syntax.unwrap_or_default());
    engine.set_fuel(Some(FUEL));
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_unknown_method_callback(method);
    engine.set_formatter(|out, _, value| Ok(out.write_str(&python::text(value)?)?));
    engine.add_filter("tojson", tojson);
    engine.add_filter("trim", trim);
    engine.add_filter("string", |value: &Value| python::text(value));
    engine.add_test("iterable", |value: &Value| {
        is_text(value) || has_entries(value) || value.kind() == ValueKind::Iterable
    });
    engine.add_test("sequence", |value: &Value| is_text(value) || has_entries(value));
    engine.add_function("raise_exception", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why).with_source(Raised))
    });
    engine.add_function("strftime_now", strftime_now);
    engine
}

/// Marks an error that the template itself raised.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Raised;

/// An error in one line.
pub(super) fn said(error: &Error) -> String {
    let is_raised = std::error::Error::source(error).is_some_and(|source| source.is::<Raised>());
    match (error.kind(), error.detail()) {
        (_, Some(why)) if is_raised => format!("the template says: {why}"),
        (ErrorKind::OutOfFuel, _) => "the rendering takes too long: it needs more than a million steps".to_owned(),
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// The template with line ends as Jinja has them, and with `{% generation %}` blocks, which mark the assistant's
/// texts for trainers, as blocks of the same scope without an effect.
pub(super) fn settled(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut made, mut rest) = (String::with_capacity(source.len()), &*source);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        made += before;
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        let skipped = tag.len() - word.len();
        rest = tag;
        for (from, to) in [("generation", "with"), ("endgeneration", "endwith")] {
            if let Some(end) = word.strip_prefix(from)
                && end.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
            {
                made += &tag[..skipped];
                made += to;
                rest = end;
            }
        }
    }
    made + rest
}

/// Methods of Python's strings, lists and dictionaries.
fn method(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), method, args) {
        (Some(text), "strip", []) => Ok(text.trim_matches(is_space).into()),
        (Some(text), "lstrip", []) => Ok(text.trim_start_matches(is_space).into()),
        (Some(text), "rstrip", []) => Ok(text.trim_end_matches(is_space).into()),
        (Some(text), "split", []) => Ok(text.split(is_space).filter(|word| !word.is_empty()).collect::<Value>()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Text, or what is not defined, which Jinja takes for an empty text.
fn is_text(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Undefined)
}

fn has_entries(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map)
}

fn trim(value: &Value, chars: Option<String>) -> Result<Value, Error> {
    let text = python::text(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).into(),
        None => text.trim_matches(is_space).into(),
    })
}

/// Python's `json.dumps` with the defaults of transformers.
fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let refuse = |why: &str| Error::new(ErrorKind::InvalidOperation, why.to_owned());
    if value.is_undefined() {
        return Err(refuse("tojson of a value that is not defined"));
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

/// The present time in the form that Python's `strftime` has.
fn strftime_now(form: String) -> Result<String, Error> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let written = write!(text, "{}", chrono::Local::now().format(&form));
    written.map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know the form {form:?}"))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_keep_their_trims_and_nothing_else_is_touched() {
        let made =
            settled("{%- generation -%}a{% endgeneration%}{%generation +%} {% generations %}{% if generation %}");
        assert_eq!(made, "{%- with -%}a{% endwith%}{%with +%} {% generations %}{% if generation %}");
        assert_eq!(settled("{% generation"), "{% generation");
        assert_eq!(settled("a\r\nb\rc\n"), "a\nb\nc\n");
    }

    #[test]
    fn an_exception_of_the_template_is_told_apart() {
        let engine = new();
        let error = engine.render_str("{{ raise_exception('no system role') }}", ()).unwrap_err();
        assert_eq!(said(&error), "the template says: no system role");
        let error = engine.render_str("{{ 1 + 'a' }}", ()).unwrap_err();
        assert!(said(&error).starts_with("invalid operation: "), "{}", said(&error));
    }

    #[test]
    fn the_year_is_that_of_the_clock() {
        let year = new().render_str("{{ strftime_now('%Y-%m') }}", ()).unwrap();
        let now = chrono::Local::now().format("%Y-%m").to_string();
        assert!(year.len() == 7 && year <= now, "{year}");
        assert!(new().render_str("{{ strftime_now('%!') }}", ()).is_err());
    }
}
