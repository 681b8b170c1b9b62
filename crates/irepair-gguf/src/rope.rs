//! Rotary position settings of a llama file, as Hugging Face writes them.

use serde_json::{Value as Json, json};

use crate::Result;
use crate::file::GgufFile;

const TYPE: &str = "llama.rope.scaling.type";
const FACTOR: &str = "llama.rope.scaling.factor";
const ORIGINAL: &str = "llama.rope.scaling.original_context_length";
/// The tensor that holds Llama 3's scaling: the divisors of the frequencies of the rotated pairs.
pub(crate) const FACTORS: &str = "rope_freqs.weight";
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
pub(crate) fn scaling(file: &GgufFile, theta: f64, head_dim: usize) -> Result<Json> {
    let kind = file.optional_text(TYPE)?.filter(|kind| *kind != "none");
    if kind.is_none() && file.optional_positive(FACTOR)?.is_some_and(|factor| factor != 1.0) {
        return Err(file.refuse(TYPE, "a type, because there is a factor"));
    }
    if file.tensors().contains_key(FACTORS) {
        return match kind {
            Some(_) => Err(file.refuse(TYPE, format!("none, because there is the tensor `{FACTORS}`"))),
            None => llama3(file, theta, head_dim),
        };
    }
    match kind {
        None => Ok(Json::Null),
        Some("linear") => Ok(json!({"rope_type": "linear", "type": "linear", "factor": file.positive(FACTOR)?})),
        Some("yarn") => {
            let (factor, original) = (file.positive(FACTOR)?, file.count(ORIGINAL)?);
            Ok(json!({
                "rope_type": "yarn", "type": "yarn", "factor": factor, "original_max_position_embeddings": original
            }))
        }
        Some(_) => Err(file.refuse(TYPE, "`none`, `linear` or `yarn`")),
    }
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
