//! Rotary positions: the angles by which queries and keys are rotated, read from `rope_parameters` or the older keys.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::rope_table::Table;
use crate::setting::{Flag, Positive, settings, unsupported};
use crate::{Error, Result};

/// Rotary position embedding over the first `n_rotated` values of a head: value `i` is paired with value `i + n_rotated
/// / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Values of a head that are rotated; even.
    pub n_rotated: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// How the wavelengths are scaled.
    pub scaling: RopeScaling,
}

/// How wavelengths are stretched for texts longer than the model was pre-trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all. `dynamic` scaling too, which begins beyond the context.
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
    /// Each by a factor of its own, and a factor on the cosines and sines (arXiv 2402.13753).
    LongRope {
        /// Factors for texts of at most `original` tokens.
        short: Vec<f64>,
        /// Factors for longer texts.
        long: Vec<f64>,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Context of the pre-training, in tokens.
        original: f64,
    },
}

/// What families have otherwise about rotary positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RopeForm<'a> {
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// The model's context.
    pub(crate) n_positions: usize,
    /// The older key of the base.
    pub(crate) theta: &'a str,
    /// The older key of the share of a head that is rotated; none where heads are rotated whole.
    pub(crate) share: Option<&'a str>,
    /// The types of scaling that the family knows.
    pub(crate) kinds: &'a [&'a str],
    /// The kind of block, where `rope_parameters` has a table for each.
    pub(crate) layer_type: Option<&'a str>,
}

/// What a missing base asks for.
const BASE: &str = "the base of the rotary positions (files of Llama 1 and 2 without the key mean 10000)";

/// The types of scaling that most families know.
const KINDS: &[&str] = &["default", "linear", "dynamic", "llama3", "yarn"];

impl RopeForm<'_> {
    /// Llama's, of these heads and this context.
    pub(crate) fn llama(head_dim: usize, n_positions: usize) -> Self {
        Self { head_dim, n_positions, theta: "rope_theta", share: None, kinds: KINDS, layer_type: None }
    }
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
    short_factor: Option<Vec<Positive>>,
    long_factor: Option<Vec<Positive>>,
}

impl Rope {
    /// Reads `rope_parameters` (transformers 5) or the older keys with `rope_scaling` (before).
    ///
    /// The base comes from the nearest of the two places that names it, and has no default: a wrong one gives fluent
    /// wrong text. Types are those of `modeling_rope_utils.py` in transformers 5.
    pub(crate) fn read(raw: &Map<String, Value>, path: &Path, form: RopeForm<'_>) -> Result<Self> {
        let found = Table::find(raw, path, form.layer_type)?;
        let wrong = |key: &str, want: &str| unsupported(raw, path, key, want);
        let config: Config = settings(&found.table, path, &[]).map_err(|error| error.below(&found.place))?;
        let theta = found.number("rope_theta", config.rope_theta, form.theta)?;
        let theta = theta.ok_or_else(|| wrong(form.theta, BASE))?;
        let key = form.share.unwrap_or("partial_rotary_factor");
        let share = found.number("partial_rotary_factor", config.partial_rotary_factor, key)?.unwrap_or(1.0);
        if share != 1.0 && form.share.is_none() {
            return Err(wrong(key, "1: heads that are rotated whole"));
        }
        // As transformers rounds it.
        let n_rotated = (form.head_dim as f64 * share) as usize;
        if share > 1.0 || !n_rotated.is_multiple_of(2) || n_rotated == 0 {
            if share != 1.0 {
                return Err(wrong(key, "an even share of a head"));
            }
            // Without the key it is the width over the heads.
            let want = "an even width of a head (width / heads), which rotary positions need";
            let (path, key, got) = (path.to_owned(), "head_dim".to_owned(), form.head_dim.to_string());
            return Err(Error::Unsupported { path, key, want: want.to_owned(), got });
        }
        Ok(Self { n_rotated, theta, scaling: scaling(&found, &config, form, n_rotated)? })
    }
}

/// The kind of scaling, by its name under either key.
fn kind<'t>(found: &'t Table<'_>) -> Result<(&'static str, Option<&'t str>)> {
    let kind = ["rope_type", "type"].into_iter().find_map(|key| Some((key, found.table.get(key)?)));
    if found.table.get("type").is_some_and(|older| kind.is_some_and(|(_, kind)| kind != older)) {
        return Err(found.wrong("type", &format!("the value of `{}.rope_type`", found.place)));
    }
    match kind {
        None => Ok(("rope_type", Some("default"))),
        Some((key, name)) => Ok((key, name.as_str())),
    }
}

