//! Rotary positions: the angles by which queries and keys are rotated, read from `rope_parameters` or the older keys.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Result;
use crate::setting::{Flag, Positive, settings, unsupported};

/// Rotary position embedding over the first `n_rotated` values of a head: value `i` is paired with value `i + n_rotated
/// / 2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head that are rotated; even.
    pub n_rotated: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// How the wavelengths are scaled.
    pub scaling: RopeScaling,
}

/// How wavelengths are stretched for texts longer than the model was pre-trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long ones by a factor, short ones not at all, those between by a mixture (Llama 3).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths over `original / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths under `original / high_freq_factor` are left.
        high_freq_factor: f64,
        /// Context of the pre-training, in tokens.
        original: f64,
    },
    /// A ramp over the dimensions, and a factor on the cosines and sines (arXiv 2309.00071).
    Yarn {
        /// The factor.
        factor: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Turns over `original` tokens above which a dimension is left.
        beta_fast: f64,
        /// Turns over `original` tokens below which a dimension is stretched in full.
        beta_slow: f64,
        /// Context of the pre-training, in tokens.
        original: f64,
        /// Whether the ends of the ramp are whole dimensions.
        truncate: bool,
    },
}

/// The keys of `rope_parameters` and of the older `rope_scaling`.
#[derive(Deserialize)]
struct Config {
    rope_theta: Option<Positive>,
    factor: Option<Positive>,
    low_freq_factor: Option<Positive>,
    high_freq_factor: Option<Positive>,
    original_max_position_embeddings: Option<Positive>,
    attention_factor: Option<Positive>,
    beta_fast: Option<Positive>,
    beta_slow: Option<Positive>,
    mscale: Option<Positive>,
    mscale_all_dim: Option<Positive>,
    truncate: Option<Flag>,
    partial_rotary_factor: Option<Positive>,
}

