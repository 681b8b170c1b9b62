//! Texts of a repair at their longest, which memory and work are counted from.

use crate::RepairOptions;

/// Pairs of a validation batch (METHOD §17 [D, L]); a run on smaller batches takes two of its own at most.
pub const EVAL_BATCH: usize = 8;

/// Tokens of the texts of one step, each at its longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Tokens of one batch of chosen, or of rejected, texts.
    pub pairs: u64,
    /// Tokens of one batch of utility texts.
    pub utility: u64,
    /// Tokens of one batch of held-out pairs, on one side.
    pub held_out: u64,
    /// Tokens of one batch of held-out utility texts.
    pub held_out_utility: u64,
    /// Tokens of the longest text of a step.
    pub longest: u64,
    /// Batches per step.
    pub accumulation: u64,
}

impl Texts {
    /// Texts of a repair whose utility texts have `max_new_tokens` tokens after the start token (METHOD §2).
    pub fn of(options: &RepairOptions, max_new_tokens: usize) -> Self {
        let pair = (options.max_prompt() + options.max_continuation()) as u64;
        let utility = max_new_tokens as u64 + 1;
        let n = options.batch_size() as u64;
        Self {
            pairs: n * pair,
            utility: n * utility,
            held_out: (EVAL_BATCH as u64).min(2 * n) * pair,
            held_out_utility: (EVAL_BATCH as u64).min(2 * n) * utility,
            longest: pair.max(utility),
            accumulation: options.accumulation() as u64,
        }
    }

    /// The same texts behind the soft prefix of `options`, if they ask for one.
    pub(crate) fn prefixed(&self, options: &RepairOptions) -> Self {
        let each = options.soft_prefix.unwrap_or(0) as u64;
        let n = options.batch_size() as u64;
        let (batch, held_out) = (n.saturating_mul(each), (EVAL_BATCH as u64).min(2 * n).saturating_mul(each));
        Self {
            pairs: self.pairs + batch,
            utility: self.utility + batch,
            held_out: self.held_out + held_out,
            held_out_utility: self.held_out_utility + held_out,
            longest: self.longest + each,
            ..*self
        }
    }
}