fn scaling(found: &Table<'_>, config: &Config, form: RopeForm<'_>, n_rotated: usize) -> Result<RopeScaling> {
    let (key, name) = kind(found)?;
    // transformers 4 reads it, transformers 5 leaves the blocks as they are, without a word.
    if form.layer_type.is_some() && key == "type" && found.place == "rope_scaling" && name != Some("default") {
        return Err(
            found.wrong("rope_type", "the value of `rope_scaling.type`, which transformers 5 does not read here")
        );
    }
    let name = match name {
        // What Phi-3's older files call it.
        Some("su" | "yarn") if form.kinds.contains(&"longrope") => "longrope",
        Some(name) if form.kinds.contains(&name) => name,
        _ => return Err(found.wrong(key, &format!("one of {}", form.kinds.join(", ")))),
    };
    let need =
        |key: &str, value: Option<Positive>| value.map(|v| v.0).ok_or_else(|| found.wrong(key, "a number over 0"));
    let factor = || need("factor", config.factor);
    let key = "original_max_position_embeddings";
    let inner = config.original_max_position_embeddings;
    if name == "longrope" {
        return long_rope(found, config, form.n_positions, n_rotated);
    }
    // transformers 5 takes the outer one, transformers 4 the inner one.
    if let Some(outer) = found.raw.get(key).filter(|outer| !outer.is_null())
        && ["llama3", "yarn"].contains(&name)
        && outer.as_f64() != inner.map(|n| n.0)
    {
        return Err(unsupported(found.raw, found.path, key, &format!("the value of `{}.{key}`", found.place)));
    }
    match name {
        "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
        "dynamic" => factor().map(|_| RopeScaling::None),
        "llama3" => {
            let low_freq_factor = need("low_freq_factor", config.low_freq_factor)?;
            let high_freq_factor = need("high_freq_factor", config.high_freq_factor)?;
            if high_freq_factor <= low_freq_factor {
                return Err(found.wrong("high_freq_factor", &format!("over low_freq_factor, {low_freq_factor}")));
            }
            let original = need(key, inner)?;
            Ok(RopeScaling::Llama3 { factor: factor()?, low_freq_factor, high_freq_factor, original })
        }
        // transformers looks for the key where tables by kind of block stand, and does not find it.
        "yarn" if form.layer_type.is_some() && config.truncate.is_some_and(|on| !on.0) => {
            Err(found.wrong("truncate", "true"))
        }
        "yarn" => {
            let factor = factor()?;
            let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
            Ok(RopeScaling::Yarn {
                factor,
                attention_factor: match (config.attention_factor, config.mscale, config.mscale_all_dim) {
                    (Some(given), _, _) => given.0,
                    (None, Some(m), Some(all)) => scale(m.0) / scale(all.0),
                    (None, _, _) => scale(1.0),
                },
                beta_fast: config.beta_fast.map_or(32.0, |b| b.0),
                beta_slow: config.beta_slow.map_or(1.0, |b| b.0),
                original: inner.map_or(form.n_positions as f64, |n| n.0),
                truncate: config.truncate.is_none_or(|t| t.0),
            })
        }
        _ if config.factor.is_some_and(|factor| factor.0 != 1.0) => {
            Err(found.wrong("rope_type", "the kind of scaling that `factor` is of"))
        }
        _ => Ok(RopeScaling::None),
    }
}

/// The context of the pre-training stands outside of the table (Phi-3) or in it; `factor` follows from it.
fn long_rope(found: &Table<'_>, config: &Config, n_positions: usize, n_rotated: usize) -> Result<RopeScaling> {
    let key = "original_max_position_embeddings";
    // The class of transformers has a default for the outer key, which wins over the inner one.
    let outer = found.raw.get(key).is_some_and(|value| !value.is_null());
    let original = found.number(key, config.original_max_position_embeddings, key)?.filter(|_| outer);
    let original =
        original.ok_or_else(|| unsupported(found.raw, found.path, key, "the context of the pre-training"))?;
    let ratio = n_positions as f64 / original;
    if config.factor.is_some_and(|factor| factor.0 != ratio) {
        return Err(found.wrong("factor", &format!("max_position_embeddings / {key}, {ratio}")));
    }
    let factors = |key: &str, given: &Option<Vec<Positive>>| {
        let list = given.as_ref().map(|list| list.iter().map(|factor| factor.0).collect::<Vec<_>>());
        list.filter(|list| list.len() == n_rotated / 2)
            .ok_or_else(|| found.wrong(key, &format!("{} numbers over 0", n_rotated / 2)))
    };
    Ok(RopeScaling::LongRope {
        short: factors("short_factor", &config.short_factor)?,
        long: factors("long_factor", &config.long_factor)?,
        attention_factor: match config.attention_factor {
            Some(given) => given.0,
            None if ratio <= 1.0 => 1.0,
            None => (1.0 + ratio.ln() / original.ln()).sqrt(),
        },
        original,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Result<Rope> {
        let Value::Object(raw) = config else { unreachable!() };
        Rope::read(&raw, Path::new("config.json"), RopeForm::llama(8, 64))
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
