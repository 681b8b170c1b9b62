//! A policy as given by the user, and as checked.

use std::fmt;

use irepair_core::SliceSize;
use irepair_core::spec::{Number, Numbers, Policy};

use crate::{Error, Result};

/// A policy as given by flags and files, with the numbers of all policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySpec {
    /// Which policy.
    pub kind: Policy,
    /// Blocks per slice; the most blocks for `coverage`; not read by `all`. Default one block (METHOD §17 [D]).
    pub slice_k: SliceSize,
    /// The numbers; a policy reads those its row names, with METHOD's values as defaults.
    pub numbers: Numbers,
}

impl PolicySpec {
    /// A policy with METHOD's defaults.
    pub fn new(kind: Policy) -> Self {
        Self { kind, slice_k: SliceSize::Blocks(1), numbers: Numbers::default() }
    }

    /// The same with another value for one number.
    #[must_use]
    pub fn with(self, number: Number, value: f64) -> Self {
        Self { numbers: self.numbers.with(number, value), ..self }
    }
}

/// A checked policy (METHOD §5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlicePolicy(PolicySpec);

impl SlicePolicy {
    /// Checks the numbers that the policy reads; the others are ignored.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] naming the configuration key.
    pub fn new(spec: &PolicySpec) -> Result<Self> {
        let wrong =
            spec.kind.row().reads.iter().find(|number| !number.row().range.contains(spec.numbers.get(**number)));
        match wrong {
            Some(&number) => Err(Error::OutOfRange { kind: spec.kind, number, got: spec.numbers.get(number) }),
            None => Ok(Self(*spec)),
        }
    }

    /// Which policy.
    pub fn kind(&self) -> Policy {
        self.0.kind
    }

    /// Blocks per slice of a model of `n_blocks`: `max(1, floor(r L))` for a share.
    pub(crate) fn k(&self, n_blocks: usize) -> usize {
        self.0.slice_k.resolve(n_blocks)
    }

    pub(crate) fn number(&self, number: Number) -> f64 {
        self.0.numbers.get(number)
    }

    /// `policy_every`, at least 1 where it is read.
    pub(crate) fn every(&self) -> u64 {
        (self.number(Number::PolicyEvery) as u64).max(1)
    }
}

/// The policy with the numbers it reads, such as `random (k 1, policy_every 20)`; equal text means equal choices.
impl fmt::Display for SlicePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PolicySpec { kind, slice_k, numbers } = self.0;
        write!(f, "{kind} (k {slice_k}")?;
        for number in kind.row().reads {
            write!(f, ", {number} {}", numbers.get(*number))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn every_policy_has_defaults_that_pass() {
        for kind in Policy::ALL {
            assert_eq!(SlicePolicy::new(&PolicySpec::new(*kind)).unwrap().kind(), *kind);
        }
    }

    #[test]
    fn a_number_out_of_range_is_named_by_its_key() {
        let bad = |kind, number, value| {
            SlicePolicy::new(&PolicySpec::new(kind).with(number, value)).unwrap_err().diagnostic().to_string()
        };
        assert_eq!(
            bad(Policy::Ema, Number::PolicyRho, 1.0),
            "error: `policy_rho` is out of range for policy ema\n want: at least 0 and below 1    got: 1"
        );
        assert_eq!(
            bad(Policy::Random, Number::PolicyEvery, 0.0),
            "error: `policy_every` is out of range for policy random\n want: at least 1    got: 0"
        );
        assert!(bad(Policy::Explore, Number::PolicyEpsilon, f64::NAN).contains("policy_epsilon"));
        assert!(bad(Policy::Coverage, Number::PolicyQuota, 0.0).contains("policy_quota"));
    }

    #[test]
    fn a_policy_is_written_with_the_numbers_it_reads() {
        let written = |kind| {
            let spec = PolicySpec::new(kind).with(Number::PolicyEvery, 7.0).with(Number::Beta, 9.0);
            SlicePolicy::new(&spec).unwrap().to_string()
        };
        assert_eq!(written(Policy::Dynamic), "dynamic (k 1b)");
        assert_eq!(written(Policy::Random), "random (k 1b, policy_every 7)");
    }

    #[test]
    fn numbers_a_policy_does_not_read_are_not_checked() {
        let spec = PolicySpec::new(Policy::Dynamic).with(Number::PolicyEvery, 0.0).with(Number::PolicyRho, 9.0);
        assert!(SlicePolicy::new(&spec).is_ok());
    }
}
