//! Tensor types of a GGUF file and how a block of each becomes 32-bit floats.
//!
//! A tensor is a row-major array of blocks; a block holds `n_values` neighbouring values of one row. The formulas and
//! the order of operations are those of the Python package `gguf`, so the results agree bit for bit (`parity/gguf`).

use std::fmt;

use half::{bf16, f16};

/// A tensor type that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit floats with the exponent of a 32-bit one.
    Bf16,
    /// 32 values of 4 bits, one scale.
    Q4_0,
    /// 32 values of 4 bits, scale and minimum.
    Q4_1,
    /// 32 values of 5 bits, one scale.
    Q5_0,
    /// 32 values of 5 bits, scale and minimum.
    Q5_1,
    /// 32 values of 8 bits, one scale.
    Q8_0,
    /// 256 values of 2 bits, scale and minimum for each 16.
    Q2K,
    /// 256 values of 3 bits, a scale for each 16.
    Q3K,
    /// 256 values of 4 bits, scale and minimum for each 32.
    Q4K,
    /// 256 values of 5 bits, scale and minimum for each 32.
    Q5K,
    /// 256 values of 6 bits, a scale for each 16.
    Q6K,
}

/// Number in the file, type, name, values and bytes of a block.
const KINDS: [(u32, Kind, &str, usize, usize); 13] = [
    (0, Kind::F32, "F32", 1, 4),
    (1, Kind::F16, "F16", 1, 2),
    (30, Kind::Bf16, "BF16", 1, 2),
    (2, Kind::Q4_0, "Q4_0", 32, 18),
    (3, Kind::Q4_1, "Q4_1", 32, 20),
    (6, Kind::Q5_0, "Q5_0", 32, 22),
    (7, Kind::Q5_1, "Q5_1", 32, 24),
    (8, Kind::Q8_0, "Q8_0", 32, 34),
    (10, Kind::Q2K, "Q2_K", 256, 84),
    (11, Kind::Q3K, "Q3_K", 256, 110),
    (12, Kind::Q4K, "Q4_K", 256, 144),
    (13, Kind::Q5K, "Q5_K", 256, 176),
    (14, Kind::Q6K, "Q6_K", 256, 210),
];

/// Names of the types that exist and are not read, by their number in the file.
const UNREAD: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
];

impl Kind {
    /// The type with this number in the file; `Err` is the name of one that is not read.
    pub(crate) fn of_number(number: u32) -> Result<Self, String> {
        if let Some((_, kind, ..)) = KINDS.iter().find(|(known, ..)| *known == number) {
            return Ok(*kind);
        }
        let name = UNREAD.iter().find(|(known, _)| *known == number);
        Err(name.map_or_else(|| format!("type number {number}"), |(_, name)| (*name).to_owned()))
    }

    fn row(self) -> (&'static str, usize, usize) {
        let row = KINDS.iter().find(|(_, kind, ..)| *kind == self);
        row.map_or(("", 1, 1), |(.., name, n_values, n_bytes)| (name, *n_values, *n_bytes))
    }

    /// Values in a block.
    pub fn n_values(self) -> usize {
        self.row().1
    }

    /// Bytes of a block.
    pub fn n_bytes(self) -> usize {
        self.row().2
    }

    /// Dequantises whole blocks.
    ///
    /// # Panics
    /// When `values` has not [`Self::n_values`] places for each [`Self::n_bytes`] bytes of `blocks`.
    pub fn dequantise(self, blocks: &[u8], values: &mut [f32]) {
        let (n_bytes, n_values) = (self.n_bytes(), self.n_values());
        assert!(blocks.len() / n_bytes * n_values == values.len() && blocks.len().is_multiple_of(n_bytes));
        for (block, out) in blocks.chunks_exact(n_bytes).zip(values.chunks_exact_mut(n_values)) {
            match self {
                Self::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
                Self::F16 => out[0] = half_at(block, 0),
                Self::Bf16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
                Self::Q4_0 => q4_0(block, out),
                Self::Q4_1 => q4_1(block, out),
                Self::Q5_0 => q5_0(block, out),
                Self::Q5_1 => q5_1(block, out),
                Self::Q8_0 => q8_0(block, out),
                Self::Q2K => q2_k(block, out),
                Self::Q3K => q3_k(block, out),
                Self::Q4K => q4_k(block, out),
                Self::Q5K => q5_k(block, out),
                Self::Q6K => q6_k(block, out),
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
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

/// Bit `i` of `bits`.
fn bit(bits: &[u8], i: usize) -> u8 {
    bits[i / 8] >> (i % 8) & 1
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(nibble(&block[2..], i)) - 8.0);
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibble(&block[4..], i)) + min;
    }
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | bit(&block[2..6], i) << 4;
        *out = d * (f32::from(q) - 16.0);
    }
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, min) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | bit(&block[4..8], i) << 4;
        *out = d * f32::from(q) + min;
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
        // A bit that is not set stands for 4 less.
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

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, packed) = (&block[4..16], &block[16..]);
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, i / 32);
        *out = d * scale * f32::from(half_byte(packed, i)) - dmin * min;
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, packed) = (&block[4..16], &block[16..48], &block[48..]);
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, i / 32);
        let q = half_byte(packed, i) | (high[i % 32] >> (i / 32) & 1) << 4;
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
