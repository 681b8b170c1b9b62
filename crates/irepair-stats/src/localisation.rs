//! How well a ranking of units finds those that are faulty, and what a random ranking would find (METHOD §13).

use crate::{Error, Result};

/// Scores of one ranking against the truth, or their expectation over all rankings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Localisation {
    /// 1 when the first unit is a faulty one.
    pub top1: f64,
    /// Share of the faulty units among the first `m`, where `m` units are faulty.
    pub recall: f64,
    /// 1 over the rank of the first faulty unit. Its mean over faults is the MRR.
    pub reciprocal_rank: f64,
    /// Mean, over the faulty units, of the share of faulty ones up to and including it. Its mean over faults is the
    /// MAP.
    pub average_precision: f64,
    /// Share of the units that are inspected before the first faulty one (EXAM): smaller is better.
    pub exam: f64,
}

impl Localisation {
    /// Scores of a ranking of `n` units in which the faulty ones have these ranks, counted from 1, in any order.
    ///
    /// # Errors
    /// [`Error::Empty`] without a rank; [`Error::NotARank`] for one that is outside 1 to `n` or occurs twice.
    ///
    /// # Source
    /// METHOD §13 \[S\].
    pub fn of_ranks(n: usize, ranks: &[usize]) -> Result<Self> {
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        let Some(&first) = sorted.first() else { return Err(Error::Empty { what: "localisation scores" }) };
        let outside = sorted.iter().find(|rank| !(1..=n).contains(rank));
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
        if let Some(&rank) = outside.or(twice) {
            return Err(Error::NotARank { rank, n });
        }
        let m = sorted.len();
        let precision = sorted.iter().enumerate().map(|(i, &rank)| (i + 1) as f64 / rank as f64);
        Ok(Self {
            top1: f64::from(first == 1),
            recall: sorted.iter().filter(|rank| **rank <= m).count() as f64 / m as f64,
            reciprocal_rank: 1.0 / first as f64,
            average_precision: precision.sum::<f64>() / m as f64,
            exam: (first - 1) as f64 / n as f64,
        })
    }

    /// The mean of each score over all rankings of `n` units of which `m` are faulty, exactly.
    ///
    /// With `R` the first faulty rank: `P(top1) = recall = m/n`, `E[1/R] = Σ_k P(R = k)/k` with
    /// `P(R = k) = m/(n-k+1) Π_{i<k} (1 - m/(n-i+1))`, `E[AP] = (1/n) Σ_k (1/k)(1 + (k-1)(m-1)/(n-1))`, because unit
    /// `k` is faulty with `m/n` and each before it then with `(m-1)/(n-1)`, and `E[EXAM] = (n-m)/(n(m+1))`.
    ///
    /// # Errors
    /// [`Error::Empty`] when `m` is 0; [`Error::NotARank`] when `m` is over `n`.
    ///
    /// # Source
    /// Our derivation; `the_expectation_is_the_mean_over_every_ranking` counts them.
    pub fn of_chance(n: usize, m: usize) -> Result<Self> {
        match m {
            0 => return Err(Error::Empty { what: "localisation scores" }),
            m if m > n => return Err(Error::NotARank { rank: m, n }),
            _ => {}
        }
        let (n_f, m_f) = (n as f64, m as f64);
        let mut left = 1.0;
        let mut reciprocal_rank = 0.0;
        for k in 1..=n - m + 1 {
            let here = left * m_f / (n - k + 1) as f64;
            reciprocal_rank += here / k as f64;
            left -= here;
        }
        let also = if n > 1 { (m_f - 1.0) / (n_f - 1.0) } else { 0.0 };
        let precision = (1..=n).map(|k| (1.0 + (k - 1) as f64 * also) / k as f64);
        Ok(Self {
            top1: m_f / n_f,
            recall: m_f / n_f,
            reciprocal_rank,
            average_precision: precision.sum::<f64>() / n_f,
            exam: (n_f - m_f) / (n_f * (m_f + 1.0)),
        })
    }

    /// The scores in the order of METHOD §13, each with its name.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("top1", self.top1),
            ("recall", self.recall),
            ("reciprocal_rank", self.reciprocal_rank),
            ("average_precision", self.average_precision),
            ("exam", self.exam),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every set of `m` ranks out of `n`.
    fn subsets(n: usize, m: usize) -> Vec<Vec<usize>> {
        let all = (0..1u32 << n).filter(|bits| bits.count_ones() as usize == m);
        all.map(|bits| (1..=n).filter(|rank| bits >> (rank - 1) & 1 == 1).collect()).collect()
    }

    #[test]
    fn the_expectation_is_the_mean_over_every_ranking() {
        for n in 1..=9 {
            for m in 1..=n {
                let scores: Vec<_> =
                    subsets(n, m).iter().map(|ranks| Localisation::of_ranks(n, ranks).unwrap().named()).collect();
                for (i, (name, expected)) in Localisation::of_chance(n, m).unwrap().named().into_iter().enumerate() {
                    let mean = scores.iter().map(|of| of[i].1).sum::<f64>() / scores.len() as f64;
                    assert!((mean - expected).abs() < 1e-12, "{name} of {m} in {n}: {mean} and {expected}");
                }
            }
        }
    }

    #[test]
    fn a_ranking_has_the_scores_worked_out_by_hand() {
        let scores = Localisation::of_ranks(10, &[4, 2]).unwrap();
        assert_eq!(scores.named().map(|(_, score)| score), [0.0, 0.5, 0.5, 0.5, 0.1]);
        let best = Localisation::of_ranks(10, &[1, 2, 3]).unwrap();
        assert_eq!(best.named().map(|(_, score)| score), [1.0, 1.0, 1.0, 1.0, 0.0]);
        let worst = Localisation::of_ranks(4, &[4]).unwrap();
        assert_eq!(worst.named().map(|(_, score)| score), [0.0, 0.0, 0.25, 0.25, 0.75]);
    }

    #[test]
    fn chance_stays_exact_for_many_units() {
        // One faulty unit of n: E[1/R] = H_n / n, and E[AP] is the same.
        let n = 100_000;
        let harmonic = (1..=n).map(|k| 1.0 / k as f64).sum::<f64>() / n as f64;
        let chance = Localisation::of_chance(n, 1).unwrap();
        assert!((chance.reciprocal_rank / harmonic - 1.0).abs() < 1e-9);
        assert!((chance.average_precision / harmonic - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_ranking_is_refused() {
        for (n, ranks) in [(3, vec![0]), (3, vec![4]), (3, vec![2, 2])] {
            assert!(matches!(Localisation::of_ranks(n, &ranks), Err(Error::NotARank { .. })), "{ranks:?}");
        }
        assert!(Localisation::of_ranks(3, &[]).is_err());
        assert!(Localisation::of_chance(3, 0).is_err() && Localisation::of_chance(3, 4).is_err());
    }
}
