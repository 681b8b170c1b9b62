//! f16 and bf16 as f32 and back, rounded to nearest, ties to even (IEEE 754).

use safetensors::Dtype;

/// Reads little-endian floats as f32; none for a type that is not one of f32, f16, bf16.
pub(crate) fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Some(halves().map(f16_to_f32).collect()),
        Dtype::BF16 => Some(halves().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        _ => None,
    }
}

/// Appends floats as little-endian `dtype`; a type that is not one of f32, f16, bf16 appends nothing.
pub(crate) fn encode(dtype: Dtype, values: impl Iterator<Item = f32>, out: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => values.for_each(|v| out.extend(v.to_le_bytes())),
        Dtype::F16 => values.for_each(|v| out.extend(f32_to_f16(v).to_le_bytes())),
        Dtype::BF16 => values.for_each(|v| out.extend(f32_to_bf16(v).to_le_bytes())),
        _ => {}
    }
}

/// Whether [`decode`] knows the type.
pub(crate) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn f16_to_f32(half: u16) -> f32 {
    let (sign, exponent, mantissa) =
        (u32::from(half & 0x8000) << 16, u32::from(half >> 10 & 0x1f), u32::from(half & 0x3ff));
    match exponent {
        // Subnormals are whole multiples of 2^-24, which f32 holds exactly.
        0 => f32::from_bits(sign | (mantissa as f32 / 16_777_216.0).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, size) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    let half = if size > 0x7f80_0000 {
        0x7e00 | (size >> 13 & 0x3ff)
    } else if size >= 0x477f_f000 {
        // 65520 and over: nearer to 2^16, which is infinity, than to the largest half.
        0x7c00
    } else if size >= 0x3880_0000 {
        let scaled = size - (112 << 23);
        (scaled + 0xfff + (scaled >> 13 & 1)) >> 13
    } else {
        (f32::from_bits(size) * 16_777_216.0).round_ties_even() as u32
    };
    sign | half as u16
}

fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every finite value survives, and between two neighbours the nearer one wins, the even one on a tie.
    fn check_rounding(to_f32: impl Fn(u16) -> f32, from_f32: impl Fn(f32) -> u16, largest: u16) {
        for bits in 0..=largest {
            for signed in [bits, bits | 0x8000] {
                assert_eq!(from_f32(to_f32(signed)), signed, "{signed:#x}");
            }
            if bits < largest {
                let middle = ((f64::from(to_f32(bits)) + f64::from(to_f32(bits + 1))) / 2.0) as f32;
                let even = if bits % 2 == 0 { bits } else { bits + 1 };
                assert_eq!(from_f32(middle), even, "middle above {bits:#x}");
                assert_eq!(from_f32(middle.next_down()), bits, "below the middle above {bits:#x}");
                assert_eq!(from_f32(middle.next_up()), bits + 1, "over the middle above {bits:#x}");
            }
        }
        assert_eq!(from_f32(f32::INFINITY), largest + 1);
        assert_eq!(from_f32(f32::MAX), largest + 1);
        assert!(to_f32(from_f32(f32::NAN)).is_nan());
    }

    #[test]
    fn f16_rounds_to_nearest_even() {
        check_rounding(f16_to_f32, f32_to_f16, 0x7bff);
        assert_eq!(f16_to_f32(0x3c00), 1.0);
        assert_eq!(f16_to_f32(0x7bff), 65504.0);
        assert_eq!(f16_to_f32(1), 2f32.powi(-24));
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        check_rounding(|bits| f32::from_bits(u32::from(bits) << 16), f32_to_bf16, 0x7f7f);
    }
}
