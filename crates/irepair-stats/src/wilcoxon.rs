//! Wilcoxon signed-rank test on paired prompt scores (METHOD §16).

use crate::error::check_paired;
use crate::ranks::{count_sums, exact_p, midranks, normal_p};
use crate::{Error, PMethod, Result};

/// Up to this many differing pairs the p-value is exact: every count stays below 2^53.
const MAX_EXACT: usize = 50;

/// Outcome of a signed-rank test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wilcoxon {
    /// Sum of the ranks of the positive differences `left − right`.
    pub w_plus: f64,
    /// Two-sided p.
    pub p: f64,
    /// How `p` was obtained.
    pub method: PMethod,
    /// Pairs that differ; equal pairs have no sign and are dropped.
    pub n_used: usize,
    /// Equal pairs.
    pub n_equal: usize,
}

/// Two-sided Wilcoxon signed-rank test of paired samples.
///
/// Equal pairs are dropped, which is Wilcoxon's own treatment of zeros (SciPy: `zero_method="wilcox"`). Up to 50
/// remaining pairs the permutation distribution of the (mid)ranks is counted exactly, with ties; beyond that the normal
/// approximation is used, corrected for ties and continuity.
///
/// # Errors
/// [`Error::UnequalLengths`], [`Error::Empty`], [`Error::NotFinite`]; [`Error::NoDifference`] when every pair is equal.
///
/// # Source
/// METHOD §16 \[S\].
pub fn wilcoxon(left: &[f64], right: &[f64]) -> Result<Wilcoxon> {
    check_paired(left, right, "a signed-rank test")?;
    let differences: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).filter(|&d| d != 0.0).collect();
    let n_used = differences.len();
    if n_used == 0 {
        return Err(Error::NoDifference);
    }
    let sizes: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    let (ranks, ties) = midranks(&sizes);
    let w_plus: f64 = differences.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();

    let (p, method) = if n_used <= MAX_EXACT {
        let doubled: Vec<usize> = ranks.iter().map(|r| (2.0 * r).round() as usize).collect();
        (exact_p(&count_sums(&doubled, None), (2.0 * w_plus).round() as usize), PMethod::Exact)
    } else {
        let n = n_used as f64;
        let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0;
        (normal_p(w_plus - n * (n + 1.0) / 4.0, variance.sqrt()), PMethod::Normal)
    };
    Ok(Wilcoxon { w_plus, p, method, n_used, n_equal: left.len() - n_used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_pairs_all_one_way_give_one_in_sixteen() {
        let w = wilcoxon(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0; 5]).unwrap();
        assert_eq!((w.w_plus, w.p, w.method, w.n_used), (15.0, 0.0625, PMethod::Exact, 5));
    }

    #[test]
    fn equal_pairs_are_dropped_and_counted() {
        let w = wilcoxon(&[1.0, 2.0, 7.0], &[0.0, 0.0, 7.0]).unwrap();
        assert_eq!((w.n_used, w.n_equal), (2, 1));
        assert_eq!(wilcoxon(&[1.0; 3], &[1.0; 3]), Err(Error::NoDifference));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(wilcoxon(&[1.0], &[]), Err(Error::UnequalLengths { .. })));
        assert!(matches!(wilcoxon(&[], &[]), Err(Error::Empty { .. })));
        assert!(matches!(wilcoxon(&[1.0], &[f64::NAN]), Err(Error::NotFinite { .. })));
    }
}
