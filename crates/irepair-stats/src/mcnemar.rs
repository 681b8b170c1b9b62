//! Exact McNemar test on paired yes/no answers, such as failures of two models on the same prompts (METHOD §16).

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::{Error, Result};

/// Outcome of a McNemar test on paired yes/no answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Pairs where only the left answer is yes.
    pub n_only_left: u64,
    /// Pairs where only the right answer is yes.
    pub n_only_right: u64,
    /// Two-sided exact p: twice the smaller binomial tail, at most 1.
    pub p: f64,
}

/// Exact McNemar test. Pairs that agree are not used; when all agree, p is 1.
///
/// # Errors
/// [`Error::UnequalLengths`]; [`Error::Empty`] for no pairs.
///
/// # Source
/// METHOD §16 \[S\].
pub fn mcnemar(left: &[bool], right: &[bool]) -> Result<McNemar> {
    if left.len() != right.len() {
        return Err(Error::UnequalLengths { left: left.len(), right: right.len() });
    }
    if left.is_empty() {
        return Err(Error::Empty { what: "a McNemar test" });
    }
    let count = |l: bool| left.iter().zip(right).filter(|&(&a, &b)| a != b && a == l).count() as u64;
    let (n_only_left, n_only_right) = (count(true), count(false));
    let n = n_only_left + n_only_right;
    let tail = Binomial::new(0.5, n).map_or(1.0, |b| b.cdf(n_only_left.min(n_only_right)));
    Ok(McNemar { n_only_left, n_only_right, p: (2.0 * tail).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_disagreement_counts_coin_tosses() {
        let m = mcnemar(&[true; 5], &[false; 5]).unwrap();
        assert_eq!((m.n_only_left, m.n_only_right), (5, 0));
        assert!((m.p - 2.0 / 32.0).abs() < 1e-12);
    }

    #[test]
    fn agreement_is_no_evidence() {
        assert_eq!(mcnemar(&[true, false], &[true, false]).unwrap().p, 1.0);
        assert_eq!(mcnemar(&[true, false], &[false, true]).unwrap().p, 1.0);
        assert!(mcnemar(&[], &[]).is_err());
        assert!(mcnemar(&[true], &[]).is_err());
    }
}
