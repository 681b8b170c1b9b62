//! Failures on the prompts to choose on and to measure on: several answers of each, for one would tell little apart.

use irepair_eval::{Continuations, Evaluator, Scores, copied_share, degeneration};
use irepair_model::CausalLm;
use irepair_report::{Change, Form, Rate};
use irepair_scorer::{Scorer, THRESHOLD};
use irepair_stats::{Bootstrap, Interval, mean, paired_bootstrap_difference, wilson_of_shares};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, Asking};
use crate::measure;
use crate::scorers::trusted;

/// Several answers of a model to every prompt, as judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failures {
    /// Answers of a prompt.
    n_each: usize,
    /// By the judge, all of the first prompt, then all of the second; none where it gave no score.
    scores: Vec<Option<f64>>,
    /// By the second judge; empty where it was not asked.
    second: Vec<Option<f64>>,
    /// The form of all answers: samples can end at once where the greedy answer does not.
    pub(crate) form: Form,
    /// The greedy ones, for texts that are shown and for what `check` asks again.
    pub(crate) greedy: Answers,
}

/// How prompts are answered: greedily, and so many samples from this seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct More {
    pub(crate) n_samples: usize,
    pub(crate) seed: u64,
}

impl Asking<'_> {
    /// Failures of `model`: the greedy answer to every prompt and samples, which are drawn from the same stream for
    /// every model, so that models differ less by chance. The second judge is asked where `measures`.
    ///
    /// # Errors
    /// Those of the evaluator; a judge without a score for more than one answer in a hundred.
    pub(crate) fn failures(
        &self,
        model: &CausalLm,
        prompts: &[String],
        More { n_samples, seed }: More,
        measures: bool,
    ) -> anyhow::Result<Failures> {
        let evaluator = Evaluator::new(model, self.tokenizer, self.batch_size);
        let found = evaluator.greedy_and_sampled(prompts, &self.generation, n_samples, seed)?;
        let scores = judged(self.judge, prompts, &found.texts)?;
        let second = self.second.filter(|_| measures).map(|judge| judged(judge, prompts, &found.texts)).transpose()?;
        let n_each = 1 + n_samples;
        let (form, greedy) = (form(&found, n_each), Answers::first(&found, &scores, n_each));
        Ok(Failures { n_each, scores, second: second.unwrap_or_default(), form, greedy })
    }
}

impl Failures {
    /// Of every prompt, the share of its answers that fail; none without a score.
    pub(crate) fn shares(&self) -> Vec<Option<f64>> {
        shares(&self.scores, self.n_each)
    }

    /// The change from `self` to `after`, on the same prompts; by the second judge as well where it was asked.
    pub(crate) fn change(&self, after: &Self) -> (Change, Option<Change>) {
        let n_each = self.n_each;
        let of = |was: &[Option<f64>], is: &[Option<f64>]| Change {
            before: rate(was, n_each),
            after: rate(is, n_each),
            greedy: [was, is].map(|scores| rate(&scores.iter().copied().step_by(n_each).collect::<Vec<_>>(), 1)),
            difference: difference(&shares(was, n_each), &shares(is, n_each)),
        };
        let second = (!self.second.is_empty()).then(|| of(&self.second, &after.second));
        (of(&self.scores, &after.scores), second)
    }
}

/// Scores of as many answers of every prompt.
///
/// # Errors
/// As [`trusted`].
pub(crate) fn judged(judge: &dyn Scorer, prompts: &[String], texts: &[String]) -> anyhow::Result<Vec<Option<f64>>> {
    let scores = Scores::of_answers(prompts, texts, judge);
    trusted(judge, scores.values.len(), scores.n_failed(), scores.first_failure.as_deref())?;
    Ok(scores.values)
}

/// The form of `n_each` answers of every prompt.
fn form(found: &Continuations, n_each: usize) -> Form {
    let prompts: Vec<Vec<u32>> = found.prompts.iter().flat_map(|prompt| vec![prompt.clone(); n_each]).collect();
    let copied = copied_share(&prompts, &found.tokens).value;
    Form { copied, ..measure::form(&degeneration(&found.tokens, &found.texts)) }
}

/// Of every prompt with `n_each` scores, the share that fails among those that are there.
fn shares(scores: &[Option<f64>], n_each: usize) -> Vec<Option<f64>> {
    let fails = |score: &f64| f64::from(u8::from(*score > THRESHOLD));
    let share = |scores: &[Option<f64>]| mean(&scores.iter().flatten().map(fails).collect::<Vec<_>>());
    scores.chunks(n_each.max(1)).map(share).collect()
}

/// How often answers fail, `n_each` of every prompt: the mean over prompts, with its interval.
pub(crate) fn rate(scores: &[Option<f64>], n_each: usize) -> Rate {
    let n_failed = scores.iter().flatten().filter(|score| **score > THRESHOLD).count();
    let n = scores.iter().flatten().count();
    let (percent, interval) = percent(&shares(scores, n_each));
    Rate { n, n_failed, n_missing: scores.len() - n, percent, interval }
}

