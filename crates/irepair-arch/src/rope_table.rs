//! The table of a `config.json` that has the settings of rotary positions, wherever it stands.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Result;
use crate::setting::{Positive, unsupported};

/// Where a table of settings stands, for messages, and the table.
pub(crate) struct Table<'a> {
    pub(crate) raw: &'a Map<String, Value>,
    pub(crate) path: &'a Path,
    pub(crate) place: String,
    pub(crate) table: Map<String, Value>,
}

impl<'a> Table<'a> {
    /// `rope_parameters` (transformers 5) or `rope_scaling` (before), which agree where both are given. Of tables by
    /// kind of block, that of `layer_type`; an older `rope_scaling` is of blocks with full attention.
    pub(crate) fn find(raw: &'a Map<String, Value>, path: &'a Path, layer_type: Option<&str>) -> Result<Self> {
        let given = |key: &'static str| raw.get(key).filter(|value| !value.is_null()).map(|value| (key, value));
        let (new, old) = (given("rope_parameters"), given("rope_scaling"));
        if let (Some((_, new)), Some((key, old))) = (new, old)
            && new != old
        {
            return Err(unsupported(raw, path, key, &format!("the same as `rope_parameters`, {new}")));
        }
        let (place, table) = match (new.or(old), layer_type) {
            (None, _) => ("rope_parameters", Map::new()),
            (Some(("rope_scaling", _)), Some(kind)) if kind != "full_attention" => ("rope_scaling", Map::new()),
            (Some((place, Value::Object(table))), _) => (place, table.clone()),
            (Some((place, _)), _) => return Err(unsupported(raw, path, place, "an object")),
        };
        let nested = table.iter().find(|(_, value)| value.is_object()).map(|(key, _)| key.clone());
        let found = Self { raw, path, place: place.to_owned(), table };
        match (nested, layer_type) {
            // transformers takes nothing from a table of the other form.
            (None, Some(_)) if place == "rope_parameters" && !found.table.is_empty() => {
                Err(unsupported(raw, path, place, "a table for each kind of block"))
            }
            (Some(key), Some(_)) if place == "rope_scaling" => Err(found.wrong(&key, "one setting for all blocks")),
            (None, _) => Ok(found),
            (Some(key), None) => Err(found.wrong(&key, "one setting for all blocks")),
            (Some(_), Some(kind)) => match found.table.get(kind) {
                None | Some(Value::Null) => Ok(Self { place: format!("{place}.{kind}"), table: Map::new(), ..found }),
                Some(Value::Object(inner)) => {
                    Ok(Self { place: format!("{place}.{kind}"), table: inner.clone(), ..found })
                }
                Some(_) => Err(found.wrong(kind, "an object")),
            },
        }
    }

    /// The error of a key inside the table.
    pub(crate) fn wrong(&self, key: &str, want: &str) -> crate::Error {
        unsupported(self.raw, self.path, &format!("{}.{key}", self.place), want)
    }

    /// A number inside the table, or else outside of it, and the same where both are given.
    pub(crate) fn number(&self, key: &str, inner: Option<Positive>, outer: &str) -> Result<Option<f64>> {
        let Some(value) = self.raw.get(outer).filter(|value| !value.is_null()) else { return Ok(inner.map(|n| n.0)) };
        let value = value.as_f64().filter(|x| *x > 0.0 && x.is_finite());
        let value = value.ok_or_else(|| unsupported(self.raw, self.path, outer, "a number over 0"))?;
        if inner.is_some_and(|inner| inner.0 != value) {
            return Err(self.wrong(key, &format!("the value of `{outer}`, {value}")));
        }
        Ok(Some(value))
    }
}
