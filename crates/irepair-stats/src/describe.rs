//! Mean, spread, quantiles, and the Student t interval over seeds.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Level of every interval printed (METHOD §16).
pub const LEVEL: f64 = 0.95;

/// A closed interval, in the unit of the value it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end, at least `low`.
    pub high: f64,
}

impl Interval {
    /// True when `value` is inside, ends included.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A value with its interval, when there is one, and the number of observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The point estimate.
    pub value: f64,
    /// Its interval; none with too few observations.
    pub interval: Option<Interval>,
    /// Observations it was computed from.
    pub n: usize,
}

impl Estimate {
    /// Mean over seeds with its Student t interval at [`LEVEL`]; none when there are no finite values.
    pub fn over_seeds(values: &[f64]) -> Option<Self> {
        Some(Self { value: mean(values)?, interval: t_interval(values, LEVEL), n: values.len() })
    }
}

/// Arithmetic mean; none for an empty sample or one that is not finite.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// Standard deviation with n − 1 in the denominator; none for fewer than two values or any that is not finite.
pub fn sample_sd(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let sd = (squares / (values.len() - 1) as f64).sqrt();
    sd.is_finite().then_some(sd)
}

/// Two-sided Student t interval of the mean, for runs that differ in their seed (METHOD §16).
///
/// None for fewer than two values, for any that is not finite, and for a `level` outside (0, 1).
pub fn t_interval(values: &[f64], level: f64) -> Option<Interval> {
    let (mean, sd) = (mean(values)?, sample_sd(values)?);
    if !(level > 0.0 && level < 1.0) {
        return None;
    }
    let t = StudentsT::new(0.0, 1.0, (values.len() - 1) as f64).ok()?.inverse_cdf(0.5 + level / 2.0);
    let half_width = t * sd / (values.len() as f64).sqrt();
    half_width.is_finite().then_some(Interval { low: mean - half_width, high: mean + half_width })
}

/// Quantile `q` in \[0, 1\] of an ascending sample, linear between order statistics; none when it is empty.
pub fn quantile_of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    Some(sorted[below] + (place - below as f64) * (sorted[above] - sorted[below]))
}

/// Median; none for an empty sample or one that is not finite.
pub fn median(values: &[f64]) -> Option<f64> {
    if values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_seeds_use_t_of_4_303() {
        let interval = t_interval(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert!((interval.high - (2.0 + 4.302_652_729_7 / 3f64.sqrt())).abs() < 1e-6, "{interval:?}");
        assert!(interval.contains(2.0));
    }

    #[test]
    fn equal_seeds_have_an_interval_of_no_width() {
        assert_eq!(t_interval(&[4.0; 3], 0.95), Some(Interval { low: 4.0, high: 4.0 }));
    }

    #[test]
    fn one_seed_has_a_value_and_no_interval() {
        assert_eq!(Estimate::over_seeds(&[4.0]), Some(Estimate { value: 4.0, interval: None, n: 1 }));
        assert_eq!(Estimate::over_seeds(&[]), None);
    }

    #[test]
    fn values_that_are_not_finite_give_none() {
        for bad in [&[f64::NAN, 1.0][..], &[f64::INFINITY, 1.0], &[1e308, 1e308]] {
            assert_eq!((mean(bad), sample_sd(bad), t_interval(bad, 0.95)), (None, None, None));
        }
        assert_eq!(median(&[f64::NAN]), None);
        assert_eq!(t_interval(&[1.0, 2.0], 1.0), None);
    }

    #[test]
    fn the_median_of_an_even_count_is_halfway() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
