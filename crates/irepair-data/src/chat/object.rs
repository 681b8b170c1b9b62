//! Objects and lists of a chat as Python has them: a method's name comes before a key, and a text of them is `repr`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

use super::python;

/// Methods of a dictionary that a template may have; as attributes they hide keys of the same names.
const METHODS: [&str; 6] = ["items", "keys", "values", "get", "copy", "fromkeys"];
/// Methods that would change it, which the sandbox of transformers hides, and the keys with them.
const HIDDEN: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// A dictionary.
struct Dict {
    keys: Vec<Value>,
    values: HashMap<String, Value>,
}

/// A list.
struct List(Vec<Value>);

/// A method that is not called.
#[derive(Debug)]
pub(super) struct Method;

/// Text of the filters `safe` and `escape`: Jinja's `Markup`, which escapes what `+` joins to it. It can be printed and
/// joined with `~`, and is no string for anything else, so that all else is refused.
#[derive(Debug)]
pub(super) struct Marked(pub(super) String);

/// The value of a template's variable.
pub(super) fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => Value::from_object(List(list.iter().map(value_of).collect())),
        Json::Object(map) => Value::from_object(Dict {
            keys: map.keys().map(|key| key.as_str().into()).collect(),
            values: map.iter().map(|(key, value)| (key.clone(), value_of(value))).collect(),
        }),
    }
}

/// `repr` of what is in a record, which has one.
fn shown(value: &Value) -> String {
    python::repr(value, 0).unwrap_or_default()
}

/// True for the name of a dictionary's method that a template may have.
pub(super) fn is_dict_method(name: &str) -> bool {
    METHODS.contains(&name)
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key.as_str()?).cloned()
    }

    /// An attribute, `message.content`.
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if METHODS.contains(&key) {
            return Some(Value::from_object(Method));
        }
        self.values.get(key).filter(|_| !HIDDEN.contains(&key)).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.clone())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |key: &Value| {
            let value = key.as_str().and_then(|key| self.values.get(key)).cloned().unwrap_or_default();
            format!("{}: {}", shown(key), shown(&value))
        };
        write!(f, "{{{}}}", self.keys.iter().map(entry).collect::<Vec<_>>().join(", "))
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.iter().map(shown).collect::<Vec<_>>().join(", "))
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl Object for Marked {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Error::new(ErrorKind::InvalidOperation, "a part of a plain object").into())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.0.is_empty()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
