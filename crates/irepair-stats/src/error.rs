//! The crate's error type.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// Why a statistic is undefined for some numbers. A position is counted from 0.
    #[derive(Clone, PartialEq)]
    pub enum Error {
        /// No numbers to compute a statistic of.
        Empty { what: &'static str } = "no values to compute {what} of" => Data;
        /// A NaN or an infinity among the numbers.
        NotFinite { idx: usize, value: f64 } = "value {idx} is {value}" =>
            Outcome.help("leave a failed score out and count it, instead of passing NaN");
        /// A negative number where only sizes make sense.
        Negative { idx: usize, value: f64 } = "value {idx} is negative ({value})" => Data;
        /// Paired samples of different lengths.
        UnequalLengths { left: usize, right: usize } = "paired samples have {left} and {right} values" => Data;
        /// Every value, or every pair, is equal: there is nothing to rank.
        NoDifference = "no two values differ" => Data;
        /// A share or level outside (0, 1).
        NotAShare { what: &'static str, value: f64 } = "{what} {value} is not between 0 and 1" => Usage;
        /// Error density needs blocks in the top and blocks outside it.
        NoRest { n_blocks: usize, n_top: usize } =
            "{n_blocks} blocks cannot be split into a top of {n_top} and a rest" => Data;
        /// Error density divides by the mean of the rest.
        SilentRest = "every block outside the top has sensitivity 0" => Data;
        /// Cells of a resampled table do not line up: the indices of the first such cell, and the dimension: `models`,
        /// `seeds`, `prompts`.
        Ragged { method: usize, model: usize, what: &'static str, want: usize, got: usize } =
            "scores of methods and models differ in size: method {method}, model {model} has {got} {what}, expected \
             {want}" => Data;
        /// Finite values whose sum is not.
        Overflow = "values are too large to add up" => Data;
        /// A rank of a faulty unit that no ranking of `n` units has, or that two of them have; or more faulty units
        /// than units.
        NotARank { rank: usize, n: usize } = "{rank} is no rank of its own among {n} units" => Data;
        /// A bootstrap without resamples.
        NoResamples = "bootstrap needs at least one resample" => Usage;
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
            NotARank: [Error::NotARank { rank: 4, n: 3 }],
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
