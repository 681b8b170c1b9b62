//! Typed reading of a `config.json`: a serde struct made of these types, whose errors name the key that is wrong.

use std::path::Path;

use irepair_core::printable;
use irepair_core::weights::{INDEX, WEIGHTS};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{Activation, Error, Result};

/// Reads a family's settings. `aliases` are pairs of (the key transformers also accepts, the family's own key); where
/// both are given they must agree.
///
/// # Errors
/// [`Error::Unsupported`], naming the first key that is missing or wrong.
pub fn settings<T: DeserializeOwned>(raw: &Map<String, Value>, path: &Path, aliases: &[(&str, &str)]) -> Result<T> {
    let mut own = raw.clone();
    for &(alias, key) in aliases {
        match (raw.get(alias), raw.get(key)) {
            (Some(other), Some(value)) if other != value => {
                return Err(unsupported(raw, path, alias, &format!("the value of `{key}`, {value}")));
            }
            (Some(other), None) => drop(own.insert(key.to_owned(), other.clone())),
            _ => {}
        }
    }
    serde_path_to_error::deserialize(&Value::Object(own)).map_err(|error| {
        let message = error.inner().to_string();
        // serde names a missing key in its message and not in its path.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let key = error.path().to_string();
        match missing {
            Some(missing) => unsupported(raw, path, missing, "a value"),
            None => unsupported(raw, path, &key, &message),
        }
    })
}

/// The error of a key whose value is not `want`.
pub fn unsupported(raw: &Map<String, Value>, path: &Path, key: &str, want: &str) -> Error {
    let whole = Value::Object(raw.clone());
    let found = key.split('.').try_fold(&whole, |at, part| at.get(part));
    let got = found.map_or("nothing".to_owned(), |value| {
        let shown = value.to_string();
        if shown.chars().count() > 60 { shown.chars().take(60).chain(['…']).collect() } else { shown }
    });
    Error::Unsupported { path: path.to_owned(), key: printable(key), want: want.to_owned(), got }
}

/// Refuses the settings under which transformers would build another model than ours, whatever the family. Other
/// unknown keys are ignored by the model code there as well, or are dropout, which is off everywhere (METHOD §17).
///
/// # Errors
/// [`Error::Unsupported`], naming the key.
pub fn refuse_changed_models(raw: &Map<String, Value>, path: &Path) -> Result<()> {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for (key, want) in [
        ("add_cross_attention", "false"),
        ("quantization_config", "weights that are not quantised"),
        ("pruned_heads", "no pruned attention heads"),
        ("per_layer_config", "the same settings for every block"),
        ("configuration_files", "no other file of settings: transformers would read one of these instead"),
    ] {
        if raw.get(key).is_some_and(|value| !empty(value)) {
            return Err(unsupported(raw, path, key, want));
        }
    }
    // transformers reads this file and no other.
    if raw.get("transformers_weights").is_some_and(|file| !file.is_null() && file != WEIGHTS && file != INDEX) {
        return Err(unsupported(raw, path, "transformers_weights", &format!("{WEIGHTS} or {INDEX}")));
    }
    if raw.get("auto_map").is_some_and(|value| !empty(value) && !is_its_own_class(raw, value)) {
        return Err(unsupported(raw, path, "auto_map", "a model without code of its own"));
    }
    // transformers takes every other value for attention to later tokens too.
    if raw.get("is_causal").is_some_and(|value| value != &Value::Bool(true)) {
        return Err(unsupported(raw, path, "is_causal", "true: attention to earlier tokens only"));
    }
    // transformers takes a null for itself and not for the default.
    let no_null = "activation activation_function hidden_act hidden_activation layer_norm_eps layer_norm_epsilon \
                   rms_norm_eps scale_attn_weights";
    match no_null.split(' ').find(|key| raw.get(*key).is_some_and(Value::is_null)) {
        Some(key) => Err(unsupported(raw, path, key, "a value")),
        None => Ok(()),
    }
}

/// Whether the code that a file names is the one that transformers has for its `model_type`, as in files that are older
/// than the class there: the published Phi-3 name `modeling_phi3.Phi3ForCausalLM`.
fn is_its_own_class(raw: &Map<String, Value>, auto_map: &Value) -> bool {
    let Some(model_type) = raw.get("model_type").and_then(Value::as_str) else { return false };
    let own = [format!("configuration_{model_type}."), format!("modeling_{model_type}.")];
    let is_own = |class: &Value| {
        let class = class.as_str().map(|class| class.rsplit("--").next().unwrap_or(class));
        class.is_some_and(|class| own.iter().any(|own| class.starts_with(own.as_str())))
    };
    auto_map.as_object().is_some_and(|map| map.values().all(is_own))
}

/// Refuses a flag that is on.
///
/// # Errors
/// [`Error::Unsupported`], naming the key.
pub fn refuse_on(raw: &Map<String, Value>, path: &Path, key: &str, want: &str) -> Result<()> {
    match raw.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(_) => Err(unsupported(raw, path, key, want)),
    }
}

/// Defines a type that is read from one JSON value, or refused with what is supported.
macro_rules! setting {
    ($(#[$meta:meta])* $name:ident($inner:ty): $want:expr, $read:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(
            /// The value.
            pub $inner,
        );

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = Value::deserialize(deserializer)?;
                let read: fn(&Value) -> Option<$inner> = $read;
                read(&value).map(Self).ok_or_else(|| D::Error::custom($want))
            }
        }
    };
}

setting!(
    /// A size that a real model can have: the bound keeps hostile numbers from becoming allocations.
    Size(usize): "a whole number of 1 to 16777216",
    |value| value.as_u64().filter(|n| (1..=1 << 24).contains(n)).map(|n| n as usize)
);
setting!(
    /// A finite number of at least 0.
    NotNegative(f64): "a number of at least 0",
    |value| value.as_f64().filter(|x| *x >= 0.0 && x.is_finite())
);
setting!(
    /// A finite number over 0.
    Positive(f64): "a number over 0",
    |value| value.as_f64().filter(|x| *x > 0.0 && x.is_finite())
);
setting!(
    /// One token id.
    TokenId(u32): "a token id",
    token_id
);
setting!(
    /// A flag.
    Flag(bool): "true or false",
    Value::as_bool
);
setting!(
    /// A non-linearity by any of its names.
    Act(Activation): "gelu_new, gelu_pytorch_tanh, gelu_fast, gelu, relu, silu, swish or tanh",
    |value| Some(match value.as_str()? {
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "gelu" => Activation::Gelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        "tanh" => Activation::Tanh,
        _ => return None,
    })
);

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Token ids: one, or a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ids(
    /// The ids.
    pub Vec<u32>,
);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let list = if let Value::Array(list) = value { list } else { vec![value] };
        let ids: Option<_> = list.iter().map(token_id).collect();
        ids.map(Self).ok_or_else(|| D::Error::custom("a token id or a list of them"))
    }
}
