//! Ranks with ties, Spearman correlation, and how a p-value was obtained.

use ndarray::Array2;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::error::check_paired;
use crate::{Error, Result};

/// How a p-value was obtained; tables print it with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PMethod {
    /// From the permutation distribution of the ranks as they are, ties included.
    Exact,
    /// From the normal approximation with tie and continuity correction.
    Normal,
}

impl std::fmt::Display for PMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Normal => "normal approximation",
        })
    }
}

/// Ranks from 1 with ties sharing their mean, and the tie correction `Σ (t³ − t)` over groups of `t` equal values.
pub(crate) fn midranks(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut ties) = (vec![0.0; values.len()], 0.0);
    // Groups by `==`, so that 0 and -0 tie.
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = group[0];
        let below = values.iter().filter(|&&v| v < values[first]).count() as f64;
        let t = group.len() as f64;
        for &i in group {
            ranks[i] = below + (t + 1.0) / 2.0;
        }
        ties += t * t * t - t;
    }
    (ranks, ties)
}

/// Spearman's rank correlation in \[−1, 1\]: Pearson correlation of midranks.
///
/// # Errors
/// [`Error::UnequalLengths`], [`Error::Empty`], [`Error::NotFinite`]; [`Error::NoDifference`] when either side is
/// constant.
///
/// # Source
/// METHOD §4 \[S\]: near 1 between error and neutral text, the density is not specific to the error.
pub fn spearman(left: &[f64], right: &[f64]) -> Result<f64> {
    check_paired(left, right, "a rank correlation")?;
    let (left, right) = (midranks(left).0, midranks(right).0);
    let middle = (left.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>();
    let spread = (product(&left, &left) * product(&right, &right)).sqrt();
    if spread == 0.0 {
        return Err(Error::NoDifference);
    }
    Ok((product(&left, &right) / spread).clamp(-1.0, 1.0))
}

/// Number of ways to pick `n_picked` of `doubled_ranks` (any number when none) for each possible sum.
///
/// Ranks are doubled so that midranks are whole numbers. Counts are exact in f64 up to 2^53.
pub(crate) fn count_sums(doubled_ranks: &[usize], n_picked: Option<usize>) -> Vec<f64> {
    let total: usize = doubled_ranks.iter().sum();
    let n_rows = n_picked.map_or(1, |n| n + 1);
    let mut ways = Array2::zeros((n_rows, total + 1));
    ways[[0, 0]] = 1.0;
    // A rank moves a subset to the next size where sizes count.
    let step = usize::from(n_picked.is_some());
    for &rank in doubled_ranks {
        // Downwards, so that each rank is picked at most once.
        for row in (step..n_rows).rev() {
            for sum in (rank..=total).rev() {
                ways[[row, sum]] += ways[[row - step, sum - rank]];
            }
        }
    }
    ways.row(n_rows - 1).to_vec()
}

/// Two-sided p of an observed sum: twice the smaller tail, at most 1.
pub(crate) fn exact_p(ways: &[f64], observed: usize) -> f64 {
    let total: f64 = ways.iter().sum();
    let lower: f64 = ways[..=observed].iter().sum();
    let upper: f64 = ways[observed..].iter().sum();
    (2.0 * lower.min(upper) / total).min(1.0)
}

/// Two-sided p of a statistic `distance` away from its mean, with a continuity correction of one half.
pub(crate) fn normal_p(distance: f64, sd: f64) -> f64 {
    let z = (distance.abs() - 0.5).max(0.0) / sd;
    (2.0 * Normal::standard().sf(z)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0]), (vec![3.5, 1.0, 3.5, 2.0], 6.0));
        assert_eq!(midranks(&[0.0, -0.0]).0, [1.5, 1.5]);
    }

    #[test]
    fn sums_are_counted_once_each() {
        assert_eq!(count_sums(&[1, 2, 3], None), [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]);
        assert_eq!(count_sums(&[1, 2, 3], Some(2)), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn spearman_of_a_constant_is_undefined() {
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), Err(Error::NoDifference));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0]), Ok(1.0));
        assert!(spearman(&[], &[]).is_err());
        assert!(spearman(&[f64::NAN], &[1.0]).is_err());
    }
}
