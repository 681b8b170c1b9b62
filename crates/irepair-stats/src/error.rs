//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a statistic is undefined for some numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No numbers.
    #[error("no values to compute {what} of")]
    Empty {
        /// The statistic.
        what: &'static str,
    },
    /// A NaN or an infinity among the numbers.
    #[error("value {idx} is {value}")]
    NotFinite {
        /// Its position.
        idx: usize,
        /// The value.
        value: f64,
    },
    /// A negative number where only sizes make sense.
    #[error("value {idx} is negative ({value})")]
    Negative {
        /// Its position.
        idx: usize,
        /// The value.
        value: f64,
    },
    /// Paired samples of different lengths.
    #[error("paired samples have {left} and {right} values")]
    UnequalLengths {
        /// Values in the first sample.
        left: usize,
        /// Values in the second.
        right: usize,
    },
    /// Every value, or every pair, is equal: there is nothing to rank.
    #[error("no two values differ")]
    NoDifference,
    /// A share or level outside (0, 1).
    #[error("{what} {value} is not between 0 and 1")]
    NotAShare {
        /// The quantity.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// Error density needs blocks in the top and blocks outside it.
    #[error("{n_blocks} blocks cannot be split into a top of {n_top} and a rest")]
    NoRest {
        /// Blocks in all.
        n_blocks: usize,
        /// Blocks in the top.
        n_top: usize,
    },
    /// Error density divides by the mean of the rest.
    #[error("every block outside the top has sensitivity 0")]
    SilentRest,
    /// Cells of a resampled table do not line up.
    #[error(
        "scores of methods and models differ in size: method {method}, model {model} has {got} {what}, expected {want}"
    )]
    Ragged {
        /// Method index.
        method: usize,
        /// Model index.
        model: usize,
        /// The dimension: `models`, `seeds`, `prompts`.
        what: &'static str,
        /// How many there should be.
        want: usize,
        /// How many there are.
        got: usize,
    },
    /// Finite values whose sum is not.
    #[error("values are too large to add up")]
    Overflow,
    /// A bootstrap without resamples.
    #[error("bootstrap needs at least one resample")]
    NoResamples,
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::NotAShare { .. } | Self::NoResamples => Diagnostic::new(ExitKind::Usage, self),
            Self::NotFinite { .. } => Diagnostic::new(ExitKind::Outcome, self)
                .help("leave a failed score out and count it, instead of passing NaN"),
            _ => Diagnostic::new(ExitKind::Data, self),
        }
    }
}

/// Refuses an empty sample and names the first value that is not finite.
pub(crate) fn check(values: &[f64], what: &'static str) -> Result<()> {
    if values.is_empty() {
        return Err(Error::Empty { what });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(idx) => Err(Error::NotFinite { idx, value: values[idx] }),
        None => Ok(()),
    }
}

/// [`check`] for two paired samples.
pub(crate) fn check_paired(left: &[f64], right: &[f64], what: &'static str) -> Result<()> {
    if left.len() != right.len() {
        return Err(Error::UnequalLengths { left: left.len(), right: right.len() });
    }
    check(left, what)?;
    check(right, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Empty: [Error::Empty { what: "a mean" }],
            NotFinite: [Error::NotFinite { idx: 1, value: f64::NAN }],
            Negative: [Error::Negative { idx: 1, value: -0.5 }],
            UnequalLengths: [Error::UnequalLengths { left: 1, right: 0 }],
            NoDifference: [Error::NoDifference],
            NotAShare: [Error::NotAShare { what: "level", value: 1.5 }],
            NoRest: [Error::NoRest { n_blocks: 2, n_top: 2 }],
            SilentRest: [Error::SilentRest],
            Ragged: [Error::Ragged { method: 1, model: 0, what: "seeds", want: 3, got: 2 }],
            Overflow: [Error::Overflow],
            NoResamples: [Error::NoResamples],
        }));
    }

    #[test]
    fn samples_are_checked_one_by_one() {
        assert_eq!(check(&[], "a mean"), Err(Error::Empty { what: "a mean" }));
        assert!(matches!(check(&[1.0, f64::NAN], "a mean"), Err(Error::NotFinite { idx: 1, .. })));
        assert_eq!(check_paired(&[1.0], &[], "a mean"), Err(Error::UnequalLengths { left: 1, right: 0 }));
    }
}
