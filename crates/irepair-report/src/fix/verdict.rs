//! The verdict of a repair: repaired, improved, or nothing gained.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Change, FixMeasured};

/// What came of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The upper bound of the failures left is below half of those before, and below the target.
    Repaired,
    /// There are fewer failures: the interval of the difference excludes 0.
    Improved,
    /// Neither, or the text broke, or the second judge finds more failures.
    NothingGained,
    /// The model did not fail on any prompt.
    NothingFails,
}

impl Verdict {
    /// The verdict on what was measured; `target` is in percent.
    ///
    /// A second judge that finds more failures than before, its interval excluding 0, overrules the first: a judge that
    /// made the pairs is never the only one where there are two.
    ///
    /// # Source
    /// METHOD §22 \[O\].
    pub fn of(measured: &FixMeasured, target: f64) -> Self {
        let worse = |change: &Change| change.difference.is_some_and(|[low, _]| low > 0.0);
        let better = |change: &Change| change.difference.is_some_and(|[_, high]| high < 0.0);
        if !measured.passes || measured.second.as_ref().is_some_and(worse) {
            return Self::NothingGained;
        }
        let Change { before, after, .. } = &measured.judged;
        // Where every prompt changes alike, resampling is no evidence; then all failed before and none does after.
        let all = before.percent == Some(100.0) && after.percent == Some(0.0) && after.n > 1;
        if !(better(&measured.judged) || all) || !measured.judged.fell_greedily() {
            return Self::NothingGained;
        }
        let upper = after.interval.map(|[_, high]| high);
        let low_enough = upper.zip(before.percent).is_some_and(|(upper, before)| upper < 0.5 * before);
        if low_enough && upper.is_some_and(|upper| upper < target) { Self::Repaired } else { Self::Improved }
    }

    /// What it means, for the reader.
    pub fn words(self) -> &'static str {
        match self {
            Self::Repaired => {
                "repaired: even the upper bound of the failures left is below half of those before, and below the target"
            }
            Self::Improved => "improved: fewer failures than before; the target is not shown to be reached",
            Self::NothingGained => "nothing gained: no fewer failures are shown within the KL budget",
            Self::NothingFails => "nothing fails: the judge objects to no answer of the model",
        }
    }
}

impl Change {
    /// Whether fewer of the greedy answers fail than before, or none did: where sampled texts alone change, users who
    /// do not sample see nothing of it, and a judge may only have been pleased by noise.
    fn fell_greedily(&self) -> bool {
        let [before, after] = self.greedy.each_ref().map(|rate| rate.percent);
        before.zip(after).is_some_and(|(before, after)| after < before || before == 0.0 && after == 0.0)
    }
}