/// Failures in percent, and their 95 % interval: Wilson's, with as many trials as prompts.
pub(crate) fn percent(shares: &[Option<f64>]) -> (Option<f64>, Option<[f64; 2]>) {
    let known: Vec<f64> = shares.iter().copied().flatten().collect();
    let mean = mean(&known);
    let interval = mean.and_then(|mean| wilson_of_shares(mean, known.len()).ok());
    (mean.map(|m| 100.0 * m), interval.map(|Interval { low, high }| [100.0 * low, 100.0 * high]))
}

/// 95 % interval of the failures of `after` less those of `before` in percent, by resampling prompts; none where all
/// prompts change alike.
fn difference(before: &[Option<f64>], after: &[Option<f64>]) -> Option<[f64; 2]> {
    let pairs = before.iter().zip(after).filter_map(|(before, after)| Some((100.0 * (*after)?, 100.0 * (*before)?)));
    let (after, before): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let varies =
        after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<_>>().windows(2).any(|two| two[0] != two[1]);
    let found = paired_bootstrap_difference(&after, &before, &Bootstrap::new(0)).ok().filter(|_| varies)?;
    found.interval.map(|Interval { low, high }| [low, high])
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_stats::wilson;

    #[test]
    fn a_rate_counts_what_is_over_a_half_and_leaves_missing_scores_out() {
        let found = rate(&[Some(0.9), Some(0.5), None, Some(0.0)], 1);
        assert_eq!((found.n, found.n_failed, found.n_missing), (3, 1, 1));
        assert!((found.percent.unwrap() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(rate(&[], 1).percent, None);
        // A third of the first prompt's, all of the second's: the mean over prompts.
        let found = rate(&[Some(0.9), Some(0.5), None, Some(0.0), Some(1.0), None, None, None], 4);
        assert_eq!((found.n, found.n_failed, found.n_missing), (4, 2, 4));
        assert!((found.percent.unwrap() - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!(shares(&[None, None], 2), [None]);
    }

    #[test]
    fn a_difference_is_paired() {
        let before: Vec<Option<f64>> = (0..60).map(|i| Some(f64::from(u8::from(i % 2 == 0)))).collect();
        let after: Vec<Option<f64>> = (0..60).map(|i| Some(f64::from(u8::from(i % 6 == 0)))).collect();
        let [low, high] = difference(&before, &after).unwrap();
        assert!(low < -33.0 && high > -34.0 && high < -15.0, "{low} {high}");
        assert_eq!(difference(&before, &before), None, "nothing changes");
        assert_eq!(difference(&[None, Some(1.0)], &[Some(1.0), None]), None);
    }

    #[test]
    fn a_change_is_of_all_answers_and_of_both_judges() {
        let of = |scores: &[f64], second: &[f64]| {
            let [scores, second] = [scores, second].map(|scores| scores.iter().copied().map(Some).collect());
            Failures { n_each: 2, scores, second, ..Failures::default() }
        };
        let (before, after) = (of(&[1.0, 1.0, 0.0, 1.0], &[1.0; 4]), of(&[0.0, 1.0, 0.0, 0.0], &[0.0; 4]));
        let (judged, second) = before.change(&after);
        assert_eq!((judged.before.percent, judged.after.percent), (Some(75.0), Some(25.0)));
        assert_eq!(judged.greedy.each_ref().map(|rate| (rate.n_failed, rate.n)), [(1, 2), (0, 2)]);
        assert_eq!(judged.difference, None, "both prompts fail half as often");
        assert_eq!(second.unwrap().after.percent, Some(0.0));
        assert_eq!(of(&[1.0, 1.0], &[]).change(&of(&[0.0, 0.0], &[])).1, None);
    }

    #[test]
    fn intervals_grow_with_the_failures_and_shrink_with_the_prompts() {
        let of = |shares: &[f64]| percent(&shares.iter().copied().map(Some).collect::<Vec<_>>());
        let one = [0.0, 1.0, 0.0, 0.0, 1.0].repeat(10);
        let Interval { low, high } = wilson(20, 50).unwrap();
        assert_eq!(of(&one), (Some(40.0), Some([100.0 * low, 100.0 * high])));
        let mut before = [0.0; 2];
        for n_failed in 0..=50 {
            let mut shares = vec![0.0; 50];
            shares[..n_failed].fill(0.25);
            let [low, high] = of(&shares).1.unwrap();
            assert!(high > before[1] && (n_failed == 0 || low > before[0]), "{n_failed}: {low} {high}");
            before = [low, high];
        }
        let [low, high] = of(&vec![0.25; 200]).1.unwrap();
        assert!(low > before[0] && high < before[1]);
    }
}
