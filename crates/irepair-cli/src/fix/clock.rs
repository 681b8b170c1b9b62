//! Time left: what each kind of work has taken so far, times what is left of it.

use super::plan::{N_NEUTRAL, Speed, Steps};

/// Work that is left, and the speed at which such work went.
pub(crate) struct Clock {
    /// Updates and points that are left.
    updates: f64,
    points: f64,
    /// Seconds for one of each: expected, and measured so far with its number.
    expected: [f64; 2],
    measured: [(f64, f64); 2],
    /// Seconds of what follows the search.
    after: f64,
}

impl Clock {
    /// The clock of a plan that begins.
    pub(crate) fn new(steps: &Steps, n_prompts: [usize; 3], speed: &Speed) -> Self {
        let [updates, points] = steps.work().map(|n| n as f64);
        let [_, valid, test] = n_prompts.map(|n| n as f64);
        let point = valid * speed.answer + N_NEUTRAL as f64 * speed.text;
        Self {
            updates,
            points: points - 1.0,
            expected: [speed.update, point],
            measured: [(0.0, 0.0); 2],
            after: test * speed.answer + 3.0 * N_NEUTRAL as f64 * speed.text,
        }
    }

    /// A point was measured.
    pub(crate) fn point(&mut self, seconds: f64) {
        self.points = (self.points - 1.0).max(0.0);
        self.measured[1].0 += seconds;
        self.measured[1].1 += 1.0;
    }

    /// A run has taken so many updates in all, in so many seconds.
    pub(crate) fn updates(&mut self, seconds: f64, n: u64) {
        self.measured[0].0 += seconds;
        self.measured[0].1 += n as f64;
    }

    /// Seconds that are left, about: updates are left as points are.
    pub(crate) fn seconds(&self, points_in_all: f64) -> f64 {
        let each = |i: usize| match self.measured[i] {
            (seconds, n) if n > 0.0 => seconds / n,
            _ => self.expected[i],
        };
        let updates = if points_in_all > 0.0 { self.updates * self.points / points_in_all } else { 0.0 };
        updates * each(0) + self.points * each(1) + self.after
    }

    /// The time that is left, in words.
    pub(crate) fn left(&self) -> String {
        let all = self.points + self.measured[1].1;
        let minutes = self.seconds(all) / 60.0;
        if minutes < 1.0 { "1 min".to_owned() } else { format!("{:.0} min", minutes.ceil()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::plan::some_plan;

    #[test]
    fn time_left_follows_what_was_measured() {
        let speed = Speed { answer: 0.1, text: 0.5, update: 2.0 };
        let steps = Steps::of(&some_plan(), 12, [100, 60, 100], &speed);
        let mut clock = Clock::new(&steps, [100, 60, 100], &speed);
        // 208 updates of 2 s, 26 points of 22 s, and 58 s after.
        assert!((clock.seconds(26.0) - (416.0 + 572.0 + 58.0)).abs() < 1e-9);
        clock.updates(64.0, 16);
        (0..13).for_each(|_| clock.point(10.0));
        // Half of the points are left: 104 updates of 4 s, 13 points of 10 s.
        assert!((clock.seconds(26.0) - (416.0 + 130.0 + 58.0)).abs() < 1e-9);
        assert_eq!(clock.left(), "11 min");
    }
}
