//! Little-endian f32, f16 and bf16 as f32 and back, rounded to nearest, ties to even (IEEE 754).

use half::{bf16, f16};
use safetensors::Dtype;

/// Reads little-endian floats as f32; none for a type that is not one of f32, f16, bf16.
pub fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        Dtype::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Some(halves().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Some(halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        _ => None,
    }
}

/// Appends floats as little-endian `dtype`; a type that is not one of f32, f16, bf16 appends nothing.
pub fn encode(dtype: Dtype, values: impl Iterator<Item = f32>, out: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => values.for_each(|v| out.extend(v.to_le_bytes())),
        Dtype::F16 => values.for_each(|v| out.extend(f16::from_f32(v).to_le_bytes())),
        Dtype::BF16 => values.for_each(|v| out.extend(bf16::from_f32(v).to_le_bytes())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every finite value survives, and between two neighbours the nearer one wins, the even one on a tie.
    #[test]
    fn halves_round_to_nearest_even() {
        for (dtype, largest) in [(Dtype::F16, 0x7bff_u16), (Dtype::BF16, 0x7f7f)] {
            let to_f32 = |bits: u16| decode(dtype, &bits.to_le_bytes()).unwrap()[0];
            let from_f32 = |value: f32| {
                let mut out = Vec::new();
                encode(dtype, std::iter::once(value), &mut out);
                u16::from_le_bytes([out[0], out[1]])
            };
            for bits in 0..largest {
                assert_eq!(from_f32(to_f32(bits)), bits);
                assert_eq!(from_f32(to_f32(bits | 0x8000)), bits | 0x8000);
                let middle = ((f64::from(to_f32(bits)) + f64::from(to_f32(bits + 1))) / 2.0) as f32;
                assert_eq!(from_f32(middle), bits + bits % 2, "middle above {bits:#x}");
                assert_eq!(from_f32(middle.next_down()), bits, "below the middle above {bits:#x}");
                assert_eq!(from_f32(middle.next_up()), bits + 1, "over the middle above {bits:#x}");
            }
            assert_eq!((from_f32(f32::INFINITY), from_f32(f32::MAX)), (largest + 1, largest + 1));
            assert!(to_f32(from_f32(f32::NAN)).is_nan());
        }
        assert_eq!(decode(Dtype::F16, &[0xff, 0x7b, 1, 0]).unwrap(), [65504.0, 2f32.powi(-24)]);
    }
}
