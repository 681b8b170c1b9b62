//! Percentile bootstrap: the same bits for the same seed, on any number of threads (METHOD §16).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::describe::{LEVEL, quantile_of_sorted};
use crate::error::{check, check_paired};
use crate::{Error, Estimate, Interval, Result};

/// Settings of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples; 10,000 (METHOD §16 \[D\]).
    pub n_resamples: usize,
    /// Share of resamples inside the interval; 0.95 (METHOD §16 \[D\]).
    pub level: f64,
    /// Seed; each resample has its own random stream.
    pub seed: u64,
}

impl Bootstrap {
    /// METHOD §16's 10,000 resamples and 95 % level.
    pub fn new(seed: u64) -> Self {
        Self { n_resamples: 10_000, level: LEVEL, seed }
    }

    /// Evaluates `statistic` once per resample, in parallel, each with its own random stream.
    pub(crate) fn replicate<T: Send>(&self, statistic: impl Fn(&mut ChaCha8Rng) -> T + Sync) -> Result<Vec<T>> {
        if self.n_resamples == 0 {
            return Err(Error::NoResamples);
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::NotAShare { what: "level", value: self.level });
        }
        Ok((0..self.n_resamples as u64)
            .into_par_iter()
            .map(|i| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(i);
                statistic(&mut rng)
            })
            .collect())
    }

    /// The middle `level` of the replicates.
    pub(crate) fn percentile_interval(&self, mut replicates: Vec<f64>) -> Option<Interval> {
        replicates.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(Interval {
            low: quantile_of_sorted(&replicates, tail)?,
            high: quantile_of_sorted(&replicates, 1.0 - tail)?,
        })
    }
}

/// Mean with its percentile bootstrap interval; no interval for a single value.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`], [`Error::Overflow`] for the values; [`Error::NoResamples`],
/// [`Error::NotAShare`] for the settings.
pub fn bootstrap_mean(values: &[f64], bootstrap: &Bootstrap) -> Result<Estimate> {
    check(values, "a bootstrap mean")?;
    let n = values.len();
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if !(largest * n as f64).is_finite() {
        return Err(Error::Overflow);
    }
    let replicates = bootstrap.replicate(|rng| {
        let sum: f64 = (0..n).map(|_| values[rng.random_range(0..n)]).sum();
        sum / n as f64
    })?;
    let interval = if n < 2 { None } else { bootstrap.percentile_interval(replicates) };
    Ok(Estimate { value: values.iter().sum::<f64>() / n as f64, interval, n })
}

/// Mean of `left − right` over pairs, with its percentile bootstrap interval: pairs are resampled whole.
///
/// # Errors
/// [`Error::UnequalLengths`] and those of [`bootstrap_mean`].
pub fn paired_bootstrap_difference(left: &[f64], right: &[f64], bootstrap: &Bootstrap) -> Result<Estimate> {
    check_paired(left, right, "a paired difference")?;
    let differences: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
    bootstrap_mean(&differences, bootstrap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_every_bit() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 7)).collect();
        let b = Bootstrap::new(3);
        let once = bootstrap_mean(&values, &b).unwrap();
        assert_eq!(once, bootstrap_mean(&values, &b).unwrap());
        assert_ne!(once.interval, bootstrap_mean(&values, &Bootstrap::new(4)).unwrap().interval);
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(once, one_thread.install(|| bootstrap_mean(&values, &b)).unwrap());
    }

    #[test]
    fn a_constant_shift_has_no_uncertainty() {
        let left: Vec<f64> = (0..10).map(f64::from).collect();
        let right: Vec<f64> = left.iter().map(|v| v - 2.0).collect();
        let e = paired_bootstrap_difference(&left, &right, &Bootstrap::new(0)).unwrap();
        assert_eq!(e, Estimate { value: 2.0, interval: Some(Interval { low: 2.0, high: 2.0 }), n: 10 });
    }

    #[test]
    fn degenerate_input_is_an_error_or_has_no_interval() {
        let b = Bootstrap::new(0);
        assert_eq!(bootstrap_mean(&[1.0], &b).unwrap().interval, None);
        assert!(matches!(bootstrap_mean(&[], &b), Err(Error::Empty { .. })));
        assert!(matches!(bootstrap_mean(&[f64::NAN], &b), Err(Error::NotFinite { .. })));
        assert_eq!(bootstrap_mean(&[1e308, 1e308], &b), Err(Error::Overflow));
        let none = Bootstrap { n_resamples: 0, ..b };
        assert_eq!(bootstrap_mean(&[1.0], &none), Err(Error::NoResamples));
        assert!(paired_bootstrap_difference(&[1.0], &[], &b).is_err());
    }
}
