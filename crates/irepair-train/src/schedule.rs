//! Learning-rate schedules.

/// How the learning rate moves over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Linear warm-up, then constant: `eta * min(1, (t + 1) / (W + 1))` (METHOD §8 [D, L]).
    Constant,
    /// Linear warm-up, then half a cosine down to a tenth of the rate at the last step: for pre-training [S].
    Cosine,
}

impl Schedule {
    /// The rate of step `step` (from 0) of `n_steps`, after `warmup_steps` of warm-up.
    pub fn rate(self, lr: f64, step: u64, warmup_steps: u64, n_steps: u64) -> f64 {
        let warm = ((step + 1) as f64 / (warmup_steps + 1) as f64).min(1.0);
        match self {
            Self::Constant => lr * warm,
            Self::Cosine => {
                let after =
                    step.saturating_sub(warmup_steps) as f64 / n_steps.saturating_sub(warmup_steps).max(1) as f64;
                lr * warm * (0.55 + 0.45 * (std::f64::consts::PI * after.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_to_the_rate_and_stays() {
        let rate = |step, warmup| Schedule::Constant.rate(3.0, step, warmup, 1000);
        assert_eq!(rate(0, 2), 1.0);
        assert_eq!([2, 3, 100].map(|t| rate(t, 2)), [3.0; 3]);
        assert_eq!(rate(0, 0), 3.0);
    }

    #[test]
    fn the_cosine_ends_at_a_tenth() {
        let rate = |step| Schedule::Cosine.rate(1.0, step, 10, 110);
        assert!((rate(10) - 1.0).abs() < 1e-12);
        assert!((rate(60) - 0.55).abs() < 1e-12);
        assert!((rate(110) - 0.1).abs() < 1e-12);
    }
}
