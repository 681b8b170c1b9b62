//! The slicing policies of METHOD §5; `irepair-slicing` chooses by them.

use super::Number;

/// One policy of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// When it reads sensitivities.
    pub measures: Measures,
    /// What a run under it can change.
    pub reach: Reach,
    /// The numbers it reads, besides the size of the slice.
    pub reads: &'static [Number],
}

table! {
    /// Which blocks a step may change (METHOD §5).
    pub enum Policy("policy"): PolicyRow {
        /// The most sensitive blocks, measured at every step: the paper's method [D].
        Dynamic = "dynamic" { measures: Measures::EveryStep, reach: Reach::AnyBlock, reads: &[] }
        /// The least sensitive blocks, measured at every step: the paper's control [D].
        Reverse = "reverse" { measures: Measures::EveryStep, reach: Reach::AnyBlock, reads: &[] }
        /// The most sensitive blocks of one estimate made before the first step [D].
        Fixed = "fixed" { measures: Measures::Once, reach: Reach::OneSlice, reads: &[] }
        /// Blocks drawn uniformly, kept for some steps [O].
        Random = "random" { measures: Measures::Never, reach: Reach::AnyBlock, reads: &[Number::PolicyEvery] }
        /// Blocks in order, each kept for some steps [O].
        Cyclic = "cyclic" { measures: Measures::Never, reach: Reach::AnyBlock, reads: &[Number::PolicyEvery] }
        /// `dynamic`, measured only every so many steps [O].
        EveryN = "every-n" { measures: Measures::EveryNSteps, reach: Reach::AnyBlock, reads: &[Number::PolicyEvery] }
        /// The most sensitive blocks of a running mean [O].
        Ema = "ema" { measures: Measures::EveryStep, reach: Reach::AnyBlock, reads: &[Number::PolicyRho] }
        /// `dynamic`, but sometimes drawn uniformly, less and less often [O].
        Explore = "explore" {
            measures: Measures::EveryStep, reach: Reach::AnyBlock, reads: &[Number::PolicyEpsilon, Number::PolicyEvery]
        }
        /// As many of the most sensitive blocks as hold a share of the squared sensitivity [O].
        Coverage = "coverage" { measures: Measures::EveryStep, reach: Reach::AnyBlock, reads: &[Number::PolicyQuota] }
        /// Every block, or every one that `only` and `exclude` leave, and neither embeddings nor head; not
        /// measured [O].
        Blocks = "blocks" { measures: Measures::Never, reach: Reach::EveryBlock, reads: &[] }
        /// Every parameter, embeddings included [D].
        All = "all" { measures: Measures::Never, reach: Reach::Everything, reads: &[] }
    }
}

/// When a policy reads sensitivities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measures {
    /// Never.
    Never,
    /// One estimate over many batches, before the first step.
    Once,
    /// Those of the batch, when the step is a multiple of `policy_every`.
    EveryNSteps,
    /// Those of the batch, at every step.
    EveryStep,
}

/// What the steps of a run can change between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One slice, the same at every step.
    OneSlice,
    /// Every block that may be chosen, at every step.
    EveryBlock,
    /// Any block, in one step or another.
    AnyBlock,
    /// Every parameter, at every step.
    Everything,
}

impl Policy {
    /// True when a step changes some blocks only.
    pub fn is_sliced(self) -> bool {
        self.row().reach != Reach::Everything
    }

    /// True when the sensitivities of the batch of `step` are measured; `every` is the policy's `policy_every`.
    pub fn measures_at(self, step: u64, every: u64) -> bool {
        match self.row().measures {
            Measures::Never | Measures::Once => false,
            Measures::EveryNSteps => step.is_multiple_of(every),
            Measures::EveryStep => true,
        }
    }
}
