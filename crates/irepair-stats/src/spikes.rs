//! Loss spikes: a robust rule on a running series (METHOD §8).

use std::collections::VecDeque;

use crate::median;

/// Values that the next one is compared with.
const WINDOW: usize = 50;

/// Values before the first that can be a spike.
const FEWEST: usize = 20;

/// Robust standard deviations over the median.
const N_SIGMA: f64 = 6.0;

/// Standard deviation of a normal distribution, in median absolute deviations.
const SIGMA_PER_MAD: f64 = 1.4826;

/// Lower limit of the standard deviation, as a share of the median, so that small changes on a plateau are no spikes.
const MIN_SIGMA: f64 = 0.01;

/// The last values of a series, and its level at the start.
///
/// ```
/// let mut spikes = irepair_stats::Spikes::default();
/// assert!((0..30).all(|i| spikes.judge(3.0 - 0.01 * f64::from(i)).is_none()));
/// assert!(spikes.judge(9.0).is_some_and(|limit| limit < 4.0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    last: VecDeque<f64>,
    /// Median of the first values; a loss below it is no spike, because the model is still better than at the start.
    start: Option<f64>,
}

impl Spikes {
    /// Adds `value`, and returns the limit that it exceeds when it is a spike. A value that is not finite is not added.
    pub fn judge(&mut self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let limit = self.limit();
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(value);
        limit.filter(|limit| value > *limit)
    }

    /// The largest value that is no spike; none while there are too few.
    fn limit(&mut self) -> Option<f64> {
        if self.last.len() < FEWEST {
            return None;
        }
        let values: Vec<f64> = self.last.iter().copied().collect();
        let middle = median(&values)?;
        let start = *self.start.get_or_insert(middle);
        let apart: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
        let sigma = (SIGMA_PER_MAD * median(&apart)?).max(MIN_SIGMA * middle.abs());
        Some((middle + N_SIGMA * sigma).max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2, 3 and 4 in turn: median 3, MAD 1.
    fn after(n: usize) -> Spikes {
        let mut spikes = Spikes::default();
        (0..n).for_each(|i| assert_eq!(spikes.judge((2 + i % 3) as f64), None));
        spikes
    }

    #[test]
    fn the_limit_is_six_robust_sigmas_over_the_median() {
        let limit = 3.0 + 6.0 * 1.4826;
        assert_eq!(after(50).judge(limit), None);
        assert_eq!(after(50).judge(limit + 1e-9), Some(limit));
        assert_eq!(after(50).judge(-100.0), None, "a fall is no spike");
    }

    #[test]
    fn noise_below_the_start_is_no_spike() {
        let mut spikes = after(20);
        assert!((0..50).all(|_| spikes.judge(0.01).is_none()));
        assert_eq!(spikes.judge(0.05), None, "far above the last fifty, far below the start");
        assert_eq!(spikes.judge(3.1), Some(3.0));
    }

    #[test]
    fn too_few_values_call_nothing_a_spike() {
        assert_eq!(after(18).judge(1e9), None);
        assert!(after(20).judge(1e9).is_some());
    }

    #[test]
    fn spikes_do_not_hide_others_and_a_new_level_is_soon_normal() {
        let mut spikes = after(50);
        assert!((0..20).all(|_| spikes.judge(100.0).is_some()), "twenty of the last fifty move the median little");
        assert!((0..20).any(|_| spikes.judge(100.0).is_none()));
    }

    #[test]
    fn small_changes_on_a_plateau_and_bad_numbers_are_no_spikes() {
        let mut spikes = Spikes::default();
        assert!((0..30).all(|_| spikes.judge(2.0).is_none()));
        assert_eq!(spikes.judge(2.1), None);
        assert_eq!(spikes.judge(f64::NAN), None);
        assert_eq!(spikes.judge(f64::INFINITY), None);
        assert!(spikes.judge(2.2).is_some());
    }
}
