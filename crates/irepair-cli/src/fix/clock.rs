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

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// Updates so far.
    pub(crate) n_steps: u64,
    /// Of its last point.
    pub(crate) kl: Option<f64>,
    pub(crate) ended: bool,
}

/// The work of the search that is left, and the pace at which such work went.
pub(crate) struct Clock {
    steps: Steps,
    /// Of updates and of points.
    paces: [Pace; 2],
    round: usize,
    /// Runs of the round, and the place of the one that trains now.
    runs: Vec<Stand>,
    at: usize,
    /// A run ends at a point of more KL.
    most_kl: f64,
    /// Seconds of what follows the search, as expected.
    after: f64,
}

impl Clock {
    /// The clock of a search that begins.
    pub(crate) fn new(steps: &Steps, n_prompts: [usize; 3], speed: &Speed) -> Self {
        let start = Stand { n_steps: 0, kl: None, ended: false };
        Self {
            steps: steps.clone(),
            paces: [speed.update, steps.point(n_prompts, speed)].map(Pace::expected),
            round: 0,
            runs: vec![start; steps.presets.len()],
            at: 0,
            most_kl: f64::INFINITY,
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

    /// The run at place `at` of the round's `runs` begins; those before it have had their turn.
    pub(crate) fn begins(&mut self, round: usize, runs: Vec<Stand>, at: usize, most_kl: f64) {
        (self.round, self.runs, self.at, self.most_kl) = (round, runs, at, most_kl);
    }

    /// A point of the run that trains was measured in `seconds`, after `n` updates that took `of_updates`.
    pub(crate) fn point(&mut self, now: Stand, n: u64, of_updates: f64, seconds: f64) {
        if let Some(run) = self.runs.get_mut(self.at) {
            *run = now;
        }
        self.paces[0].took(of_updates, n as f64);
        self.paces[1].took(seconds, 1.0);
    }

    /// Updates after which a run that stands so will end: its KL grows as its updates do, and ends it at the first
    /// point of more than the most.
    fn end(&self, run: Stand) -> u64 {
        let last = self.steps.rounds.last().copied().unwrap_or(0);
        let n_points = run.n_steps as f64 / self.steps.every as f64;
        match run.kl {
            _ if run.ended => run.n_steps,
            Some(kl) if kl > 0.0 => last.min((n_points * self.most_kl / kl).ceil() as u64 * self.steps.every),
            _ => last,
        }
    }

    /// Updates that are left: those of this round, and of each later one the mean of the runs that reach it times those
    /// that it takes.
    fn updates(&self) -> f64 {
        let rounds = &self.steps.rounds;
        let between = |run: &Stand, from: u64, to: u64| self.end(*run).min(to).saturating_sub(from.max(run.n_steps));
        let Some(&this) = rounds.get(self.round) else { return 0.0 };
        let turns = self.runs.iter().skip(self.at);
        let of_round: u64 = turns.map(|run| between(run, 0, this)).sum();
        let later = (self.round + 1..rounds.len()).map(|round| {
            let from = rounds[round - 1];
            let reach: Vec<&Stand> = self.runs.iter().filter(|run| self.end(**run) > from).collect();
            let sum: u64 = reach.iter().map(|run| between(run, from, rounds[round])).sum();
            sum as f64 * self.steps.n_presets(round).min(reach.len()) as f64 / reach.len().max(1) as f64
        });
        of_round as f64 + later.sum::<f64>()
    }

    /// Seconds that are left, about.
    fn seconds(&self) -> f64 {
        // What follows the search is answers and texts, as a point is.
        let slower = self.paces[1].each() / self.paces[1].expected;
        let after = if slower.is_finite() { self.after * slower } else { self.after };
        let updates = self.updates();
        updates * self.paces[0].each() + updates / self.steps.every as f64 * self.paces[1].each() + after
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

    fn at(n_steps: u64, kl: f64) -> Stand {
        Stand { n_steps, kl: Some(kl), ended: false }
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
        clock.point(at(8, 0.0), 8, 64.0, 11.0);
        // 200 updates of 8 s, 25 points of 11 s: 11 of the 80 s expected; what follows goes like points.
        assert!((clock.seconds() - (1600.0 + 275.0 + 144.0 * 11.0 / 80.0)).abs() < 1e-9);
        assert_eq!(clock.left(), "32 min");
        for _ in 0..N_RECENT {
            clock.point(at(16, 0.0), 8, 8.0, 22.0);
        }
        // What was measured first counts no longer: 192 updates of 1 s, 24 points of 22 s.
        assert!((clock.seconds() - (192.0 + 528.0 + 144.0 * 22.0 / 80.0)).abs() < 1e-9);
    }

    #[test]
    fn runs_that_end_leave_no_work() {
        let mut clock = clock();
        let new = Stand { n_steps: 0, kl: None, ended: false };
        let mut left = |round, runs: &[Stand], at| {
            clock.begins(round, runs.to_vec(), at, 0.1);
            clock.updates()
        };
        // 6 runs to 16 updates, 3 from there to 32, 2 from there to 64.
        assert_eq!(left(0, &[new; 6], 0), 96.0 + 48.0 + 64.0);
        assert_eq!(left(0, &[at(16, 0.001), at(16, 0.2), at(8, 0.001), new, new, new], 2), 8.0 + 48.0 + 48.0 + 64.0);
        assert_eq!(left(1, &[at(16, 0.001)], 0), 16.0 + 32.0, "the others ended");
        assert_eq!(left(2, &[at(32, 0.001); 2], 1), 32.0);
        assert_eq!(left(2, &[at(32, 0.001), at(64, 0.001)], 1), 0.0);
        // 0.07 after 16 updates is over 0.1 after 23, which the point at 24 sees.
        assert_eq!(left(1, &[at(16, 0.07); 3], 0), 3.0 * 8.0);
        assert_eq!(
            left(1, &[at(16, 0.04), at(16, 0.001), at(16, 0.07)], 0),
            16.0 + 16.0 + 8.0 + 2.0 * (8.0 + 32.0) / 2.0
        );
        assert_eq!(left(1, &[Stand { ended: true, ..at(16, 0.001) }; 3], 0), 0.0);
        assert_eq!(left(0, &[], 0), 0.0);
    }
}
