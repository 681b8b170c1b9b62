//! Points of a run on validation data: the degeneration guard, the choice within a KL budget, the front and its
//! hypervolume (METHOD §20, §22).

use irepair_stats::hypervolume;
use serde::{Deserialize, Serialize};

use crate::result::TrajectoryPoint;

/// Continuations must keep this share of the length, and of the number of distinct tokens, that they had before repair.
pub(crate) const LEAST_KEPT: f64 = 0.5;
/// Share of blank continuations that may be added.
pub(crate) const MOST_BLANK: f64 = 0.05;
/// Share of repeated 4-grams that may be added.
pub(crate) const MOST_REPEATED: f64 = 0.10;

/// Share of continuations copied from their prompts that may be added.
pub(crate) const MOST_COPIED: f64 = 0.10;

/// The form of a model's continuations; a value that cannot be measured is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Mean length in tokens.
    pub mean_length: Option<f64>,
    /// Different tokens over tokens.
    pub distinct: Option<f64>,
    /// Share of blank continuations.
    pub blank: Option<f64>,
    /// Share of repeated 4-grams.
    pub repeated: Option<f64>,
    /// Share of continuations copied from their prompts; none where it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<f64>,
}

impl Form {
    /// The degeneration guard: true when no value is far from that of the model before repair.
    pub fn passes(&self, before: &Self) -> bool {
        self.lost(before).is_empty()
    }

    /// What the guard finds, in words that end "the answers are": far from the model before repair. A value that only
    /// one of the two has is found, because there is nothing left to measure; copies count where both looked at them.
    ///
    /// # Source
    /// METHOD §9, §22 \[O\]; the five limits are ours.
    pub fn lost(&self, before: &Self) -> Vec<&'static str> {
        let holds = |now: Option<f64>, then: Option<f64>, rule: fn(f64, f64) -> bool| match (now, then) {
            (Some(now), Some(then)) => rule(now, then),
            (now, then) => now.is_none() && then.is_none(),
        };
        let kept = |now, then| holds(now, then, |now, then| now >= LEAST_KEPT * then);
        let copied = self.copied.zip(before.copied);
        let found = [
            ("far shorter", kept(self.mean_length, before.mean_length)),
            ("far less varied", kept(self.n_distinct(), before.n_distinct())),
            ("blank", holds(self.blank, before.blank, |now, then| now <= then + MOST_BLANK)),
            ("repetitive", holds(self.repeated, before.repeated, |now, then| now <= then + MOST_REPEATED)),
            ("copied from their prompts", copied.is_none_or(|(now, then)| now <= then + MOST_COPIED)),
        ];
        found.into_iter().filter(|(_, holds)| !holds).map(|(what, _)| what).collect()
    }
}

impl Form {
    /// What no texts have, by key: a clause of a suite with such a form fails for every model.
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        // What every set of texts has; others are none where there are too few tokens.
        let needed = [("mean_length", self.mean_length), ("blank", self.blank)];
        let missing = needed.into_iter().filter(|(_, value)| value.is_none()).map(|(key, _)| (key, "is missing"));
        let shares =
            [("distinct", self.distinct), ("blank", self.blank), ("repeated", self.repeated), ("copied", self.copied)];
        let is_share = |value: Option<f64>| value.is_none_or(|value| (0.0..=1.0).contains(&value));
        let wrong = shares.into_iter().filter(|(_, value)| !is_share(*value));
        let wrong = wrong.map(|(key, _)| (key, "must be from 0 to 1"));
        let is_length = self.mean_length.is_none_or(|value| value.is_finite() && value >= 0.0);
        let length = (!is_length).then_some(("mean_length", "must be a finite number of at least 0"));
        missing.chain(length).chain(wrong).collect()
    }

    /// Distinct tokens per continuation: their number, not their share, which falls where the same texts grow longer.
    fn n_distinct(&self) -> Option<f64> {
        Some(self.distinct? * self.mean_length?)
    }
}

/// `[KL, error]` of a point that is a candidate: it passed the guard, and both were measured and are finite. A KL below
/// 0 is rounding and counts as 0.
pub fn candidate(point: &TrajectoryPoint) -> Option<[f64; 2]> {
    let more = point.more.filter(|more| more.passes)?;
    let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
    Some([finite(more.kl)?.max(0.0), finite(point.toxicity)?])
}

/// The KL of a candidate after the first update that has no error, where it is up to `budget`: a later point has
/// nothing left to remove.
pub fn kl_without_error(point: &TrajectoryPoint, budget: f64) -> Option<f64> {
    let [kl, error] = candidate(point).filter(|_| point.step > 0)?;
    (error <= 0.0 && kl <= budget).then_some(kl)
}

