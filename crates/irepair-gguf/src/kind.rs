//! Tensor types of a GGUF file and how a block of each becomes 32-bit floats.
//!
//! A tensor is a row-major array of blocks; a block holds `n_values` neighbouring values of one row. The formulas and
//! the order of operations are those of the Python package `gguf`, so the results agree bit for bit (`parity/gguf`).

use std::fmt;

use half::{bf16, f16};

/// A tensor type that can be read: a row of the table of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(usize);

/// Names of all types by their number in a file; types without a name were removed from the format.
const NAMES: [&str; 42] = [
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
    "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4", "", "", "TQ1_0", "TQ2_0", "", "", "", "MXFP4", "NVFP4", "Q1_0",
];

/// A type that is read: its number in a file, values and bytes of a block, how a block becomes floats, and the file
/// type that llama.cpp takes for a file of it (`llama_model_loader`, by the type of most tensors).
struct Row(usize, usize, usize, fn(&[u8], &mut [f32]), u32);

const KINDS: [Row; 13] = [
    Row(0, 1, 4, |block, out| out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]), 0),
    Row(1, 1, 2, |block, out| out[0] = half_at(block, 0), 1),
    Row(30, 1, 2, |block, out| out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(), 32),
    Row(2, 32, 18, q_32::<false, false>, 2),
    Row(3, 32, 20, q_32::<false, true>, 3),
    Row(6, 32, 22, q_32::<true, false>, 8),
    Row(7, 32, 24, q_32::<true, true>, 9),
    Row(8, 32, 34, q8_0, 7),
    Row(10, 256, 84, q2_k, 10),
    Row(11, 256, 110, q3_k, 12),
    Row(12, 256, 144, q45_k::<false>, 15),
    Row(13, 256, 176, q45_k::<true>, 17),
    Row(14, 256, 210, q6_k, 18),
];

impl Kind {
    /// The type with this number in the file; `Err` is the name of one that is not read.
    pub(crate) fn of_number(number: u32) -> Result<Self, String> {
        let kind = KINDS.iter().position(|row| row.0 == number as usize);
        kind.map(Self).ok_or_else(|| match NAMES.get(number as usize) {
            None | Some(&"") => format!("type number {number}"),
            Some(name) => (*name).to_owned(),
        })
    }

    /// 32-bit floats.
    pub const F32: Self = Self(0);
    /// 16-bit floats with 5 bits of exponent.
    pub const F16: Self = Self(1);

    /// Its number in a file.
    pub(crate) fn number(self) -> u32 {
        KINDS[self.0].0 as u32
    }

    /// The number that `general.file_type` has for a file of which most tensors are of this type.
    pub(crate) fn file_type(self) -> u32 {
        KINDS[self.0].4
    }

    /// Values in a block.
    pub fn n_values(self) -> usize {
        KINDS[self.0].1
    }

    /// Bytes of a block.
    pub fn n_bytes(self) -> usize {
        KINDS[self.0].2
    }

    /// Dequantises whole blocks.
    ///
    /// # Panics
    /// When `values` has not [`Self::n_values`] places for each [`Self::n_bytes`] bytes of `blocks`.
    pub fn dequantise(self, blocks: &[u8], values: &mut [f32]) {
        let Row(_, n_values, n_bytes, read, _) = KINDS[self.0];
        assert!(blocks.len() / n_bytes * n_values == values.len() && blocks.len().is_multiple_of(n_bytes));
        for (block, out) in blocks.chunks_exact(n_bytes).zip(values.chunks_exact_mut(n_values)) {
            read(block, out);
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[KINDS[self.0].0])
    }
}

/// The 16-bit float at byte `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Value `i` of 32 packed as low halves of 16 bytes, then high halves.
fn nibble(packed: &[u8], i: usize) -> u8 {
    if i < 16 { packed[i] & 15 } else { packed[i - 16] >> 4 }
}

/// Q4_0, Q4_1, Q5_0, Q5_1: 32 values of 4 bits, or of `FIVE` with the fifth bits before the others; a scale of values
/// around 0, or scale and `MIN`imum.
fn q_32<const FIVE: bool, const MIN: bool>(block: &[u8], out: &mut [f32]) {
    let (d, min) = (half_at(block, 0), if MIN { half_at(block, 2) } else { 0.0 });
    let (high, packed) = block[if MIN { 4 } else { 2 }..].split_at(if FIVE { 4 } else { 0 });
    for (i, out) in out.iter_mut().enumerate() {
        let fifth = if FIVE { high[i / 8] >> (i % 8) & 1 } else { 0 };
        let q = f32::from(nibble(packed, i) | fifth << 4);
        *out = if MIN { d * q + min } else { d * (q - if FIVE { 16.0 } else { 8.0 }) };
    }
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*q as i8) * d;
    }
}

/// Value `i` of 256 with 2 bits each: 128 at a time, a byte holds four that are 32 apart.
fn quarter(packed: &[u8], i: usize) -> u8 {
    packed[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, packed) = (&block[..16], &block[16..80]);
    let (d, min) = (half_at(block, 80), half_at(block, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = scales[i / 16];
        *out = d * f32::from(scale & 15) * f32::from(quarter(packed, i)) - min * f32::from(scale >> 4);
    }
}

fn q3_k(block: &[u8], out: &mut [f32]) {
    let (mask, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (i, out) in out.iter_mut().enumerate() {
        let j = i / 16;
        let low = scales[j % 8] >> (j / 8 * 4) & 15;
        let high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        // A bit that is not set means 4 less.
        let less = if mask[i % 32] >> (i / 32) & 1 == 1 { 0.0 } else { 4.0 };
        *out = scale * (f32::from(quarter(packed, i)) - less);
    }
}

/// Scale and minimum of the `j`-th 32 values, 6 bits each, in 12 bytes.
fn scale_and_min(scales: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        let both = scales[j + 4];
        (both & 15 | scales[j - 4] >> 2 & 48, both >> 4 | scales[j] >> 2 & 48)
    };
    (f32::from(scale), f32::from(min))
}

/// Value `i` of 256 with 4 bits each: 64 at a time, a byte holds two that are 32 apart.
fn half_byte(packed: &[u8], i: usize) -> u8 {
    packed[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15
}

/// Q4_K and Q5_K: 256 values of 4 bits, or of `FIVE`; scale and minimum for each 32.
fn q45_k<const FIVE: bool>(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, rest) = block[4..].split_at(12);
    let (high, packed) = rest.split_at(if FIVE { 32 } else { 0 });
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, i / 32);
        let fifth = if FIVE { high[i % 32] >> (i / 32) & 1 } else { 0 };
        let q = half_byte(packed, i) | fifth << 4;
        *out = d * scale * f32::from(q) - dmin * min;
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let low = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        let q = low | quarter(high, i) << 4;
        *out = d * f32::from(scales[i / 16] as i8) * (f32::from(q) - 32.0);
    }
}
