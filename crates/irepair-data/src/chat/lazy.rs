//! What filters give that is no list yet: it is true although it may be empty, has no length, and can be read once.

use std::fmt;
use std::sync::{Arc, Mutex};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A generator of Python: the entries that were not read so far.
pub(super) struct Lazy(Mutex<Option<std::vec::IntoIter<Value>>>);

impl Lazy {
    pub(super) fn of(entries: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(Some(entries.into_iter()))))
    }

    /// All entries that are left.
    fn rest(&self) -> Vec<Value> {
        self.0.lock().ok().and_then(|mut entries| entries.take()).into_iter().flatten().collect()
    }

    /// The next entry.
    pub(super) fn next(&self) -> Option<Value> {
        self.0.lock().ok()?.as_mut()?.next()
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a filter's result that is no list")
    }
}

impl Object for Lazy {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        // Whatever reads it knows it by its type; the engine's own operations on it are not those of Python.
        let why = "a filter's result is used before it is made a list, with `|list`";
        Enumerator::Iter(Box::new(std::iter::once(Value::from(Error::new(ErrorKind::InvalidOperation, why)))))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// What `range` gives: no list, although it has a length and entries by number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    start: i64,
    step: i64,
    n: usize,
}

impl Range {
    /// # Errors
    /// For more numbers than the sandbox of Jinja allows, and a step of 0.
    pub(super) fn of(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        const MOST: i128 = 100_000;
        let (start, stop) = second.map_or((0, first), |second| (first, second));
        let (step, length) = (step.unwrap_or(1), i128::from(stop) - i128::from(start));
        let step_wide = i128::from(step);
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidOperation, why.to_owned()));
        if step == 0 {
            return refuse("range with a step of 0");
        }
        let n = if (length > 0) == (step > 0) { (length.abs() + step_wide.abs() - 1) / step_wide.abs() } else { 0 };
        if n > MOST {
            return refuse("range of more than 100,000 numbers");
        }
        Ok(Value::from_object(Self { start, step, n: n as usize }))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = i64::try_from(key.clone()).ok().filter(|_| key.is_integer())?;
        let at = if at < 0 { at + self.n as i64 } else { at };
        (0..self.n as i64).contains(&at).then(|| Value::from(self.start + at * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.n)
    }
}

/// Keys, values or items of a dictionary: no list, although they have a length.
#[derive(Debug)]
pub(super) struct View(pub(super) Vec<Value>);

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.clone())
    }
}

/// True for a list or a tuple; what the engine gives for a sum or a part of lists is one too.
pub(super) fn is_list(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Seq => true,
        ValueKind::Iterable => {
            value.downcast_object_ref::<Lazy>().is_none()
                && value.downcast_object_ref::<Range>().is_none()
                && value.downcast_object_ref::<View>().is_none()
        }
        _ => false,
    }
}

/// The entries of a value that Python iterates over; of text the characters, of what is not defined none.
///
/// # Errors
/// For what has no entries: none, numbers, text of `safe`.
pub(super) fn entries(value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(lazy) = value.downcast_object_ref::<Lazy>() {
        return Ok(lazy.rest());
    }
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "none has no entries"));
    }
    value.try_iter()?.checked().collect()
}
