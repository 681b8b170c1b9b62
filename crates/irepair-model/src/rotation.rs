//! Rotary positions: frequencies, and the rotation of queries and keys.

use irepair_arch::{Architecture, Positions, Rope, RopeScaling};
use tch::{Device, Kind, Tensor};

/// Cosines and sines of the angles of one pass, `[batch, 1, seq, n_rotated / 2]` each.
#[derive(Debug)]
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Of tokens at `positions`, `[batch, seq]` int64; none for models with learned positions. Angles are taken in
    /// float32 and rounded to `kind` as cosine and sine, as transformers does.
    pub(crate) fn new(of: &Architecture, positions: &Tensor, kind: Kind) -> Option<Self> {
        let Positions::Rotary(rope) = of.positions else { return None };
        let (frequencies, factor) = frequencies(&rope, positions.device());
        let angles = (positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies).unsqueeze(1);
        let scaled = |t: Tensor| if factor == 1.0 { t } else { t * factor };
        Some(Self { cos: scaled(angles.cos()).to_kind(kind), sin: scaled(angles.sin()).to_kind(kind) })
    }

    /// `(a, b) -> (a cos - b sin, b cos + a sin)` on the halves of the last axis of `x`, `[batch, head, seq,
    /// head_dim]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let (a, b) = (&halves[0], &halves[1]);
        Tensor::cat(&[a * &self.cos - b * &self.sin, b * &self.cos + a * &self.sin], -1)
    }
}

/// Radians per position, `[n_rotated / 2]` float32, and the factor on cosines and sines.
///
/// # Source
/// `modeling_rope_utils.py` of transformers 5, operation by operation in float32.
fn frequencies(rope: &Rope, device: Device) -> (Tensor, f64) {
    let float = (Kind::Float, device);
    let n = rope.n_rotated as f64;
    let wavelengths =
        Tensor::pow_scalar(rope.theta, &(Tensor::arange_start_step(0, rope.n_rotated as i64, 2, float) / n));
    let plain = wavelengths.reciprocal();
    match rope.scaling {
        RopeScaling::None => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain / factor, 1.0),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let tau = std::f64::consts::TAU;
            let length = plain.reciprocal() * tau;
            let (long, short) = (length.gt(original / low_freq_factor), length.lt(original / high_freq_factor));
            let stretched = (&plain / factor).where_self(&long, &plain);
            let smooth: Tensor =
                (length.reciprocal() * original - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let mixed: Tensor = (1.0 - &smooth) * &stretched / factor + &smooth * &stretched;
            let between = long.logical_or(&short).logical_not();
            (mixed.where_self(&between, &stretched), 1.0)
        }
        RopeScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original, truncate } => {
            let dimension =
                |turns: f64| n * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * rope.theta.ln());
            let (low, high) = (dimension(beta_fast), dimension(beta_slow));
            let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, high) = (low.max(0.0), high.min(n - 1.0));
            let high = if low == high { high + 0.001 } else { high };
            let ramp = ((Tensor::arange(rope.n_rotated as i64 / 2, float) - low) / (high - low)).clamp(0.0, 1.0);
            let kept: Tensor = 1.0 - ramp;
            let stretched = (wavelengths * factor).reciprocal();
            (stretched * (1.0 - &kept) + plain * &kept, attention_factor)
        }
    }
}