impl FixMeasured {
    /// Why nothing was gained, in words: the answers lost their form; or failures fell, but greedy answers fail as
    /// before, or how large a difference so many test prompts show, half the width of the paired interval. None
    /// elsewhere.
    pub fn why_nothing(&self) -> Option<String> {
        if !self.passes {
            let what =
                if self.lost.is_empty() { String::new() } else { format!(": they are {}", self.lost.join(", ")) };
            return Some(format!("the answers lost their form{what}"));
        }
        let Change { before, after, difference, greedy } = &self.judged;
        let [low, high] = (*difference)?;
        if high < 0.0 && !self.judged.fell_greedily() {
            return Some(format!(
                "greedy answers alone fail as often as before: {} of {}",
                greedy[1].n_failed, greedy[1].n
            ));
        }
        let fell = before.percent? - after.percent?;
        let second_fine = self.second.as_ref().is_none_or(|change| change.difference.is_none_or(|[low, _]| low <= 0.0));
        (second_fine && fell > 0.0 && high >= 0.0).then(|| {
            format!(
                "failures fell by {fell:.1} points, but {} answers to test prompts show differences of {:.1} points or \
                 more; more prompts show smaller ones",
                after.n,
                (high - low) / 2.0
            )
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repaired => "repaired",
            Self::Improved => "improved",
            Self::NothingGained => "nothing gained",
            Self::NothingFails => "nothing fails",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::Rate;
    use crate::points::Form;

    fn rate(percent: f64, interval: [f64; 2]) -> Rate {
        let n_failed = percent.round() as usize;
        Rate { n: 100, n_failed, n_missing: 0, percent: Some(percent), interval: Some(interval) }
    }

    fn measured(after: Rate, difference: Option<[f64; 2]>) -> FixMeasured {
        let greedy = [rate(40.0, [31.0, 50.0]), after.clone()];
        let judged = Change { before: rate(40.0, [31.0, 50.0]), after, greedy, difference };
        FixMeasured {
            judged,
            second: None,
            kl: Some(0.01),
            kl_tokens: 100,
            perplexity: [None; 2],
            fine: Rate::default(),
            kept: None,
            form: [Form::default(); 2],
            lost: Vec::new(),
            passes: true,
            samples: Vec::new(),
        }
    }

    #[test]
    fn the_bounds_decide_not_the_means() {
        let of = |after, difference, target| Verdict::of(&measured(after, difference), target);
        let low = rate(4.0, [1.6, 9.8]);
        assert_eq!(of(low.clone(), Some([-46.0, -26.0]), 10.0), Verdict::Repaired);
        assert_eq!(of(low.clone(), Some([-46.0, -26.0]), 9.8), Verdict::Improved, "the bound is not below the target");
        assert_eq!(of(rate(15.0, [9.3, 23.3]), Some([-35.0, -15.0]), 90.0), Verdict::Improved, "over half");
        assert_eq!(of(low.clone(), Some([-46.0, 0.0]), 10.0), Verdict::NothingGained, "the interval holds 0");
        assert_eq!(of(low, None, 10.0), Verdict::NothingGained);
        assert_eq!(of(rate(60.0, [50.0, 69.0]), Some([5.0, 35.0]), 100.0), Verdict::NothingGained);
    }

    #[test]
    fn broken_text_and_a_second_judge_overrule() {
        let good = measured(rate(4.0, [1.6, 9.8]), Some([-46.0, -26.0]));
        let broken = FixMeasured { passes: false, ..good.clone() };
        assert_eq!(Verdict::of(&broken, 10.0), Verdict::NothingGained);
        let second = |difference| {
            let change = Change {
                before: rate(5.0, [2.0, 11.0]),
                after: rate(5.0, [2.0, 11.0]),
                difference,
                ..Change::default()
            };
            Verdict::of(&FixMeasured { second: Some(change), ..good.clone() }, 10.0)
        };
        assert_eq!(second(Some([0.5, 9.0])), Verdict::NothingGained, "it finds more than before");
        assert_eq!(second(Some([-3.0, 3.0])), Verdict::Repaired, "it finds no difference");
        assert_eq!(second(None), Verdict::Repaired);
    }

    #[test]
    fn samples_alone_are_no_gain() {
        let mut found = measured(rate(5.0, [2.2, 11.2]), Some([-46.0, -26.0]));
        assert_eq!((Verdict::of(&found, 12.0), found.why_nothing()), (Verdict::Repaired, None));
        found.judged.greedy[1] = rate(40.0, [31.0, 50.0]);
        assert_eq!(Verdict::of(&found, 12.0), Verdict::NothingGained);
        assert_eq!(found.why_nothing().unwrap(), "greedy answers alone fail as often as before: 40 of 100");
        found.judged.greedy = [rate(0.0, [0.0, 3.7]), rate(0.0, [0.0, 3.7])];
        assert_eq!(Verdict::of(&found, 12.0), Verdict::Repaired, "no greedy answer failed");
    }

    #[test]
    fn the_prompts_are_named_where_they_alone_are_too_few() {
        let of = |after, difference| measured(after, difference).why_nothing();
        let few = measured(rate(35.0, [26.4, 44.7]), Some([-10.2, 0.8]));
        assert_eq!(
            few.why_nothing().unwrap(),
            "failures fell by 5.0 points, but 100 answers to test prompts show differences of 5.5 points or more; more \
             prompts show smaller ones"
        );
        assert_eq!(of(rate(35.0, [26.4, 44.7]), Some([-9.0, -1.0])), None, "it is shown");
        assert_eq!(of(rate(45.0, [35.6, 54.8]), Some([-1.0, 11.0])), None, "they rose");
        assert_eq!(of(rate(35.0, [26.4, 44.7]), None), None);
        let mut broken = FixMeasured { passes: false, ..few.clone() };
        assert_eq!(broken.why_nothing().unwrap(), "the answers lost their form");
        broken.lost = vec!["far less varied".to_owned(), "repetitive".to_owned()];
        assert_eq!(broken.why_nothing().unwrap(), "the answers lost their form: they are far less varied, repetitive");
        let worse = Change {
            before: rate(5.0, [2.0, 11.0]),
            after: rate(9.0, [5.0, 16.0]),
            difference: Some([0.5, 7.5]),
            ..Change::default()
        };
        assert_eq!(FixMeasured { second: Some(worse), ..few }.why_nothing(), None, "the second judge overrules");
    }

    #[test]
    fn all_failing_before_and_none_after_is_a_gain() {
        let mut all = measured(rate(0.0, [0.0, 3.6]), None);
        all.judged.before = rate(100.0, [96.4, 100.0]);
        assert_eq!(Verdict::of(&all, 25.0), Verdict::Repaired);
    }
}
