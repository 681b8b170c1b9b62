//! Rotary position settings, as Hugging Face writes them.

use serde_json::{Value as Json, json};

use crate::Result;
use crate::architectures::Sizes;
use crate::file::GgufFile;

const TYPE: &str = "rope.scaling.type";
const FACTOR: &str = "rope.scaling.factor";
const ORIGINAL: &str = "rope.scaling.original_context_length";
/// The tensor that holds Llama 3's scaling: the divisors of the frequencies of the rotated pairs.
const FACTORS: &str = "rope_freqs.weight";
/// The tensors that hold Phi-3's: the divisors for texts longer than the original context, and for others.
const LONG: &str = "rope_factors_long.weight";
const SHORT: &str = "rope_factors_short.weight";
/// Every tensor that is no weight.
pub(crate) const TENSORS: [&str; 3] = [FACTORS, LONG, SHORT];
/// Llama 3's band limits, which no file states: every published model has these.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const LLAMA3_CONTEXT: f64 = 8192.0;
/// Largest relative difference of a factor from its formula: both are rounded to 32 bits.
const TOLERANCE: f64 = 1e-5;

/// `rope_scaling` of `config.json`; null where positions are not scaled.
///
/// # Errors
/// `Metadata` for scalings of another kind, `Tensor` for factors that are not Llama 3's.
pub(crate) fn scaling(file: &GgufFile, sizes: &Sizes) -> Result<Json> {
    if let Some(name) = [LONG, SHORT].into_iter().find(|name| file.tensors().contains_key(*name)) {
        return Err(file.misfit(name, "no such tensor"));
    }
    let (type_key, factor_key) = (sizes.key(TYPE), sizes.key(FACTOR));
    let kind = file.optional_text(&type_key)?.filter(|kind| *kind != "none");
    if kind.is_none() && file.optional_positive(&factor_key)?.is_some_and(|factor| factor != 1.0) {
        return Err(file.refuse(&type_key, "a type, because there is a factor"));
    }
    if file.tensors().contains_key(FACTORS) {
        return match kind {
            Some(_) => Err(file.refuse(&type_key, format!("none, because there is the tensor `{FACTORS}`"))),
            None => llama3(file, sizes.theta(), sizes.head_dim()),
        };
    }
    match kind {
        None => Ok(Json::Null),
        Some("linear") => Ok(json!({"rope_type": "linear", "type": "linear", "factor": file.positive(&factor_key)?})),
        Some("yarn") => {
            let (factor, original) = (file.positive(&factor_key)?, file.count(&sizes.key(ORIGINAL))?);
            Ok(json!({
                "rope_type": "yarn", "type": "yarn", "factor": factor, "original_max_position_embeddings": original
            }))
        }
        Some(_) => Err(file.refuse(&type_key, "`none`, `linear` or `yarn`")),
    }
}