/// The point of least error with KL up to `budget`; ties go to the smaller KL, then to the earlier step. None when no
/// candidate is within the budget.
///
/// # Source
/// METHOD §20, §22 \[O\].
pub fn within_budget(points: &[TrajectoryPoint], budget: f64) -> Option<&TrajectoryPoint> {
    let inside = points.iter().filter_map(|p| Some((candidate(p)?, p))).filter(|([kl, _], _)| *kl <= budget);
    let least = inside.min_by(|([kl, error], p), ([other_kl, other], q)| {
        error.total_cmp(other).then(kl.total_cmp(other_kl)).then(p.step.cmp(&q.step))
    });
    least.map(|(_, point)| point)
}

/// The points that no other dominates, from small KL to large: each has less error than all before it.
pub fn front(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut sorted = places.to_vec();
    sorted.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let mut front: Vec<[f64; 2]> = Vec::new();
    for place in sorted {
        if front.last().is_none_or(|last| place[1] < last[1]) {
            front.push(place);
        }
    }
    front
}

/// Points at the end of a run that did not advance its front: an earlier candidate has no more error and no more KL, or
/// the point is no candidate.
///
/// # Source
/// METHOD §8 \[O\].
pub fn points_since_advance(points: &[TrajectoryPoint]) -> usize {
    let (mut front, mut since) = (Vec::<[f64; 2]>::new(), 0);
    for place in points.iter().map(candidate) {
        let advance = place.filter(|[kl, error]| !front.iter().any(|[k, e]| k <= kl && e <= error));
        since = if advance.is_some() { 0 } else { since + 1 };
        front.extend(advance);
    }
    since
}

