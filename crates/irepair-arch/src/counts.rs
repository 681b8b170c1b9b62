//! Counts that follow from a parameter list: weights, matrix products, and the values a pass keeps of each token.

use irepair_core::BlockId;

use crate::{Architecture, NormKind, Parameter, Positions, Slot};

/// Values that one block holds of each token on the way through a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Kept for the backward pass to the block's input: inputs of norms, query, key and value, the attention's output,
    /// what the activation and a gate need.
    pub backward: u64,
    /// Further ones where the block's own weights get gradients: the inputs of its projections that are not kept yet.
    pub to_learn: u64,
    /// Further ones where ghost norms are taken: those, the inputs of norms normalised, and the outputs of both halves.
    pub to_measure: u64,
    /// Outputs of layers, whose gradients ghost norms read.
    pub outputs: u64,
    /// Inputs of norms.
    pub norm_inputs: u64,
    /// Held at the largest moment of a block where nothing is kept.
    pub passing: u64,
}

impl Architecture {
    /// All weights.
    pub fn n_weights(&self) -> u64 {
        self.parameters().iter().map(Parameter::n_weights).fold(0, u64::saturating_add)
    }

    /// Weights of one block, `n_b` of METHOD §1; all blocks have as many.
    pub fn block_weights(&self) -> u64 {
        self.of_first_block(|_| true)
    }

    /// Weights of the matrices of one block, `P_b` of METHOD §12.
    pub fn block_matrix_weights(&self) -> u64 {
        self.of_first_block(|p| p.shape.len() == 2)
    }

    /// Weights of the two factors of rank `rank` of every matrix in the blocks: low-rank adapters (METHOD §26).
    pub fn n_adapter_weights(&self, rank: usize) -> u64 {
        let factors = |p: &Parameter| match (p.block, p.shape.as_slice()) {
            (Some(_), &[rows, columns]) => (rank.min(rows).min(columns) as u64) * (rows + columns) as u64,
            _ => 0,
        };
        self.parameters().iter().map(factors).fold(0, u64::saturating_add)
    }

    fn of_first_block(&self, counted: impl Fn(&Parameter) -> bool) -> u64 {
        let first = self.parameters().into_iter().filter(|p| p.block == Some(BlockId(0)) && counted(p));
        first.map(|p| p.n_weights()).fold(0, u64::saturating_add)
    }

    /// Matrix-product FLOPs of all blocks for one token, forward: `2 P_b` each (METHOD §12).
    pub fn block_flops(&self) -> f64 {
        2.0 * self.n_block as f64 * self.block_matrix_weights() as f64
    }

    /// Matrix-product FLOPs of the head for one token, forward: `2 d V`.
    pub fn head_flops(&self) -> f64 {
        2.0 * self.n_embd as f64 * self.n_vocab as f64
    }

    /// What one block holds of each token.
    pub fn kept(&self) -> Kept {
        let width = self.n_embd as u64;
        let (queries, keys) = ((self.n_head * self.head_dim) as u64, (self.n_kv_head * self.head_dim) as u64);
        let inner = self.n_inner as u64;
        let qkv = queries + 2 * keys;
        // A plain MLP keeps the activation's input; a gated one that, its output and the other factor.
        let (mlp, mlp_outputs) = if self.gated_mlp { (3 * inner, 2 * inner) } else { (inner, inner) };
        // RMS norms are composed: a weight that learns needs their input normalised as well.
        let normalised = if self.norm.kind == NormKind::RmsNorm { 2 * width } else { 0 };
        let to_learn = 2 * width + inner + normalised;
        // Query and key as their projections leave them, next to those that the attention keeps.
        let unrotated = if matches!(self.positions, Positions::Rotary(_)) { queries + keys } else { 0 };
        // Norms of the width beyond two, and those of queries and keys.
        let more_norms = (self.n_width_norms() - 2) * width;
        let more_norms = more_norms + if self.query_key_norm.is_some() { queries + keys } else { 0 };
        Kept {
            backward: 2 * width + qkv + queries + mlp + more_norms,
            to_learn: to_learn + more_norms,
            to_measure: 2 * width + inner + 2 * width + 2 * width + unrotated + 2 * more_norms,
            outputs: 2 * width + qkv + width + mlp_outputs + width + more_norms,
            norm_inputs: 2 * width + more_norms,
            passing: 4 * width + 2 * mlp_outputs + more_norms,
        }
    }

    /// Norms of a block that are as wide as the model: two, or four.
    fn n_width_norms(&self) -> u64 {
        let slots = [Slot::AttentionNorm, Slot::AttentionOutNorm, Slot::MlpNorm, Slot::MlpOutNorm];
        let list = self.parameters();
        let there = |slot: &Slot| list.iter().any(|p| p.block == Some(BlockId(0)) && p.slot == *slot);
        slots.iter().filter(|slot| there(slot)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use crate::{Published, Shape};

    #[test]
    fn gpt2_keeps_what_was_counted_by_hand() {
        let kept = Shape::new("gpt2", [2, 16, 4], 32, 50).architecture().unwrap().kept();
        let widths = [kept.backward, kept.to_learn, kept.to_measure, kept.outputs, kept.norm_inputs, kept.passing];
        assert_eq!(widths.map(|n| n / 16), [10, 6, 10, 11, 2, 12]);
    }

    #[test]
    fn grouped_queries_and_gates_are_counted() {
        let smol = Published::ALL[5].shape().architecture().unwrap();
        let (d, kv, inner) = (576, 192, 1536);
        assert_eq!(smol.block_matrix_weights(), 2 * d * d + 2 * d * kv + 3 * d * inner);
        assert_eq!(smol.block_weights(), smol.block_matrix_weights() + 2 * d);
        assert_eq!(smol.kept().backward, 2 * d + (d + 2 * kv) + d + 3 * inner);
        assert_eq!(smol.kept().to_measure, 6 * d + inner + d + kv, "query and key before they are rotated");
    }
}
