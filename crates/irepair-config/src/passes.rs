//! Peak memory of a pass over texts, without weights and gradients: the tensors that libtorch keeps for the backward
//! pass, counted by block and by vocabulary.
//!
//! A kernel of fused attention is taken for granted: no row of the attention matrix is kept.

use irepair_arch::Architecture;
use irepair_core::spec::{Needs, Weighted, separable};

use crate::{Dtype, RepairOptions, Texts};

/// Bytes of a number in f32, in which losses are taken whatever the model's type.
const F32: u64 = 4;

/// The head works through positions in chunks of so many bytes of f32 logits, and at least so many positions.
const CHUNK: u64 = 50 << 20;
/// The log-softmax works through a chunk in tiles of so many bytes, and at least so many positions.
const TILE: u64 = 4 << 20;
const CHUNK_ROWS: u64 = 16;
const TILE_ROWS: u64 = 8;

/// Which texts a method runs at every step (METHOD §6, §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    /// Chosen or rejected texts through the model, forward and backward.
    pub(crate) pairs: u64,
    /// Chosen or rejected texts through the reference.
    pub(crate) reference_pairs: u64,
    /// Utility texts through both.
    pub(crate) utility: u64,
}

impl Passes {
    /// The passes of a step: of the whole loss.
    pub(crate) fn of(options: &RepairOptions) -> Self {
        Self::for_terms(&options.terms())
    }

    /// The passes of each part of the loss that goes backward on its own.
    pub(crate) fn by_part(options: &RepairOptions) -> Vec<Self> {
        separable(&options.terms()).iter().map(|part| Self::for_terms(part)).collect()
    }

    fn for_terms(terms: &[Weighted]) -> Self {
        let Needs { chosen, rejected, ref_chosen, ref_rejected, utility } = Needs::of(terms);
        let sum = |a: bool, b: bool| u64::from(a) + u64::from(b);
        Self {
            pairs: sum(chosen, rejected),
            reference_pairs: sum(ref_chosen, ref_rejected),
            utility: u64::from(utility),
        }
    }

    pub(crate) fn need_reference(self) -> bool {
        self.reference_pairs + self.utility > 0
    }
}

/// What passes of some model over some texts hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    pub(crate) of: &'a Architecture,
    pub(crate) texts: &'a Texts,
    pub(crate) dtype: Dtype,
}