/// Share in percent of the rectangle from (0, 0) to (`most_kl`, `error_before`) in the plane of KL and error that some
/// of these places dominates. None without a rectangle.
///
/// # Source
/// METHOD §20 \[O\]: the reference point is the base model's error and the largest budget.
pub fn front_percent(places: &[[f64; 2]], most_kl: f64, error_before: f64) -> Option<f64> {
    let whole = most_kl * error_before;
    if places.is_empty() {
        return (whole > 0.0).then_some(0.0);
    }
    let share = 100.0 * hypervolume(places, [most_kl, error_before]).ok()? / whole;
    Some(share).filter(|share| share.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::PointDetails;

    fn point(step: u64, kl: f64, error: f64, passes: bool) -> TrajectoryPoint {
        let more = Some(PointDetails { kl: Some(kl), passes, ..PointDetails::default() });
        TrajectoryPoint { step, toxicity: Some(error), perplexity: None, more }
    }

    /// Numbers in [0, 1) that differ from seed to seed.
    fn places(seed: u64) -> Vec<[f64; 2]> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few values, so that there are ties.
            ((state >> 33) % 12) as f64 / 12.0
        };
        (0..1 + seed % 9).map(|_| [next(), next()]).collect()
    }

    #[test]
    fn the_choice_by_hand() {
        let points = [
            point(0, 0.0, 40.0, true),
            point(5, 0.01, 20.0, true),
            point(10, 0.005, 20.0, true),
            point(15, 0.03, 1.0, false),
            point(20, 0.06, 5.0, true),
            TrajectoryPoint { toxicity: None, ..point(25, 0.0, 0.0, true) },
            point(30, 0.004, f64::NAN, true),
        ];
        let step = |budget| within_budget(&points, budget).map(|p| p.step);
        assert_eq!([0.0, 0.004, 0.01, 0.05, 0.06].map(step), [0, 0, 10, 10, 20].map(Some));
        assert_eq!(within_budget(&points[3..4], 1.0), None, "the guard failed");
    }

    #[test]
    fn no_choice_is_above_its_budget_or_fails_the_guard() {
        for seed in 0..500 {
            let points: Vec<TrajectoryPoint> =
                places(seed).iter().zip(0..).map(|(&[kl, e], i)| point(i, kl, e, (seed + i) % 3 > 0)).collect();
            for budget in [0.0, 0.2, 0.5, 1.0] {
                let found = within_budget(&points, budget);
                let inside = || points.iter().filter_map(candidate).filter(|p| p[0] <= budget);
                assert_eq!(found.is_none(), inside().next().is_none());
                let Some([kl, error]) = found.map(|p| candidate(p).unwrap()) else { continue };
                assert!(kl <= budget && inside().all(|p| error < p[1] || (error == p[1] && kl <= p[0])));
            }
        }
    }

    #[test]
    fn a_front_is_what_nothing_dominates() {
        assert_eq!(front(&[[2.0, 1.0], [1.0, 3.0], [2.0, 2.0], [1.0, 3.0], [3.0, 1.0]]), [[1.0, 3.0], [2.0, 1.0]]);
        let dominates = |a: &[f64; 2], b: &[f64; 2]| a[0] <= b[0] && a[1] <= b[1];
        for seed in 0..500 {
            let all = places(seed);
            let found = front(&all);
            assert!(all.iter().all(|p| found.iter().any(|f| dominates(f, p))));
            assert!(found.iter().all(|f| all.contains(f) && found.iter().filter(|g| dominates(g, f)).count() == 1));
            let mut turned = all.clone();
            turned.reverse();
            turned.rotate_left(seed as usize % all.len());
            assert_eq!(front(&turned), found);
            assert_eq!(front(&found), found);
        }
    }

    #[test]
    fn a_front_advances_by_less_error_or_by_less_kl() {
        let since = |points: &[TrajectoryPoint]| points_since_advance(points);
        let points = [
            point(0, 0.0, 40.0, true),
            point(5, 0.02, 30.0, true),
            point(10, 0.03, 30.0, true),
            point(15, 0.01, 35.0, true),
            point(20, 0.04, 1.0, false),
            point(25, 0.02, 30.0, true),
            point(30, 0.09, 29.0, true),
        ];
        let counts: Vec<usize> = (0..=points.len()).map(|n| since(&points[..n])).collect();
        assert_eq!(counts, [0, 0, 0, 1, 0, 1, 2, 0]);
        for seed in 0..500 {
            let points: Vec<TrajectoryPoint> =
                places(seed).iter().zip(0..).map(|(&[kl, e], i)| point(i, kl, e, (seed + i) % 3 > 0)).collect();
            let front_of = |n: usize| front(&points[..n].iter().filter_map(candidate).collect::<Vec<_>>());
            // The last prefix that changed the front.
            let last = (1..=points.len()).rev().find(|&n| front_of(n) != front_of(n - 1));
            assert_eq!(since(&points), points.len() - last.unwrap_or(0));
        }
    }

    #[test]
    fn a_hypervolume_is_that_of_its_front_and_grows_with_points() {
        // (0.1, 40) is the reference: a step from 0.05 at 20 to 0.1, and a dominated point.
        assert_eq!(front_percent(&[[0.05, 20.0], [0.06, 30.0]], 0.1, 40.0), Some(25.0));
        assert_eq!(front_percent(&[[0.0, 0.0]], 0.1, 40.0), Some(100.0));
        assert_eq!(front_percent(&[], 0.1, 40.0), Some(0.0));
        assert_eq!(front_percent(&[[0.0, 0.0]], 0.1, 0.0), None, "nothing to repair");
        for seed in 0..500 {
            let all = places(seed);
            let share = |places: &[[f64; 2]]| front_percent(places, 1.0, 1.0).unwrap();
            assert!((share(&all) - share(&front(&all))).abs() < 1e-9);
            assert!((1..=all.len()).all(|n| share(&all[..n]) >= share(&all[..n - 1]) - 1e-9));
        }
    }

    #[test]
    fn the_guard_sees_texts_that_end_repeat_or_vanish() {
        let before = Form {
            mean_length: Some(20.0),
            distinct: Some(0.4),
            blank: Some(0.0),
            repeated: Some(0.1),
            copied: Some(0.05),
        };
        assert!(before.passes(&before));
        assert!(Form { mean_length: Some(14.0), ..before }.passes(&before), "texts that end are no failure");
        let longer = Form { mean_length: Some(40.0), distinct: Some(0.2), ..before };
        assert!(longer.passes(&before), "as many distinct tokens, among more");
        for broken in [
            Form { mean_length: Some(9.9), ..before },
            Form { distinct: Some(0.09), ..longer },
            Form { distinct: Some(0.1), ..before },
            Form { blank: Some(0.06), ..before },
            Form { repeated: Some(0.25), ..before },
            Form { copied: Some(0.16), ..before },
            Form { copied: Some(f64::NAN), ..before },
            Form { repeated: None, ..before },
            Form { mean_length: Some(f64::NAN), ..before },
        ] {
            assert!(!broken.passes(&before), "{broken:?}");
        }
        assert_eq!(Form { distinct: Some(0.1), ..before }.lost(&before), ["far less varied"]);
        let vanished = Form { mean_length: Some(0.0), blank: Some(1.0), ..before };
        assert_eq!(vanished.lost(&before), ["far shorter", "far less varied", "blank"]);
        assert!(Form::default().passes(&Form::default()));
        assert!(Form { copied: Some(0.15), ..before }.passes(&before), "a few copies more");
        let unseen = Form { copied: None, ..before };
        assert!(
            Form { copied: Some(1.0), ..before }.passes(&unseen) && unseen.passes(&before),
            "kept results have none"
        );
        let kept: Form =
            serde_json::from_str(r#"{"mean_length":1.0,"distinct":1.0,"blank":0.0,"repeated":0.0}"#).unwrap();
        assert_eq!(kept.copied, None);
        assert!(kept.problems().is_empty());
        assert_eq!(Form::default().problems(), [("mean_length", "is missing"), ("blank", "is missing")]);
        let nothing = Form { mean_length: Some(0.0), distinct: None, blank: Some(1.0), repeated: None, copied: None };
        assert!(nothing.problems().is_empty(), "nothing was written");
        let odd = Form { mean_length: Some(f64::NAN), distinct: Some(1.5), copied: Some(f64::NAN), ..kept };
        let keys: Vec<&str> = odd.problems().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["mean_length", "distinct", "copied"]);
        assert!(!serde_json::to_string(&kept).unwrap().contains("copied"));
    }
}
