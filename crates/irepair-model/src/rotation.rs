//! Rotary positions: frequencies, and the rotation of queries and keys.

use irepair_arch::{Architecture, Positions, Rope, RopeScaling};
use irepair_core::BlockId;
use tch::{Kind, Tensor};

use crate::layers::wide;

/// The rotations of one pass: one set of angles for all blocks that share it.
#[derive(Debug)]
pub(crate) struct Rotation {
    angles: Vec<Angles>,
    /// The index of each block's angles; none for one that does not rotate.
    by_block: Vec<Option<usize>>,
}

/// Cosines and sines of the angles of one pass, `[batch, 1, seq, n_rotated / 2]` each.
#[derive(Debug)]
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Of tokens at `positions`, `[batch, seq]` int64, the last columns of `attention_mask`; none for models with
    /// learned positions.
    pub(crate) fn new(of: &Architecture, attention_mask: &Tensor, positions: &Tensor, kind: Kind) -> Option<Self> {
        let Positions::Rotary(ropes) = &of.positions else { return None };
        let mut distinct: Vec<&Rope> = Vec::new();
        let mut index = |rope| {
            let known = distinct.iter().position(|other| *other == rope);
            known.unwrap_or_else(|| {
                distinct.push(rope);
                distinct.len() - 1
            })
        };
        let by_block = ropes.iter().map(|rope| rope.as_deref().map(&mut index)).collect();
        let kind = if of.rotated_in_float { wide(kind) } else { kind };
        let angles = distinct.iter().map(|rope| Angles::new(rope, attention_mask, positions, kind)).collect();
        Some(Self { angles, by_block })
    }

    /// The angles of a block, if it rotates.
    pub(crate) fn of(&self, block: BlockId) -> Option<&Angles> {
        self.angles.get((*self.by_block.get(block.0)?)?)
    }
}

impl Angles {
    /// Angles are taken in float32 and rounded to `kind` as cosine and sine, as transformers does.
    fn new(rope: &Rope, attention_mask: &Tensor, positions: &Tensor, kind: Kind) -> Self {
        let (frequencies, factor) = frequencies(rope, attention_mask);
        let angles = (positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies).unsqueeze(1);
        let scaled = |t: Tensor| if factor == 1.0 { t } else { t * factor };
        Self { cos: scaled(angles.cos()).to_kind(kind), sin: scaled(angles.sin()).to_kind(kind) }
    }

    /// `(a, b) -> (a cos - b sin, b cos + a sin)` on the halves of the rotated values, which are the first of the last
    /// axis of `x`, `[batch, head, seq, head_dim]`. Where the angles are wider than `x`, so are the products.
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        let (n_half, head_dim) = (self.cos.size()[3], x.size()[3]);
        let parts = x.split_with_sizes([n_half, n_half, head_dim - 2 * n_half], -1);
        let (a, b) = (&parts[0], &parts[1]);
        let mut turned = vec![a * &self.cos - b * &self.sin, b * &self.cos + a * &self.sin];
        if head_dim > 2 * n_half {
            turned.push(parts[2].shallow_clone());
        }
        Tensor::cat(&turned, -1).to_kind(x.kind())
    }
}

/// Radians per position, `[n_rotated / 2]` float32 (`[batch, 1, n_rotated / 2]` where they depend on the length of the
/// text), and the factor on cosines and sines.
///
/// # Source
/// `modeling_rope_utils.py` of transformers 5, operation by operation in float32.
pub(crate) fn frequencies(rope: &Rope, attention_mask: &Tensor) -> (Tensor, f64) {
    let float = (Kind::Float, attention_mask.device());
    let n = rope.n_rotated as f64;
    let wavelengths =
        Tensor::pow_scalar(rope.theta, &(Tensor::arange_start_step(0, rope.n_rotated as i64, 2, float) / n));
    let plain = wavelengths.reciprocal();
    match rope.scaling.clone() {
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
        // transformers chooses one table for a whole batch, by its longest text; here each text has its own, so that
        // its numbers do not depend on others.
        RopeScaling::LongRope { short, long, attention_factor, original } => {
            let by = |factors: Vec<f64>| {
                (Tensor::from_slice(&factors).to_kind(Kind::Float).to_device(float.1) * &wavelengths).reciprocal()
            };
            let n_tokens = attention_mask.sum_dim_intlist([1].as_slice(), true, Kind::Int64).unsqueeze(-1);
            (by(long).where_self(&n_tokens.gt(original), &by(short)), attention_factor)
        }
    }
}
