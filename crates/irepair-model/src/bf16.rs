//! Stochastic rounding to bfloat16 on a CPU in one pass over the bits, where the route through tensors takes nearly
//! fifty.

use tch::{Device, Kind, Tensor};

use crate::stochastic::draw;
use crate::sys::{bytes, bytes_mut};

/// The exponent bits of a float32; all of them are set in infinity and in what is no number.
const EXPONENT: u32 = 0x7f80_0000;

/// The magnitude of the largest finite bfloat16: what lies above it is rounded to the nearest.
const LARGEST: u32 = 0x7f7f_0000;

/// Elements under which threads take longer to start than to compute.
const FEW: usize = 1 << 15;

/// [`crate::round_stochastically`] to bfloat16, to the same bits; none where the values are not float32 on a CPU, or do
/// not lie in one piece.
pub(crate) fn round_to_bf16(values: &Tensor, seed: u64) -> Option<Tensor> {
    if values.kind() != Kind::Float {
        return None;
    }
    let of = bytes(values)?;
    let mut rounded = Tensor::empty(values.size(), (Kind::BFloat16, Device::Cpu));
    let to = bytes_mut(&mut rounded)?;
    let n = values.numel();
    let n_threads = if n < FEW { 1 } else { tch::get_num_threads().max(1) as usize };
    let n_each = n.div_ceil(n_threads);
    std::thread::scope(|scope| {
        let mut parts = of.chunks(4 * n_each).zip(to.chunks_mut(2 * n_each)).enumerate();
        let first = parts.next();
        for (i, (of, to)) in parts {
            scope.spawn(move || round_part(of, to, seed, i * n_each));
        }
        first.into_iter().for_each(|(_, (of, to))| round_part(of, to, seed, 0));
    });
    Some(rounded)
}

/// Rounds float32 numbers, of which the first is the element `start` of its tensor.
fn round_part(of: &[u8], to: &mut [u8], seed: u64, start: usize) {
    for (i, (of, to)) in of.chunks_exact(4).zip(to.chunks_exact_mut(2)).enumerate() {
        let bits = u32::from_ne_bytes([of[0], of[1], of[2], of[3]]);
        to.copy_from_slice(&rounded(bits, draw((start + i) as u64, seed)).to_ne_bytes());
    }
}

/// The upper half of a float32's bits, or that of its neighbour away from 0, by a draw of 24 bits. What is cut off is
/// its share of the way between them in 65,536ths.
fn rounded(bits: u32, draw: u32) -> u16 {
    let (upper, cut) = ((bits >> 16) as u16, bits & 0xffff);
    let is_odd = upper & 1 == 1;
    let nearest_is_outward = cut > 0x8000 || (cut == 0x8000 && is_odd);
    if bits & EXPONENT == EXPONENT {
        return if cut == 0 && bits & !EXPONENT & 0x007f_0000 == 0 { upper } else { 0x7fc0 };
    }
    if bits & 0x7fff_0000 == LARGEST {
        return upper + u16::from(nearest_is_outward);
    }
    // The draw moves a number from the nearest of both to the other one.
    let is_outward = if nearest_is_outward { draw >= (0x1_0000 - cut) << 8 } else { draw < cut << 8 };
    upper + u16::from(is_outward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stochastic::by_tensors;

    fn of_bits(bits: &[u32]) -> Tensor {
        Tensor::from_slice(&bits.iter().map(|&bits| f32::from_bits(bits)).collect::<Vec<_>>())
    }

    #[test]
    fn every_bit_is_that_of_the_route_through_tensors() {
        // Both signs of: zeros, subnormal numbers, ties, ends of binades, the largest numbers, and a walk through all.
        let edges = [
            0,
            1,
            0x7fff,
            0x8000,
            0x8001,
            0xffff,
            0x1_0000,
            0x1_8000,
            0x3f80_0000,
            0x3f80_8000,
            0x3f81_8000,
            0x3fff_8000,
            0x3fff_ffff,
            0x007f_ffff,
            0x0080_0000,
            0x7f7e_ffff,
            0x7f7f_0000,
            0x7f7f_7fff,
            0x7f7f_8000,
            0x7f7f_ffff,
            EXPONENT,
        ];
        let walk = (0..200_000_u32).map(|i| i.wrapping_mul(0x9e37_79b9)).filter(|bits| bits & EXPONENT != EXPONENT);
        let bits: Vec<u32> = edges.into_iter().flat_map(|bits| [bits, bits | 0x8000_0000]).chain(walk).collect();
        let values = of_bits(&bits);
        for seed in [0, 1, 77] {
            let (fast, plain) = (round_to_bf16(&values, seed).unwrap(), by_tensors(&values, Kind::BFloat16, seed));
            let [fast, plain] = [fast, plain].map(|t| Vec::<i16>::try_from(t.view_dtype(Kind::Int16)).unwrap());
            let first = fast.iter().zip(&plain).zip(&bits).find(|((fast, plain), _)| fast != plain);
            assert!(first.is_none(), "{:x?}", first);
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let values = of_bits(&[0x7fc0_0000, 0x7fff_ffff, 0xffff_ffff, 0x7f80_0001]);
        for seed in 0..50 {
            let rounded = round_to_bf16(&values, seed).unwrap();
            assert_eq!(rounded.isnan().sum(Kind::Int64).int64_value(&[]), 4);
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let values = (Tensor::arange(3 * FEW as i64 + 5, (Kind::Float, Device::Cpu)) * 12.9898).sin();
        let (whole, n) = (round_to_bf16(&values, 9).unwrap(), values.numel());
        let mut parts = vec![0; 2 * n];
        let of = bytes(&values).unwrap();
        for (i, to) in parts.chunks_mut(2 * 1000).enumerate() {
            round_part(&of[4000 * i..(4000 * (i + 1)).min(4 * n)], to, 9, 1000 * i);
        }
        assert_eq!(bytes(&whole).unwrap(), parts);
        assert!(round_to_bf16(&values.narrow(0, 0, 4).view([2, 2]).tr(), 0).is_none(), "not as it lies");
    }
}