/// `rope_scaling` of Phi-3, of which `rotated` dimensions of a head are rotated and `original` is the context before
/// it was extended; null where there are no factors.
///
/// # Errors
/// `Metadata` and `Tensor` for another scaling, and for a factor of attention that is not the one transformers takes.
pub(crate) fn long(file: &GgufFile, sizes: &Sizes, rotated: usize, original: usize) -> Result<Json> {
    if file.tensors().contains_key(FACTORS) {
        return Err(file.misfit(FACTORS, "no such tensor"));
    }
    let (type_key, attention) = (sizes.key(TYPE), sizes.key("rope.scaling.attn_factor"));
    let factors = [LONG, SHORT].map(|name| file.tensors().contains_key(name));
    let kind = file.optional_text(&type_key)?.filter(|kind| *kind != "none");
    let stated = file.optional_positive(&attention)?;
    if file.optional_positive(&sizes.key(FACTOR))?.is_some_and(|factor| factor != 1.0) {
        return Err(file.refuse(&sizes.key(FACTOR), "none: every dimension has a factor of its own"));
    }
    if factors == [false; 2] {
        return match (kind, stated) {
            (Some(_), _) => Err(file.refuse(&type_key, format!("none, because there is no tensor `{LONG}`"))),
            (_, Some(x)) if x != 1.0 => Err(file.refuse(&attention, format!("none, because there is no `{LONG}`"))),
            _ => Ok(Json::Null),
        };
    }
    if kind.is_some_and(|kind| kind != "longrope") {
        return Err(file.refuse(&type_key, "`longrope`"));
    }
    // transformers' rule; the file has it rounded to 32 bits.
    let ratio = sizes.n_positions() as f64 / original as f64;
    let want = if ratio <= 1.0 { 1.0 } else { (1.0 + ratio.ln() / (original as f64).ln()).sqrt() };
    if stated.is_none_or(|stated| (stated - want).abs() > 1e-6) {
        return Err(file.refuse(&attention, format!("{want:.6}, by the lengths of the contexts")));
    }
    let read = |name: &str| -> Result<Vec<f64>> {
        let info = file.tensors().get(name).filter(|info| info.shape == [rotated / 2] && info.kind.n_values() == 1);
        let info = info.ok_or_else(|| file.misfit(name, format!("shape [{}] of floats", rotated / 2)))?;
        let mut values = vec![0.0; rotated / 2];
        file.values()?.read(info, 0, &mut values)?;
        match values.iter().all(|value| value.is_finite() && *value > 0.0) {
            // A float of 32 bits is one of 64 bits too.
            true => Ok(values.into_iter().map(f64::from).collect()),
            false => Err(file.misfit(name, "positive numbers")),
        }
    };
    Ok(json!({"rope_type": "longrope", "type": "longrope", "long_factor": read(LONG)?, "short_factor": read(SHORT)?}))
}

/// Finds the factor of Llama 3's scaling and checks all of [`FACTORS`] against it.
fn llama3(file: &GgufFile, theta: f64, head_dim: usize) -> Result<Json> {
    let info = &file.tensors()[FACTORS];
    if info.shape != [head_dim / 2] || info.kind.n_values() > 1 {
        return Err(file.misfit(FACTORS, format!("shape [{}] of floats", head_dim / 2)));
    }
    let mut stored = vec![0.0; head_dim / 2];
    file.values()?.read(info, 0, &mut stored)?;
    if stored.iter().all(|factor| *factor == 1.0) {
        return Ok(Json::Null);
    }
    let factor = stored.iter().fold(0.0f32, |most, x| most.max(*x));
    let near = |(i, stored): (usize, &f32)| {
        let want = llama3_factor(theta, head_dim, i, f64::from(factor));
        (f64::from(*stored) - want).abs() <= TOLERANCE * want
    };
    if !factor.is_finite() || factor <= 1.0 || !stored.iter().enumerate().all(near) {
        let want = format!("the factors of Llama 3's scaling, with bands {LOW} to {HIGH} of {LLAMA3_CONTEXT} tokens");
        return Err(file.misfit(FACTORS, want));
    }
    Ok(json!({
        "rope_type": "llama3", "type": "llama3", "factor": f64::from(factor), "low_freq_factor": LOW,
        "high_freq_factor": HIGH, "original_max_position_embeddings": LLAMA3_CONTEXT as u64
    }))
}

/// The divisor of the frequency of pair `i` in Llama 3's scaling: 1 for short wavelengths, `factor` for long ones, and
/// in between a mix of the two.
fn llama3_factor(theta: f64, head_dim: usize, i: usize, factor: f64) -> f64 {
    let wavelength = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
    if wavelength < LLAMA3_CONTEXT / HIGH {
        return 1.0;
    }
    if wavelength > LLAMA3_CONTEXT / LOW {
        return factor;
    }
    let smooth = (LLAMA3_CONTEXT / wavelength - LOW) / (HIGH - LOW);
    1.0 / ((1.0 - smooth) / factor + smooth)
}
