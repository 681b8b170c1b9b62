//! `[protocol]` of a profile: how long methods may run, and at which points they are compared (METHOD §20, §22).

use serde::{Deserialize, Serialize};

use crate::{Checks, Validate};

/// The same cap, points and comparisons for every method. With it, a run ends by patience or at the cap, its points on
/// validation data make a front, and its test results are given where it stopped, at equal updates, at equal compute
/// and within each KL budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protocol {
    /// Updates of a run at most; instead of `repair.steps`.
    pub cap: u64,
    /// Updates from one point on validation data to the next; instead of `trajectory`.
    pub every: u64,
    /// Points in a row that do not advance the front of error left and KL, after which a run ends by patience as well
    /// (METHOD §8 \[O\]); without it, validation loss alone ends one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_patience: Option<u64>,
    /// Updates of the comparison at equal updates: what each run would have given had it ended there.
    pub equal_updates: u64,
    /// Counted FLOPs of the comparison at equal compute: what each run would have given had it ended at the update that
    /// reaches them.
    pub equal_compute_flops: f64,
    /// KL budgets, nats a token, lowest first.
    pub budgets: Vec<f64>,
    /// Updates of every rate in the first round of the search.
    pub halving_start: u64,
    /// Each round keeps one in so many rates, for so many times as many updates.
    pub halving_factor: u64,
}

impl Validate for Protocol {
    fn clashes(&self, checks: &mut Checks) {
        checks.clash(self.budgets.is_empty(), "budgets", "is missing: name at least one KL budget");
        for budget in &self.budgets {
            checks.number("budgets", *budget);
        }
        checks.count("front_patience", self.front_patience);
        let rising = self.budgets.windows(2).all(|pair| pair[0] < pair[1]);
        checks.clash(!rising, "budgets", "must be in rising order, each once");
        checks.clash(self.equal_updates > self.cap, "equal_updates", "clashes with `cap`: no run is as long");
        checks.clash(self.halving_start > self.cap, "halving_start", "clashes with `cap`: no run is as long");
        let between = self.every > 0 && !self.halving_start.is_multiple_of(self.every);
        checks.clash(between, "halving_start", "clashes with `every`: rates are judged at a point, want a multiple");
        checks.clash(self.halving_factor < 2, "halving_factor", "must be at least 2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_that_compares_nothing_is_refused_by_its_keys() {
        let good = Protocol {
            cap: 400,
            every: 50,
            equal_updates: 100,
            equal_compute_flops: 1e12,
            budgets: vec![0.1],
            halving_start: 100,
            halving_factor: 2,
            ..Default::default()
        };
        let keys = |protocol: &Protocol| protocol.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert!(keys(&good).is_empty());
        for equal_compute_flops in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(keys(&Protocol { equal_compute_flops, ..good.clone() }), ["equal_compute_flops"]);
        }
        assert_eq!(keys(&Protocol { every: 0, ..good.clone() }), ["every"]);
        assert_eq!(keys(&Protocol { equal_updates: 0, ..good.clone() }), ["equal_updates"]);
        assert_eq!(keys(&Protocol { halving_start: 120, ..good }), ["halving_start"]);
    }
}
