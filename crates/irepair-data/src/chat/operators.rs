//! Operators and loops as Python has them, as functions that `rewrite.rs` writes into a template.

use std::cmp::Ordering;

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::filters::refuse_long;
use super::lazy::{self, Lazy, Range, View, is_list};
use super::object::{Marked, Method, is_dict_method};
use super::python;

pub(super) const CONCAT: &str = "_concat_";
pub(super) const COMPARE: &str = "_compare_";
pub(super) const TIMES: &str = "_times_";
pub(super) const ENTRY: &str = "_entry_";
pub(super) const EACH: &str = "_each_";
pub(super) const SLICED: &str = "_sliced_";
pub(super) const ATTRIBUTE: &str = "_attribute_";

/// Methods of Python's texts and lists; as attributes that are not called they are true.
const OF_TEXTS: &str = "capitalize casefold center count encode endswith expandtabs find index isalnum isalpha isascii \
    isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip maketrans \
    partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith \
    strip swapcase title translate upper zfill format format_map";
const OF_LISTS: &str = "index count copy";
const OF_NUMBERS: &str = "real imag numerator denominator is_integer bit_length bit_count conjugate as_integer_ratio \
    to_bytes from_bytes hex fromhex";

/// True for the name of a method of texts, lists or dictionaries.
pub(super) fn is_method(name: &str) -> bool {
    has(OF_TEXTS, name) || has(OF_LISTS, name) || has(OF_NUMBERS, name) || is_dict_method(name)
}

fn has(names: &str, name: &str) -> bool {
    names.split_whitespace().any(|known| known == name)
}

fn refuse(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// Adds the functions.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_function(CONCAT, |parts: Rest<Value>| -> Result<String, Error> {
        parts.iter().map(python::str).collect::<Result<_, _>>()
    });
    engine.add_function(EACH, |values: Value| -> Result<Value, Error> {
        if values.is_undefined() || values.kind() == ValueKind::Map {
            Ok(values)
        } else {
            lazy::entries(&values).map(Value::from)
        }
    });
    engine.add_function(SLICED, |value: Value| -> Result<Value, Error> {
        match value.downcast_object_ref::<Lazy>() {
            Some(_) => Err(refuse("a filter's result is cut before it is made a list".to_owned())),
            None => Ok(value),
        }
    });
    engine.add_function(COMPARE, |parts: Rest<Value>| compare(&parts));
    engine.add_function(TIMES, |a: Value, b: Value| times(&a, &b));
    engine.add_function(ENTRY, |value: Value, key: Value| entry(&value, &key));
    engine.add_function(ATTRIBUTE, |value: Value, name: &str| attribute(&value, name));
}

/// The text of a text, marked or not.
fn text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.downcast_object_ref::<Marked>().map(|text| text.0.as_str()))
}

fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    let method = || Ok(Value::from_object(Method));
    match value.kind() {
        _ if text(value).is_some() && has(OF_TEXTS, name) => method(),
        // A namespace has the attributes that were given to it, and no methods.
        ValueKind::Map if is_dict_method(name) && !python::is_namespace(value) => method(),
        ValueKind::Seq if has(OF_LISTS, name) && !(value.is_tuple() && name == "copy") => method(),
        ValueKind::Number | ValueKind::Bool if has(OF_NUMBERS, name) => Err(refuse(format!("`{name}` of a number"))),
        _ => value.get_attr(name),
    }
}

/// `value[key]`: an entry, or else an attribute of that name.
fn entry(value: &Value, key: &Value) -> Result<Value, Error> {
    let is_float = key.kind() == ValueKind::Number && !key.is_integer();
    let has_no_numbers = [value.downcast_object_ref::<Lazy>().is_some(), value.downcast_object_ref::<View>().is_some()];
    if is_float && value.kind() != ValueKind::Map || has_no_numbers.contains(&true) {
        return Ok(Value::UNDEFINED);
    }
    let found = value.get_item(key)?;
    match key.as_str().filter(|_| found.is_undefined()) {
        Some(name) if is_method(name) => attribute(value, name),
        _ => Ok(found),
    }
}