impl Rope {
    /// Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before), for heads that are rotated
    /// whole.
    ///
    /// The base comes from the nearest of the two places that names it, and has no default: a wrong one gives fluent
    /// wrong text. Types are those of `modeling_rope_utils.py` in transformers 5.
    pub(crate) fn read(raw: &Map<String, Value>, path: &Path, head_dim: usize, n_positions: usize) -> Result<Self> {
        let wrong = |key: &str, want: &str| unsupported(raw, path, key, want);
        let given = |key: &'static str| raw.get(key).filter(|value| !value.is_null()).map(|value| (key, value));
        let (new, old) = (given("rope_parameters"), given("rope_scaling"));
        if let (Some((_, new)), Some((key, old))) = (new, old)
            && new != old
        {
            return Err(wrong(key, &format!("the same as `rope_parameters`, {new}")));
        }
        let (place, table) = match new.or(old) {
            None => ("rope_parameters", Map::new()),
            Some((place, Value::Object(table))) => (place, table.clone()),
            Some((place, _)) => return Err(wrong(place, "an object")),
        };
        let inside = |key: &str| format!("{place}.{key}");
        if let Some((key, _)) = table.iter().find(|(_, value)| value.is_object()) {
            return Err(wrong(&inside(key), "one setting for all blocks"));
        }
        let config: Config = settings(&table, path, &[]).map_err(|error| error.below(place))?;
        let theta = match (config.rope_theta, given("rope_theta")) {
            (Some(theta), None) => theta.0,
            (inner, Some((key, outer))) => {
                let outer = outer.as_f64().filter(|x| *x > 0.0 && x.is_finite());
                let outer = outer.ok_or_else(|| wrong(key, "a number over 0"))?;
                if inner.is_some_and(|inner| inner.0 != outer) {
                    return Err(wrong(&inside("rope_theta"), &format!("the value of `rope_theta`, {outer}")));
                }
                outer
            }
            (None, None) => return Err(wrong("rope_theta", "the base of the rotary positions")),
        };
        let partial = given("partial_rotary_factor").is_some_and(|(_, share)| share.as_f64() != Some(1.0));
        if partial || config.partial_rotary_factor.is_some_and(|share| share.0 != 1.0) {
            return Err(wrong("partial_rotary_factor", "1: heads that are rotated whole"));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(wrong("head_dim", "an even number"));
        }
        let need = |key: &str, value: Option<Positive>| {
            value.map(|v| v.0).ok_or_else(|| wrong(&inside(key), "a number over 0"))
        };
        let factor = || need("factor", config.factor);
        let kind = ["rope_type", "type"].into_iter().find_map(|key| Some((key, table.get(key)?)));
        if table.get("type").is_some_and(|older| kind.is_some_and(|(_, kind)| kind != older)) {
            return Err(wrong(&inside("type"), &format!("the value of `{}`", inside("rope_type"))));
        }
        let inner = config.original_max_position_embeddings.map(|n| n.0);
        // transformers 5 takes the outer one, transformers 4 the inner one.
        if let Some((key, outer)) = given("original_max_position_embeddings")
            && kind.is_some_and(|(_, kind)| kind == "llama3" || kind == "yarn")
            && outer.as_f64() != inner
        {
            return Err(wrong(key, &format!("the value of `{}`", inside(key))));
        }
        let original = inner.unwrap_or(n_positions as f64);
        let scaling = match kind.map(|(key, kind)| (key, kind.as_str())) {
            None | Some((_, Some("default"))) if config.factor.is_some_and(|factor| factor.0 != 1.0) => {
                return Err(wrong(&inside("rope_type"), "the kind of scaling that `factor` is of"));
            }
            None | Some((_, Some("default"))) => RopeScaling::None,
            Some((_, Some("linear"))) => RopeScaling::Linear { factor: factor()? },
            Some((_, Some("llama3"))) => {
                let low_freq_factor = need("low_freq_factor", config.low_freq_factor)?;
                let high_freq_factor = need("high_freq_factor", config.high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    let want = format!("over low_freq_factor, {low_freq_factor}");
                    return Err(wrong(&inside("high_freq_factor"), &want));
                }
                let original = need("original_max_position_embeddings", config.original_max_position_embeddings)?;
                RopeScaling::Llama3 { factor: factor()?, low_freq_factor, high_freq_factor, original }
            }
            Some((_, Some("yarn"))) => {
                let factor = factor()?;
                let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                RopeScaling::Yarn {
                    factor,
                    attention_factor: match (config.attention_factor, config.mscale, config.mscale_all_dim) {
                        (Some(given), _, _) => given.0,
                        (None, Some(m), Some(all)) => scale(m.0) / scale(all.0),
                        (None, _, _) => scale(1.0),
                    },
                    beta_fast: config.beta_fast.map_or(32.0, |b| b.0),
                    beta_slow: config.beta_slow.map_or(1.0, |b| b.0),
                    original,
                    truncate: config.truncate.is_none_or(|t| t.0),
                }
            }
            Some((key, _)) => return Err(wrong(&inside(key), "one of default, linear, llama3, yarn")),
        };
        Ok(Self { n_rotated: head_dim, theta, scaling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Result<Rope> {
        let Value::Object(raw) = config else { unreachable!() };
        Rope::read(&raw, Path::new("config.json"), 8, 64)
    }

    fn refused_key(config: Value) -> String {
        match read(config) {
            Err(crate::Error::Unsupported { key, .. }) => key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_base_comes_from_either_place_and_is_never_made_up() {
        assert_eq!(read(json!({"rope_theta": 5e5})).unwrap().theta, 5e5);
        assert_eq!(read(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 3.0}})).unwrap().theta, 3.0);
        // transformers 4 and an editor's half-filled file: the type inside, the base outside.
        let half = json!({"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2.0}});
        assert_eq!(
            read(half).unwrap(),
            Rope { n_rotated: 8, theta: 7.0, scaling: RopeScaling::Linear { factor: 2.0 } }
        );
        assert_eq!(refused_key(json!({})), "rope_theta");
        assert_eq!(refused_key(json!({"rope_parameters": {"rope_type": "default"}})), "rope_theta");
        assert_eq!(
            refused_key(json!({"rope_theta": 2.0, "rope_parameters": {"rope_theta": 3.0}})),
            "rope_parameters.rope_theta"
        );
    }

    #[test]
    fn unknown_and_half_given_types_are_refused_by_key() {
        let with = |table: Value| refused_key(json!({"rope_theta": 1e4, "rope_scaling": table}));
        assert_eq!(with(json!({"type": "su", "factor": 2.0})), "rope_scaling.type");
        assert_eq!(with(json!({"rope_type": "linear"})), "rope_scaling.factor");
        assert_eq!(with(json!({"rope_type": "linear", "factor": "2"})), "rope_scaling.factor");
        assert_eq!(with(json!({"rope_type": "llama3", "factor": 8.0})), "rope_scaling.low_freq_factor");
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        assert_eq!(with(llama3), "rope_scaling.original_max_position_embeddings");
        assert_eq!(with(json!({"factor": 4.0})), "rope_scaling.rope_type");
        assert_eq!(with(json!({"rope_type": "default", "factor": 4.0})), "rope_scaling.rope_type");
        assert_eq!(with(json!({"rope_type": "default", "type": "linear", "factor": 4.0})), "rope_scaling.type");
        assert_eq!(with(json!({"rope_type": "yarn", "type": "linear", "factor": 4.0})), "rope_scaling.type");
        assert_eq!(with(json!([])), "rope_scaling");
        let two = json!({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0},
                         "rope_parameters": {"rope_type": "linear", "factor": 4.0}});
        assert_eq!(refused_key(two), "rope_scaling");
    }

    #[test]
    fn yarns_attention_factor_follows_the_paper() {
        let yarn = |more: Value| {
            let mut table = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
            table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match read(json!({"rope_theta": 1e4, "rope_scaling": table})).unwrap().scaling {
                RopeScaling::Yarn { attention_factor, original, .. } => (attention_factor, original),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(yarn(json!({})), (0.1 * 4f64.ln() + 1.0, 32.0));
        assert_eq!(yarn(json!({"attention_factor": 0.5})).0, 0.5);
        assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0})).0, 1.0);
    }
}
