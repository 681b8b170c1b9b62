//! What a patch stores per tensor, and the arithmetic on bytes that goes with it.

use std::fmt;
use std::str::FromStr;

use irepair_core::float::{decode, encode};
use safetensors::Dtype;

/// What a patch stores per changed tensor (METHOD §14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The new tensor. Applying is bit-exact; reverting needs the base.
    Replace,
    /// Bytes of the new tensor xor bytes of the base. Applying and reverting are the same operation, bit-exact.
    #[default]
    Xor,
    /// New minus base, in f32. Applying and reverting may round, so the outcome is checked and may be refused.
    Delta,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Replace, Self::Xor, Self::Delta];

    /// How the kind is written in a patch and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Xor => "xor",
            Self::Delta => "delta",
        }
    }

    /// Type of the stored tensor for a tensor of type `dtype`; none where the kind cannot store it.
    pub(crate) fn stored_dtype(self, dtype: Dtype) -> Option<Dtype> {
        match self {
            Self::Replace | Self::Xor => Some(dtype),
            Self::Delta => matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16).then_some(Dtype::F32),
        }
    }

    /// Bytes stored for `n_bytes` of a tensor of type `dtype`.
    pub(crate) fn n_stored(self, dtype: Dtype, n_bytes: usize) -> usize {
        match self {
            Self::Replace | Self::Xor => n_bytes,
            Self::Delta => n_bytes / (dtype.bitsize() / 8) * 4,
        }
    }

    /// What is stored for a chunk of a tensor.
    pub(crate) fn difference(self, dtype: Dtype, base: &[u8], result: &[u8]) -> Vec<u8> {
        match self {
            Self::Replace => result.to_vec(),
            Self::Xor => xor(base, result),
            Self::Delta => {
                let mut out = Vec::with_capacity(self.n_stored(dtype, base.len()));
                if let (Some(base), Some(result)) = (decode(dtype, base), decode(dtype, result)) {
                    encode(Dtype::F32, result.iter().zip(&base).map(|(r, b)| r - b), &mut out);
                }
                out
            }
        }
    }

    /// The operation that leads from base to result.
    pub(crate) fn forward(self) -> Op {
        match self {
            Self::Replace => Op::Take,
            Self::Xor => Op::Xor,
            Self::Delta => Op::Add,
        }
    }

    /// The operation that leads from result to base; none where the stored bytes are not enough.
    pub(crate) fn backward(self) -> Option<Op> {
        match self {
            Self::Replace => None,
            Self::Xor => Some(Op::Xor),
            Self::Delta => Some(Op::Subtract),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| format!("`{}` is not replace, xor or delta", irepair_core::printable(text)))
    }
}

/// What happens to a chunk of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// It is replaced by the stored bytes.
    Take,
    /// Exclusive or with the stored bytes.
    Xor,
    /// The stored difference is added, in f32.
    Add,
    /// The stored difference is subtracted, in f32.
    Subtract,
}

impl Op {
    /// Bytes this reads of the change for `n_bytes` of the tensor.
    pub(crate) fn n_change(self, dtype: Dtype, n_bytes: usize) -> usize {
        let kind = if matches!(self, Self::Add | Self::Subtract) { Kind::Delta } else { Kind::Xor };
        kind.n_stored(dtype, n_bytes)
    }

    /// Whether the outcome may differ from what was meant, by rounding.
    pub(crate) fn rounds(self) -> bool {
        matches!(self, Self::Add | Self::Subtract)
    }

    /// The new chunk; as long as `chunk`.
    pub(crate) fn run(self, dtype: Dtype, chunk: &[u8], change: &[u8]) -> Vec<u8> {
        let add = |sign: f32| {
            let mut out = Vec::with_capacity(chunk.len());
            if let (Some(values), Some(change)) = (decode(dtype, chunk), decode(Dtype::F32, change)) {
                encode(dtype, values.iter().zip(&change).map(|(v, d)| v + sign * d), &mut out);
            }
            out
        };
        match self {
            Self::Take => change.to_vec(),
            Self::Xor => xor(chunk, change),
            Self::Add => add(1.0),
            Self::Subtract => add(-1.0),
        }
    }
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(l, r)| l ^ r).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn a_difference_added_is_the_result_and_taken_away_the_base() {
        let (base, result) = (f32s(&[1.0, -2.0, 0.5]), f32s(&[1.25, -2.5, 0.0]));
        for kind in Kind::ALL {
            let change = kind.difference(Dtype::F32, &base, &result);
            assert_eq!(kind.forward().run(Dtype::F32, &base, &change), result, "{kind}");
            if let Some(back) = kind.backward() {
                assert_eq!(back.run(Dtype::F32, &result, &change), base, "{kind}");
            }
        }
    }

    #[test]
    fn a_difference_far_larger_than_the_value_rounds_it_away() {
        let (base, result) = (f32s(&[1.0]), f32s(&[1e-10]));
        let change = Kind::Delta.difference(Dtype::F32, &base, &result);
        assert_eq!(Op::Add.run(Dtype::F32, &base, &change), f32s(&[0.0]));
    }

    #[test]
    fn names_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("zip".parse::<Kind>(), Err("`zip` is not replace, xor or delta".to_owned()));
    }
}