/// `a < b == c`: values and signs in turn.
fn compare(parts: &[Value]) -> Result<bool, Error> {
    for three in parts.windows(3).step_by(2) {
        let (a, b) = (&three[0], &three[2]);
        let is_true = match three[1].as_str().unwrap_or_default() {
            "==" => is_equal(a, b)?,
            "!=" => !is_equal(a, b)?,
            "in" => is_in(a, b)?,
            "not in" => !is_in(a, b)?,
            "<" => order(a, b)?.is_lt(),
            "<=" => order(a, b)?.is_le(),
            ">" => order(a, b)?.is_gt(),
            _ => order(a, b)?.is_ge(),
        };
        if !is_true {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_equal(a: &Value, b: &Value) -> Result<bool, Error> {
    if let (Some(a), Some(b)) = (text(a), text(b)) {
        return Ok(a == b);
    }
    let is_unlisted = |value: &Value| value.kind() == ValueKind::Iterable && !is_list(value);
    match (is_unlisted(a), is_unlisted(b)) {
        (true, true) => match (a.downcast_object_ref::<Range>(), b.downcast_object_ref::<Range>()) {
            (Some(a), Some(b)) => Ok(a == b),
            _ => Err(refuse("two values that are no lists yet are compared".to_owned())),
        },
        (false, false) => Ok(a == b),
        _ => Ok(false),
    }
}

/// The order of two values that Python orders.
///
/// # Errors
/// For values of two kinds, and of kinds without an order.
pub(super) fn order(a: &Value, b: &Value) -> Result<Ordering, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if let (Some(a), Some(b)) = (text(a), text(b)) {
        return Ok(a.cmp(b));
    }
    if is_number(a) && is_number(b) {
        let order = a.partial_cmp(b);
        return order.ok_or_else(|| refuse("two numbers without an order are compared".to_owned()));
    }
    if is_list(a) && is_list(b) && a.is_tuple() == b.is_tuple() {
        let [a, b] = [lazy::entries(a)?, lazy::entries(b)?];
        for (a, b) in a.iter().zip(&b) {
            if !is_equal(a, b)? {
                return order(a, b);
            }
        }
        return Ok(a.len().cmp(&b.len()));
    }
    Err(refuse(format!("a {} and a {} have no order", a.kind(), b.kind())))
}

/// `value in of`.
fn is_in(value: &Value, of: &Value) -> Result<bool, Error> {
    if let Some(of) = text(of) {
        let part = text(value).ok_or_else(|| refuse(format!("a {} is looked for in a text", value.kind())))?;
        return Ok(of.contains(part));
    }
    for entry in lazy::entries(of)? {
        if is_equal(&entry, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `a * b`.
fn times(a: &Value, b: &Value) -> Result<Value, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let whole = |value: &Value| {
        let number = if value.kind() == ValueKind::Bool { Some(i128::from(value.is_true())) } else { None };
        number.or_else(|| i128::try_from(value.clone()).ok().filter(|_| value.is_integer()))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => {
            a.checked_mul(b).map(Value::from).ok_or_else(|| refuse("a whole number over 128 bits".to_owned()))
        }
        (None, None) if !is_number(a) || !is_number(b) => Err(refuse(format!("a {} times a {}", a.kind(), b.kind()))),
        (Some(n), None) if !is_number(b) => repeated(b, n),
        (None, Some(n)) if !is_number(a) => repeated(a, n),
        _ => Ok(Value::from(f64::try_from(a.clone())? * f64::try_from(b.clone())?)),
    }
}

fn repeated(value: &Value, n: i128) -> Result<Value, Error> {
    let n = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
    if let Some(text) = value.as_str() {
        refuse_long(text.len().saturating_mul(n))?;
        return Ok(text.repeat(n).into());
    }
    if !is_list(value) || value.is_tuple() {
        return Err(refuse(format!("a {} times a number", value.kind())));
    }
    let entries = lazy::entries(value)?;
    refuse_long(entries.len().saturating_mul(n).saturating_mul(64))?;
    Ok(Value::from(std::iter::repeat_n(entries, n).flatten().collect::<Vec<_>>()))
}
