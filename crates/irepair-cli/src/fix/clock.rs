//! Time left: what each kind of work took lately, times what is left of it.

use std::collections::VecDeque;

use super::plan::{N_NEUTRAL, Speed, Steps};

/// Measurements that the pace is the mean of: the machine's load changes.
const N_RECENT: usize = 4;

/// Seconds for a unit of work: expected, and as measured lately.
struct Pace {
    expected: f64,
    /// Seconds and units.
    recent: VecDeque<(f64, f64)>,
}

impl Pace {
    fn expected(expected: f64) -> Self {
        Self { expected, recent: VecDeque::new() }
    }

    fn took(&mut self, seconds: f64, n: f64) {
        if n > 0.0 {
            self.recent.push_back((seconds, n));
            self.recent.drain(..self.recent.len().saturating_sub(N_RECENT));
        }
    }

    fn each(&self) -> f64 {
        let sum = |of: fn(&(f64, f64)) -> f64| self.recent.iter().map(of).sum::<f64>();
        if self.recent.is_empty() { self.expected } else { sum(|m| m.0) / sum(|m| m.1) }
    }
}

/// Work that is left, and the pace at which such work went.
pub(crate) struct Clock {
    steps: Steps,
    /// Of updates and of points.
    paces: [Pace; 2],
    left: [f64; 2],
    /// Seconds of what follows the search, as expected.
    after: f64,
}

impl Clock {
    /// The clock of a search that begins.
    pub(crate) fn new(steps: &Steps, n_prompts: [usize; 3], speed: &Speed) -> Self {
        let [updates, points] = steps.work().map(|n| n as f64);
        Self {
            steps: steps.clone(),
            paces: [speed.update, steps.point(n_prompts, speed)].map(Pace::expected),
            // The point before the first update is known.
            left: [updates, points - 1.0],
            after: steps.after(n_prompts, speed),
        }
    }

    /// Passes of training and answers went so many times as slowly as expected.
    pub(crate) fn went(&mut self, passes: f64, answers: f64) {
        let fit = |times: f64| if times.is_finite() && times > 0.0 { times } else { 1.0 };
        self.paces[0].expected *= fit(passes);
        self.paces[1].expected *= fit(answers);
        self.after *= fit(answers);
    }

    /// A run begins: from how many updates it continues, how many runs of its round follow, and how many that did not
    /// end there are with it. `ends`: a point without failures is known, so that few runs outlast the round.
    pub(crate) fn begins(&mut self, round: usize, from: u64, n_follow: usize, n_alive: usize, ends: bool) {
        let rounds = &self.steps.rounds;
        let gap = |round: usize| rounds[round] - round.checked_sub(1).map_or(0, |before| rounds[before]);
        let of_round = rounds[round].saturating_sub(from) + n_follow as u64 * gap(round);
        let later = (round + 1..rounds.len()).map(|r| n_alive.min(self.steps.n_presets(r)) as u64 * gap(r));
        let updates = (of_round + if ends { 0 } else { later.sum::<u64>() }) as f64;
        self.left = [updates, (updates / self.steps.every as f64).ceil()];
    }

    /// A point was measured in `seconds`, after `n` updates that took `of_updates`.
    pub(crate) fn point(&mut self, n: u64, of_updates: f64, seconds: f64) {
        let n = n as f64;
        self.left = [(self.left[0] - n).max(0.0), (self.left[1] - 1.0).max(0.0)];
        self.paces[0].took(of_updates, n);
        self.paces[1].took(seconds, 1.0);
    }

    /// Seconds that are left, about.
    fn seconds(&self) -> f64 {
        // What follows the search is answers and texts, as a point is.
        let slower = self.paces[1].each() / self.paces[1].expected;
        let after = if slower.is_finite() { self.after * slower } else { self.after };
        self.left[0] * self.paces[0].each() + self.left[1] * self.paces[1].each() + after
    }

    /// The time that is left, in words.
    pub(crate) fn left(&self) -> String {
        let minutes = self.seconds() / 60.0;
        if minutes < 1.0 { "1 min".to_owned() } else { format!("{minutes:.0} min") }
    }
}

/// Seconds of parts of a plan.
impl Steps {
    /// A point of the search.
    pub(crate) fn point(&self, [_, valid, _]: [usize; 3], speed: &Speed) -> f64 {
        ((1 + self.more_answers) * valid) as f64 * speed.answer + N_NEUTRAL as f64 * speed.text
    }

    /// What follows the search: answers to test prompts, KL, and two perplexities of neutral texts.
    pub(crate) fn after(&self, [_, _, test]: [usize; 3], speed: &Speed) -> f64 {
        ((1 + self.more_answers) * test) as f64 * speed.answer + 2.0 * N_NEUTRAL as f64 * speed.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::plan::some_plan;

    const PROMPTS: [usize; 3] = [100, 60, 100];

    fn clock() -> Clock {
        let speed = Speed { answer: 0.1, text: 0.5, update: 2.0 };
        Clock::new(&Steps::of(&some_plan(), 12, PROMPTS, &speed), PROMPTS, &speed)
    }

    #[test]
    fn time_left_follows_what_was_measured() {
        let mut clock = clock();
        // 208 updates of 2 s, 26 points of 40 s, and 72 s after.
        assert!((clock.seconds() - (416.0 + 1040.0 + 72.0)).abs() < 1e-9);
        clock.went(3.0, 2.0);
        assert!((clock.seconds() - (1248.0 + 2080.0 + 144.0)).abs() < 1e-9);
        clock.went(f64::NAN, 0.0);
        assert!((clock.seconds() - (1248.0 + 2080.0 + 144.0)).abs() < 1e-9);
        clock.point(8, 64.0, 11.0);
        // 200 updates of 8 s, 25 points of 11 s: 11 of the 80 s expected; what follows goes like points.
        assert!((clock.seconds() - (1600.0 + 275.0 + 144.0 * 11.0 / 80.0)).abs() < 1e-9);
        assert_eq!(clock.left(), "32 min");
        for _ in 0..N_RECENT {
            clock.point(8, 8.0, 22.0);
        }
        // What was measured first counts no longer: 168 updates of 1 s, 21 points of 22 s.
        assert!((clock.seconds() - (168.0 + 462.0 + 144.0 * 22.0 / 80.0)).abs() < 1e-9);
    }

    #[test]
    fn runs_that_ended_leave_no_work() {
        let mut clock = clock();
        let left = |clock: &mut Clock, round, from, n_follow, n_alive| {
            clock.begins(round, from, n_follow, n_alive, false);
            clock.left
        };
        // 6 runs to 16 updates, 3 from there to 32, 2 from there to 64.
        assert_eq!(left(&mut clock, 0, 0, 5, 6), [96.0 + 48.0 + 64.0, 26.0]);
        assert_eq!(left(&mut clock, 0, 8, 3, 4), [8.0 + 48.0 + 48.0 + 64.0, 21.0]);
        assert_eq!(left(&mut clock, 1, 16, 0, 1), [16.0 + 32.0, 6.0], "the others ended");
        assert_eq!(left(&mut clock, 2, 32, 1, 2), [64.0, 8.0]);
        assert_eq!(left(&mut clock, 2, 64, 0, 1), [0.0, 0.0]);
        clock.begins(0, 8, 3, 4, true);
        assert_eq!(clock.left, [8.0 + 48.0, 7.0], "the round alone");
    }
}
