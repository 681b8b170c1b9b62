//! The template engine, set up as transformers sets up Jinja: trimmed blocks, loop controls, its functions and filters.

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use super::lazy::Range;
use super::methods::method;
use super::object::{Marked, Method};
use super::{filters, operators, python};

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
    engine.set_formatter(|out, _, value| match value.downcast_object_ref::<Marked>() {
        Some(Marked(text)) => Ok(out.write_str(text)?),
        None => Ok(out.write_str(&python::text(value)?)?),
    });
    filters::add(&mut engine);
    operators::add(&mut engine);
    engine.remove_global("debug");
    engine.add_test("string", |value: &Value| value.kind() == ValueKind::String || is_marked(value));
    engine.add_test("iterable", |value: &Value| {
        is_text(value) || is_marked(value) || has_entries(value) || value.kind() == ValueKind::Iterable
    });
    engine.add_test("escaped", |value: &Value| is_marked(value));
    engine.add_test("odd", |value: &Value| remainder(value).map(|left| left == 1.0));
    engine.add_test("even", |value: &Value| remainder(value).map(|left| left == 0.0));
    engine.add_test("sequence", |value: &Value| {
        is_text(value) || is_marked(value) || has_entries(value) || value.downcast_object_ref::<Range>().is_some()
    });
    engine.add_function("range", |first: i64, second: Option<i64>, step: Option<i64>| Range::of(first, second, step));
    // Jinja has them, and a template may ask whether they are there; what they give is not computed.
    for name in ["cycler", "joiner", "lipsum", "self"] {
        engine.add_global(name, Value::from_object(Method));
    }
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
        (_, Some(why)) if why.contains("plain object") => {
            format!("{why}: text of `safe` and `escape` can be printed and joined with `~`, not with `+`")
        }
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Text, or what is not defined, which Jinja takes for an empty text.
fn is_text(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Undefined)
}

fn is_marked(value: &Value) -> bool {
    value.downcast_object_ref::<Marked>().is_some()
}

/// `value % 2`.
fn remainder(value: &Value) -> Result<f64, Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Bool => Ok(f64::try_from(value.clone())?.rem_euclid(2.0)),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("a {kind} is no number"))),
    }
}

fn has_entries(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map)
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
