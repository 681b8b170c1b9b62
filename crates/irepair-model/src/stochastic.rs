//! Rounding to a narrow type that keeps the mean: a change too small for the type survives on average.

use tch::{Kind, Tensor};

use crate::bf16::round_to_bf16;

/// Rounds float32 `values` to `kind` (bfloat16 or half): each to one of its two neighbours, to the farther one with the
/// chance that makes the mean right (docs/FILES.md). What the type can hold stays as it is, all of it where `kind` is
/// float32.
///
/// The draws are a function of `seed` and the index of an element, so that the same call gives the same bits on every
/// device.
///
/// # Shapes
/// Any shape, kept. `values` float32; returns `kind`.
pub fn round_stochastically(values: &Tensor, kind: Kind, seed: u64) -> Tensor {
    if kind == Kind::Float {
        return values.shallow_clone();
    }
    let in_one_pass = Some(values).filter(|_| kind == Kind::BFloat16).and_then(|values| round_to_bf16(values, seed));
    in_one_pass.unwrap_or_else(|| by_tensors(values, kind, seed))
}

/// [`round_stochastically`] on any device, to any narrow type.
pub(crate) fn by_tensors(values: &Tensor, kind: Kind, seed: u64) -> Tensor {
    let near = values.to_kind(kind);
    let near_value = near.to_kind(Kind::Float);
    let error = values - &near_value;
    // As integers the positive numbers of a float type are in order, and so are the negative ones by magnitude.
    let bits = near.view_dtype(Kind::Int16).to_kind(Kind::Int);
    let magnitude = bits.bitwise_and(0x7fff);
    let is_zero = magnitude.eq(0);
    let negative = near_value.lt(0.0).logical_or(&is_zero.logical_and(&error.lt(0.0)));
    let outward = error.lt(0.0).eq_tensor(&negative);
    let next = &magnitude + outward.to_kind(Kind::Int) * 2 - 1;
    let next = (next - negative.to_kind(Kind::Int) * 0x8000).to_kind(Kind::Int16).view_dtype(kind).to_kind(Kind::Float);
    let share = error.abs() / (&next - &near_value).abs();
    next.where_self(&uniform(values, seed).less_tensor(&share), &near_value).to_kind(kind)
}

/// Numbers in [0, 1) of 24 bits, one for every element of `like`: a counter through the finaliser of SplitMix64, whose
/// shifts are masked because those of signed integers copy the sign.
fn uniform(like: &Tensor, seed: u64) -> Tensor {
    let shift = |x: &Tensor, n: i64| x.bitwise_right_shift_tensor_scalar(n).bitwise_and((1_i64 << (64 - n)) - 1);
    let mixed = |x: Tensor, n: i64, factor: u64| x.bitwise_xor_tensor(&shift(&x, n)).g_mul_scalar(factor as i64);
    let count = Tensor::arange(like.numel() as i64, (Kind::Int64, like.device()));
    let x = count.g_mul_scalar(0x9e37_79b9_7f4a_7c15_u64 as i64).g_add_scalar(mix(seed) as i64);
    let x = mixed(mixed(x, 30, 0xbf58_476d_1ce4_e5b9), 27, 0x94d0_49bb_1331_11eb);
    let x = x.bitwise_xor_tensor(&shift(&x, 31));
    (shift(&x, 40).to_kind(Kind::Float) / f64::from(1 << 24)).reshape(like.size())
}

/// The number of 24 bits of which [`uniform`] makes the element `index`.
pub(crate) fn draw(index: u64, seed: u64) -> u32 {
    (mix(index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(mix(seed))) >> 40) as u32
}

/// SplitMix64's finaliser: near seeds give unlike streams.
fn mix(seed: u64) -> u64 {
    let x = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One seed of several numbers.
pub fn seed_of(parts: &[u64]) -> u64 {
    parts.iter().fold(0x1234_5678_9abc_def0, |seed, part| mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ part))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const KINDS: [Kind; 2] = [Kind::BFloat16, Kind::Half];

    fn sum(t: &Tensor) -> f64 {
        t.to_kind(Kind::Double).sum(Kind::Double).double_value(&[])
    }

    #[test]
    fn draws_are_uniform_and_a_function_of_the_seed() {
        let like = Tensor::zeros([100_000], (Kind::Float, Device::Cpu));
        let draws = uniform(&like, 7);
        assert!(draws.equal(&uniform(&like, 7)) && !draws.equal(&uniform(&like, 8)));
        assert!(draws.min().double_value(&[]) >= 0.0 && draws.max().double_value(&[]) < 1.0);
        let (mean, square) = (sum(&draws) / 1e5, sum(&draws.square()) / 1e5);
        assert!((mean - 0.5).abs() < 4e-3 && (square - 1.0 / 3.0).abs() < 4e-3, "{mean} {square}");
        // Neighbours, and streams of neighbouring seeds, are not alike.
        let product = |a: &Tensor, b: &Tensor| sum(&((a - 0.5) * (b - 0.5))) / 1e5;
        assert!(product(&draws.narrow(0, 0, 99_999), &draws.narrow(0, 1, 99_999)).abs() < 2e-3);
        assert!(product(&draws, &uniform(&like, 8)).abs() < 2e-3);
    }

    #[test]
    fn the_mean_is_kept_where_nearest_rounding_loses_it() {
        for kind in KINDS {
            for (start, change) in [(0.0213, 2e-6), (-0.75, 1e-4), (1.0, -1e-4), (0.0, 1e-9), (-1e-6, 2e-8)] {
                let start =
                    Tensor::full([200_000], start, (Kind::Float, Device::Cpu)).to_kind(kind).to_kind(Kind::Float);
                let wanted = &start + change;
                let rounded = round_stochastically(&wanted, kind, 3).to_kind(Kind::Float);
                let step = (rounded.max() - rounded.min()).double_value(&[]);
                let missed = (sum(&rounded) - sum(&wanted)) / 2e5;
                // Five standard deviations of a mean of draws that are a step apart.
                assert!(
                    missed.abs() <= 5.0 * step / (4.0 * 2e5_f64).sqrt() + 1e-12,
                    "{kind:?} {change}: {missed} of {step}"
                );
                assert!(step == 0.0 || (rounded.max() - &wanted).double_value(&[0]) <= step, "{kind:?}: a neighbour");
            }
        }
    }

    #[test]
    fn what_the_type_holds_stays() {
        for kind in KINDS {
            let values =
                Tensor::from_slice(&[0.0_f32, -0.0, 1.0, -2.5, 6e-8, 1e-30, 65504.0, f32::INFINITY]).to_kind(kind);
            let rounded = round_stochastically(&values.to_kind(Kind::Float), kind, 1);
            assert!(rounded.view_dtype(Kind::Int16).equal(&values.view_dtype(Kind::Int16)), "{kind:?}");
        }
    }
}
