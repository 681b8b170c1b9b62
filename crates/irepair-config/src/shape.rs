//! The shape of a model, and how many weights that makes: known before any file is there.

use serde::{Deserialize, Serialize};

use crate::problem::Checks;
use crate::{Dtype, Family};

/// The shape of a transformer (METHOD §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Model family.
    pub family: Family,
    /// Transformer blocks, called L in METHOD §1.
    pub n_layer: usize,
    /// Width, called d in METHOD §1.
    pub n_embd: usize,
    /// Attention heads; must divide `n_embd`.
    pub n_head: usize,
    /// Longest text in tokens.
    pub n_positions: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}

impl Shape {
    /// Weights of one block, `n_b` of METHOD §1: `12 d² + 13 d`, for GPT-Neo, whose query, key and value have no bias,
    /// `12 d² + 10 d`.
    pub fn block_weights(&self) -> u64 {
        let biases_and_norms = match self.family {
            Family::Gpt2 => 13,
            Family::GptNeo => 10,
        };
        self.block_matrix_weights() + biases_and_norms * self.n_embd as u64
    }

    /// Weights of the matrices of one block, `P_b` of METHOD §12.
    pub fn block_matrix_weights(&self) -> u64 {
        12 * (self.n_embd as u64).pow(2)
    }

    /// Weights outside all blocks: token and position embeddings (the head is the former) and the final norm.
    pub fn other_weights(&self) -> u64 {
        (self.vocab_size + self.n_positions + 2) as u64 * self.n_embd as u64
    }

    /// All weights.
    pub fn n_weights(&self) -> u64 {
        self.n_layer as u64 * self.block_weights() + self.other_weights()
    }

    pub(crate) fn check(&self, checks: &mut Checks) {
        for (key, value) in [
            ("shape.n_layer", self.n_layer),
            ("shape.n_embd", self.n_embd),
            ("shape.n_head", self.n_head),
            ("shape.n_positions", self.n_positions),
            ("shape.vocab_size", self.vocab_size),
        ] {
            checks.count(key, Some(value as u64));
        }
        let (d, h) = (self.n_embd, self.n_head);
        let what = format!("clashes with `n_embd`: {d} is not a multiple of {h}");
        checks.clash(h > 0 && !d.is_multiple_of(h), "shape.n_head", &what);
    }
}

impl Dtype {
    /// Bytes of one number.
    pub fn n_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A model of GPT-2's vocabulary.
    pub(crate) fn shape(family: Family, n_layer: usize, n_embd: usize, n_head: usize, n_positions: usize) -> Shape {
        Shape { family, n_layer, n_embd, n_head, n_positions, vocab_size: 50_257 }
    }

    /// The three models of METHOD §1, whose weights are known.
    #[test]
    fn the_papers_models_have_the_weights_of_method_1() {
        let large = shape(Family::Gpt2, 36, 1280, 20, 1024);
        assert_eq!((large.block_weights(), large.n_weights()), (19_677_440, 774_030_080));
        let xl = shape(Family::Gpt2, 48, 1600, 25, 1024);
        assert_eq!((xl.block_weights(), xl.n_weights()), (30_740_800, 1_557_611_200));
        let neo = shape(Family::GptNeo, 24, 2048, 16, 2048);
        assert_eq!((neo.block_weights(), neo.n_weights()), (50_352_128, 1_315_575_808));
    }
}
