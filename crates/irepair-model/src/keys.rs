//! Typed look-ups in a `config.json` that name the key when they fail.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::AttentionSpan;
use crate::{Error, Result};

/// Typed look-ups that name the key when they fail.
pub(crate) struct Keys<'a> {
    pub(crate) raw: &'a Map<String, Value>,
    pub(crate) path: &'a Path,
}

impl<'a> Keys<'a> {
    pub(crate) fn unsupported(&self, key: &str, want: &str, got: &str) -> Error {
        Error::Unsupported { path: self.path.to_owned(), key: key.into(), want: want.into(), got: got.into() }
    }

    pub(crate) fn wrong(&self, key: &str, want: &str) -> Error {
        let got = self.raw.get(key).map_or("nothing".to_owned(), |v| {
            let mut shown = v.to_string();
            if shown.len() > 60 {
                shown = shown.chars().take(60).chain(['…']).collect();
            }
            shown
        });
        self.unsupported(key, want, &got)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A size that a real model can have: the bound keeps hostile numbers from becoming allocations.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        match self.raw.get(key).and_then(Value::as_u64) {
            Some(n) if (1..=1 << 24).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(key, "a whole number of 1 to 16777216")),
        }
    }

    /// [`Keys::size`] under the family's own name or the one transformers also takes it by; both must then agree.
    pub(crate) fn size_or(&self, key: &str, other_name: &str) -> Result<usize> {
        match (self.raw.get(key), self.raw.get(other_name)) {
            (Some(own), Some(other)) if own != other => {
                Err(self.unsupported(other_name, &format!("the value of `{key}`, {own}"), &other.to_string()))
            }
            (None, Some(_)) => self.size(other_name),
            _ => self.size(key),
        }
    }

    pub(crate) fn not_negative(&self, key: &str, default: f64) -> Result<f64> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number >= 0.0 => Ok(number),
                _ => Err(self.wrong(key, "a number of at least 0")),
            },
        }
    }

    /// Refuses the settings under which transformers would build or read another model than ours. Whatever else is unknown
    /// here is unknown to the model code there as well, or is dropout, which is off everywhere (METHOD §17).
    pub(crate) fn refuse_what_would_change_the_model(&self) -> Result<()> {
        let given = |key: &str| self.raw.get(key).is_some_and(|value| !value.is_null());
        let empty = |key: &str| match self.raw.get(key) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if self.flag("add_cross_attention", false)? {
            return Err(self.wrong("add_cross_attention", "false"));
        }
        // Weights in other units, heads cut out, blocks of different shapes, a model of the checkpoint's own code.
        for (key, want) in [
            ("quantization_config", "weights that are not quantised"),
            ("pruned_heads", "no pruned attention heads"),
            ("per_layer_config", "the same settings for every block"),
            ("auto_map", "a model without code of its own"),
        ] {
            if given(key) && !empty(key) {
                return Err(self.wrong(key, want));
            }
        }
        Ok(())
    }

    /// GPT-Neo's attention pattern: `[[["global", "local"], 12]]` means that pair twelve times.
    pub(crate) fn spans(&self, n_block: usize) -> Result<Vec<AttentionSpan>> {
        let key = "attention_types";
        let want = "a list like [[[\"global\", \"local\"], 12]] that covers every block";
        let groups = self.raw.get(key).and_then(Value::as_array).ok_or_else(|| self.wrong(key, want))?;
        let mut spans = Vec::new();
        for group in groups {
            let kinds = group.get(0).and_then(Value::as_array);
            let (Some(kinds), Some(repeats)) = (kinds, group.get(1).and_then(Value::as_u64)) else {
                return Err(self.wrong(key, want));
            };
            for _ in 0..repeats {
                for kind in kinds {
                    spans.push(match kind.as_str() {
                        Some("global") => AttentionSpan::Global,
                        Some("local") => AttentionSpan::Local(self.size("window_size")?),
                        _ => return Err(self.wrong(key, "global or local attention")),
                    });
                }
                if kinds.is_empty() || spans.len() > n_block {
                    return Err(self.wrong(key, want));
                }
            }
        }
        if spans.len() != n_block {
            return Err(self.wrong(key, want));
        }
        // transformers lets a stored `attention_layers` win over the pattern it follows from.
        let unfolded: Vec<&str> =
            spans.iter().map(|span| if matches!(span, AttentionSpan::Global) { "global" } else { "local" }).collect();
        match self.raw.get("attention_layers") {
            None | Some(Value::Null) => Ok(spans),
            Some(layers) if *layers == Value::from(unfolded) => Ok(spans),
            Some(_) => Err(self.wrong("attention_layers", "what `attention_types` unfolds to")),
        }
    }
}
