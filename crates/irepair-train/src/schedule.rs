//! The learning-rate schedule.

/// Linear warm-up, then constant: `eta * min(1, (t + 1) / (W + 1))`.
///
/// `step` counts from 0; `warmup_steps` is `W`. Source: METHOD §8 [D, L].
pub fn warm_up(lr: f64, step: u64, warmup_steps: u64) -> f64 {
    lr * ((step + 1) as f64 / (warmup_steps + 1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_to_the_rate_and_stays() {
        assert_eq!(warm_up(3.0, 0, 2), 1.0);
        assert_eq!([2, 3, 100].map(|t| warm_up(3.0, t, 2)), [3.0; 3]);
        assert_eq!(warm_up(3.0, 0, 0), 3.0);
    }
}
