//! A policy as the user writes it, and as it runs.

use irepair_core::SliceSize;

use crate::{Error, PolicyKind, Result};

/// A policy as flags and files write it: a kind and every number any kind reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySpec {
    /// Which policy.
    pub kind: PolicyKind,
    /// Blocks per slice; the most blocks for `coverage`; not read by `all`. Default one block (METHOD §17 [D]).
    pub slice_k: SliceSize,
    /// Steps a choice is kept (`random`, `cyclic`, `every-n`), or the half-life of exploring in steps (`explore`).
    /// Default 20 (METHOD §5 [O]).
    pub every: u64,
    /// Weight of the past in `ema`, at least 0 and below 1. Default 0.9 (METHOD §5 [O]).
    pub rho: f64,
    /// Chance of exploring at step 0 in `explore`, 0 to 1. Default 0.1 (METHOD §5 [O]).
    pub epsilon: f64,
    /// Share of the squared sensitivity `coverage` must hold, over 0 and up to 1. Default 0.5 (METHOD §5 [O]).
    pub quota: f64,
}

impl PolicySpec {
    /// A policy with METHOD's defaults.
    pub fn new(kind: PolicyKind) -> Self {
        Self { kind, slice_k: SliceSize::Blocks(1), every: 20, rho: 0.9, epsilon: 0.1, quota: 0.5 }
    }
}

/// A checked policy (METHOD §5), each kind with the numbers it reads.
///
/// `k` is resolved against the model's number of blocks when choosing: `max(1, floor(r L))` for a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SlicePolicy {
    /// The `k` most sensitive blocks of this step's batch [D].
    Dynamic {
        /// Blocks per slice.
        k: SliceSize,
    },
    /// The `k` least sensitive blocks of this step's batch [D].
    Reverse {
        /// Blocks per slice.
        k: SliceSize,
    },
    /// The `k` most sensitive blocks of the estimate held in memory [D].
    Fixed {
        /// Blocks per slice.
        k: SliceSize,
    },
    /// `k` blocks drawn uniformly, redrawn every `every` steps [O].
    Random {
        /// Blocks per slice.
        k: SliceSize,
        /// Steps a draw is kept.
        every: u64,
    },
    /// `k` neighbouring blocks, moving on by `k` (past the last block to the first) every `every` steps [O].
    Cyclic {
        /// Blocks per slice.
        k: SliceSize,
        /// Steps before moving on.
        every: u64,
    },
    /// The `k` most sensitive blocks, measured when `step` is a multiple of `every` [O].
    EveryN {
        /// Blocks per slice.
        k: SliceSize,
        /// Steps between measurements.
        every: u64,
    },
    /// The `k` largest of the running mean `S <- rho S_old + (1 - rho) S_new` [O].
    Ema {
        /// Blocks per slice.
        k: SliceSize,
        /// Weight of the past.
        rho: f64,
    },
    /// `k` blocks drawn uniformly with chance `epsilon / 2^(step / half_life)`, else the `k` most sensitive [O].
    Explore {
        /// Blocks per slice.
        k: SliceSize,
        /// Chance of drawing at step 0.
        epsilon: f64,
        /// Steps after which the chance has halved.
        half_life: u64,
    },
    /// The fewest most sensitive blocks whose squares sum to `quota` of the total, `k_max` at most [O].
    Coverage {
        /// Share of the squared sensitivity to hold.
        quota: f64,
        /// The most blocks.
        k_max: SliceSize,
    },
    /// Every parameter; unsliced [D].
    All,
}

impl SlicePolicy {
    /// Checks the numbers the kind reads; the others are ignored.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the configuration key.
    pub fn new(spec: &PolicySpec) -> Result<Self> {
        let refuse = |key, want, got| Err(Error::OutOfRange { kind: spec.kind, key, want, got });
        let reads_every =
            matches!(spec.kind, PolicyKind::Random | PolicyKind::Cyclic | PolicyKind::EveryN | PolicyKind::Explore);
        if reads_every && spec.every == 0 {
            return refuse("policy_every", "at least 1 step", 0.0);
        }
        let k = spec.slice_k;
        Ok(match spec.kind {
            PolicyKind::Dynamic => Self::Dynamic { k },
            PolicyKind::Reverse => Self::Reverse { k },
            PolicyKind::Fixed => Self::Fixed { k },
            PolicyKind::Random => Self::Random { k, every: spec.every },
            PolicyKind::Cyclic => Self::Cyclic { k, every: spec.every },
            PolicyKind::EveryN => Self::EveryN { k, every: spec.every },
            PolicyKind::Ema if !(0.0..1.0).contains(&spec.rho) => {
                return refuse("policy_rho", "at least 0 and below 1", spec.rho);
            }
            PolicyKind::Ema => Self::Ema { k, rho: spec.rho },
            PolicyKind::Explore if !(0.0..=1.0).contains(&spec.epsilon) => {
                return refuse("policy_epsilon", "0 to 1", spec.epsilon);
            }
            PolicyKind::Explore => Self::Explore { k, epsilon: spec.epsilon, half_life: spec.every },
            PolicyKind::Coverage if !(spec.quota > 0.0 && spec.quota <= 1.0) => {
                return refuse("policy_quota", "over 0 and up to 1", spec.quota);
            }
            PolicyKind::Coverage => Self::Coverage { quota: spec.quota, k_max: k },
            PolicyKind::All => Self::All,
        })
    }

    /// The policy's name.
    pub fn kind(&self) -> PolicyKind {
        match self {
            Self::Dynamic { .. } => PolicyKind::Dynamic,
            Self::Reverse { .. } => PolicyKind::Reverse,
            Self::Fixed { .. } => PolicyKind::Fixed,
            Self::Random { .. } => PolicyKind::Random,
            Self::Cyclic { .. } => PolicyKind::Cyclic,
            Self::EveryN { .. } => PolicyKind::EveryN,
            Self::Ema { .. } => PolicyKind::Ema,
            Self::Explore { .. } => PolicyKind::Explore,
            Self::Coverage { .. } => PolicyKind::Coverage,
            Self::All => PolicyKind::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn every_kind_has_defaults_that_pass() {
        for kind in PolicyKind::ALL {
            assert_eq!(SlicePolicy::new(&PolicySpec::new(kind)).unwrap().kind(), kind);
        }
    }

    #[test]
    fn a_number_out_of_range_is_named_by_its_key() {
        let bad = |spec| SlicePolicy::new(&spec).unwrap_err().diagnostic().to_string();
        let base = PolicySpec::new;
        assert_eq!(
            bad(PolicySpec { rho: 1.0, ..base(PolicyKind::Ema) }),
            "error: `policy_rho` is out of range for policy ema\n want: at least 0 and below 1    got: 1"
        );
        assert_eq!(
            bad(PolicySpec { every: 0, ..base(PolicyKind::Random) }),
            "error: `policy_every` is out of range for policy random\n want: at least 1 step    got: 0"
        );
        assert!(bad(PolicySpec { epsilon: f64::NAN, ..base(PolicyKind::Explore) }).contains("policy_epsilon"));
        assert!(bad(PolicySpec { quota: 0.0, ..base(PolicyKind::Coverage) }).contains("policy_quota"));
    }

    #[test]
    fn numbers_a_kind_does_not_read_are_not_checked() {
        assert!(SlicePolicy::new(&PolicySpec { every: 0, rho: 9.0, ..PolicySpec::new(PolicyKind::Dynamic) }).is_ok());
    }
}