impl Held<'_> {
    /// Forward and backward through the texts of one loss, `n_learning` blocks getting gradients and the lowest of them
    /// being block 0: all activations, and what the head takes. A head that learns keeps the gradient of every score
    /// over the vocabulary, and a gradient of its weights from each text and from the backward pass.
    pub(crate) fn training(self, passes: Passes, n_learning: usize, head_learns: bool) -> u64 {
        let (pairs, utility) = (passes.pairs * self.texts.pairs, passes.utility * self.texts.utility);
        let block = self.of.kept();
        let kept = block.backward * self.of.n_block as u64 + block.to_learn * n_learning as u64;
        let gradients = if head_learns { self.vocabularies((pairs + utility) * self.dtype.n_bytes()) } else { 0 };
        let n_texts = if head_learns { 1 + passes.pairs + passes.utility } else { 0 };
        let sums = (n_texts * self.of.n_embd as u64).saturating_mul(self.vocabularies(self.dtype.n_bytes()));
        let head = sums.max(self.head(passes, self.texts.pairs, utility));
        self.values(pairs + utility, kept).saturating_add(gradients).saturating_add(head)
    }

    /// Ghost norms of a batch of `n` tokens: when the head is at work, or when every layer's output gradient is there
    /// and one layer's norm is taken.
    pub(crate) fn measuring(self, n: u64) -> u64 {
        let (n_block, d, inner) = (self.of.n_block as u64, self.of.n_embd as u64, self.of.n_inner as u64);
        let block = self.of.kept();
        let head = self.head(Passes { pairs: 1, ..Passes::default() }, n, 0);
        let start = self.values(n, (block.backward + block.to_measure) * n_block).saturating_add(head);
        // Inputs of norms are gone when the backward pass has come through.
        let kept = block.backward + block.to_measure - block.norm_inputs + block.outputs;
        let end = self.values(n, kept * n_block);
        // The widest layer, into or out of the MLP: input and gradient in f32, then the products of the cheaper way.
        let copies = n * (d + inner) * self.f32_copy();
        let products = if n * (d + inner) < d * inner { 3 * n * n } else { 2 * d * inner };
        start.max(end.saturating_add(copies + products * F32))
    }

    /// One batch of a validation, forward alone.
    pub(crate) fn validation(self, passes: Passes) -> u64 {
        self.forward(passes, self.texts.held_out, passes.utility * self.texts.held_out_utility)
    }

    /// A step without gradients: both sides of its pairs in one batch.
    pub(crate) fn watching(self, passes: Passes) -> u64 {
        self.forward(passes, passes.pairs * self.texts.pairs, passes.utility * self.texts.utility)
    }

    fn forward(self, passes: Passes, pairs: u64, utility: u64) -> u64 {
        self.values(pairs.max(utility), self.of.kept().passing).saturating_add(self.head(passes, pairs, utility))
    }

    /// One batch of held-out texts under a model and its reference.
    pub(crate) fn comparing(self) -> u64 {
        self.validation(Passes { utility: 1, ..Passes::default() })
    }

    /// The pass of a Fisher matrix: forward and backward of one text through everything, by the plain route.
    pub(crate) fn fisher(self) -> u64 {
        let (block, n) = (self.of.kept(), self.texts.longest);
        let activations = self.values(n, (block.backward + block.to_learn) * self.of.n_block as u64);
        // Logits, their log-softmax, its exponential and sums, and the gradient.
        activations.saturating_add(self.vocabularies(n.saturating_mul(2 * self.dtype.n_bytes() + 4 * F32)))
    }

    /// Logits of a batch of pairs on their way back where gradients are stored, which takes the plain route.
    pub(crate) fn stored_logits(self) -> u64 {
        self.vocabularies(self.texts.pairs * (self.dtype.n_bytes() + self.f32_copy() + 3 * F32))
    }

    /// One chunk of the head's work on tokens of pairs or of utility texts, whichever takes more: its logits, and the
    /// log-softmax of a tile of them; for a KL also those of the reference, and its probabilities.
    fn head(self, passes: Passes, pairs: u64, utility: u64) -> u64 {
        let entries = |bytes: u64, least: u64| (bytes / (F32 * self.of.n_vocab as u64)).max(least);
        let (rows, tile) = (entries(CHUNK, CHUNK_ROWS), entries(TILE, TILE_ROWS));
        let nll = if passes.pairs > 0 {
            pairs.min(rows) * self.dtype.n_bytes() + pairs.min(tile) * (F32 + self.f32_copy())
        } else {
            0
        };
        let kl = utility.min(rows) * 2 * self.dtype.n_bytes() + utility.min(tile) * (3 * F32 + self.f32_copy());
        self.vocabularies(nll.max(kl))
    }

    /// So many values for each token, and the mask of which token sees which.
    fn values(self, n_tokens: u64, n_each: u64) -> u64 {
        // Shapes come from files and flags: too much for a number is too much for any memory.
        n_tokens.saturating_mul((n_each + self.texts.longest).saturating_mul(self.dtype.n_bytes()))
    }

    /// Tensors over the vocabulary, of so many bytes per entry of it: they outweigh the blocks in small models.
    fn vocabularies(self, n_bytes: u64) -> u64 {
        n_bytes.saturating_mul(self.of.n_vocab as u64)
    }

    /// Bytes per number of the f32 copy that half precision needs.
    fn f32_copy(self) -> u64 {
        if self.dtype == Dtype::F32 { 0 } else { F32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;
    use irepair_arch::Shape;
    use std::sync::LazyLock;

    static MODEL: LazyLock<Architecture> = LazyLock::new(|| model(8));

    fn model(n_embd: usize) -> Architecture {
        Shape::new("gpt2", [4, n_embd, 2], 64, 1000).architecture().unwrap()
    }

    const TEXTS: Texts =
        Texts { pairs: 10, utility: 20, held_out: 30, held_out_utility: 40, longest: 0, accumulation: 1 };
    const NLL: Passes = Passes { pairs: 1, reference_pairs: 0, utility: 0 };
    const KL: Passes = Passes { pairs: 0, reference_pairs: 0, utility: 1 };

    fn held(dtype: Dtype) -> Held<'static> {
        Held { of: &MODEL, texts: &TEXTS, dtype }
    }

    #[test]
    fn a_pass_keeps_vectors_of_its_blocks_and_a_chunk_of_logits() {
        // Both in bytes, of a token: of a block, and over the vocabulary.
        let pass = |n: u64, block: u64, logits: u64| n * (4 * block + 1000 * logits);
        let (f32, bf16) = (held(Dtype::F32), held(Dtype::Bf16));
        assert_eq!(f32.training(NLL, 0, false), pass(10, 4 * 8 * 10, 4 + 4));
        assert_eq!(bf16.training(NLL, 0, false), pass(10, 2 * 8 * 10, 2 + 4 + 4), "the loss is taken in f32");
        // Logits of model and reference, log-probabilities of both, and the reference's probabilities.
        assert_eq!(f32.training(KL, 0, false), pass(20, 4 * 8 * 10, 2 * 4 + 3 * 4));
        assert_eq!(bf16.training(KL, 0, false), pass(20, 2 * 8 * 10, 2 * 2 + 3 * 4 + 4));
        // Blocks that learn keep the inputs of their matrices too.
        assert_eq!(f32.training(NLL, 4, false), pass(10, 4 * 8 * 16, 8));
        assert_eq!(f32.training(NLL, 1, false) - f32.training(NLL, 0, false), 10 * 4 * 8 * 6);
        let masked = Texts { longest: 50, ..TEXTS };
        let masked = Held { texts: &masked, ..f32 };
        assert_eq!(
            masked.training(NLL, 0, false) - f32.training(NLL, 0, false),
            10 * 50 * 4,
            "one mask for all blocks"
        );
    }

    #[test]
    fn more_positions_than_a_chunk_take_no_more_logits() {
        let many = Texts { pairs: 1_000_000, longest: 0, ..TEXTS };
        let many = Held { texts: &many, ..held(Dtype::F32) };
        let logits = many.training(NLL, 0, false) - many.values(1_000_000, 10 * 8 * 4);
        assert_eq!(logits, CHUNK / 4000 * 4000 + TILE / 4000 * 4000);
    }

    #[test]
    fn a_head_that_learns_keeps_a_gradient_for_every_score() {
        let dpo = Passes { pairs: 2, reference_pairs: 2, utility: 0 };
        let gradients = 2 * 10 * 1000 * 4;
        // A sum of each text and a product, of width 8: more than a chunk of so few positions.
        let sums = 3 * 8 * 1000 * 4;
        assert_eq!(held(Dtype::F32).training(dpo, 4, true), 2 * 10 * 4 * 16 * 8 * 4 + gradients + sums);
        let passes = |method| Passes::by_part(&RepairOptions { method: Some(method), ..Default::default() });
        assert_eq!(passes(Method::Dpo), [dpo], "the sigmoid of a difference is no sum");
        let whole = Passes { pairs: 1, utility: 1, ..NLL };
        assert_eq!(passes(Method::Irepair), [NLL, KL]);
        assert_eq!(passes(Method::DpoKl), [dpo, KL]);
        let terms = [NLL, KL].map(|term| held(Dtype::F32).training(term, 1, false));
        assert!(held(Dtype::F32).training(whole, 1, true) > terms.into_iter().max().unwrap_or(0));
        assert_eq!(passes(Method::GradientDifference), [NLL, NLL]);
    }

    #[test]
    fn ghost_norms_peak_at_one_end_of_the_backward_pass() {
        // Wide logits: when the head is at work. In half precision they have an f32 copy.
        let start = |width: u64, logits: u64| 10 * (4 * 20 * 8 * width + 1000 * logits);
        assert_eq!(held(Dtype::F32).measuring(10), start(4, 8));
        assert_eq!(held(Dtype::Bf16).measuring(10), start(2, 10));
        // Wide blocks: when all output gradients are there, and a norm is taken of the products of ten tokens.
        let wide = model(4096);
        let end = 10 * (4 * 29 * 4096 * 4) + 3 * 10 * 10 * 4;
        assert_eq!(Held { of: &wide, ..held(Dtype::F32) }.measuring(10), end);
    }

    #[test]
    fn a_validation_keeps_no_activation() {
        let (f32, bf16) = (held(Dtype::F32), held(Dtype::Bf16));
        assert_eq!(f32.validation(NLL), 30 * (12 * 8 * 4 + 1000 * 8));
        assert_eq!(bf16.validation(NLL), 30 * (12 * 8 * 2 + 1000 * 10));
        let whole = Passes { pairs: 1, utility: 1, ..NLL };
        assert_eq!(f32.validation(whole), 40 * (12 * 8 * 4 + 1000 * 20));
    }
}
