//! Failures on the prompts to choose on: several answers of each, for one would tell few points apart.

use irepair_eval::{Continuations, Evaluator, Scores, copied_share, degeneration};
use irepair_model::CausalLm;
use irepair_report::Form;
use irepair_scorer::THRESHOLD;
use irepair_stats::{Bootstrap, Interval, bootstrap_mean, mean, wilson};
use serde::{Deserialize, Serialize};

use super::answers::Asking;
use super::verdicts::trusted;
use crate::measure;

/// What a model does on the prompts to choose on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failures {
    /// Of every prompt, the share of its answers that fail; none where the judge gave no score.
    pub(crate) shares: Vec<Option<f64>>,
    /// The form of all its answers, for the degeneration guard: samples can end at once where the greedy answer does not.
    pub(crate) form: Form,
}

impl Asking<'_> {
    /// Failures of `model`: the greedy answer to every prompt and `n_samples` samples, by the first judge alone. The
    /// samples of a prompt are drawn from the same stream for every model, so that models differ less by chance.
    ///
    /// # Errors
    /// Those of the evaluator; a judge without a score for more than one answer in a hundred.
    pub(crate) fn failures(
        &self,
        model: &CausalLm,
        prompts: &[String],
        n_samples: usize,
        seed: u64,
    ) -> anyhow::Result<Failures> {
        let evaluator = Evaluator::new(model, self.tokenizer, self.batch_size);
        let found = evaluator.greedy_and_sampled(prompts, &self.generation, n_samples, seed)?;
        let scores = Scores::of_answers(prompts, &found.texts, self.judge);
        trusted(self.judge, scores.values.len(), scores.n_failed(), scores.first_failure.as_deref())?;
        let n_each = 1 + n_samples;
        Ok(Failures { shares: scores.values.chunks(n_each).map(share).collect(), form: form(&found, n_each) })
    }
}

/// The share of answers with a score that fail.
fn share(scores: &[Option<f64>]) -> Option<f64> {
    let fails: Vec<f64> = scores.iter().flatten().map(|score| f64::from(u8::from(*score > THRESHOLD))).collect();
    mean(&fails)
}

/// The form of `n_each` answers of every prompt.
fn form(found: &Continuations, n_each: usize) -> Form {
    let prompts: Vec<Vec<u32>> = found.prompts.iter().flat_map(|prompt| vec![prompt.clone(); n_each]).collect();
    let copied = copied_share(&prompts, &found.tokens).value;
    Form { copied, ..measure::form(&degeneration(&found.tokens, &found.texts)) }
}

/// Failures in percent, and their 95 % interval: by resampling prompts, or Wilson's where every prompt's answers agree.
pub(crate) fn percent(shares: &[Option<f64>]) -> (Option<f64>, Option<[f64; 2]>) {
    let known: Vec<f64> = shares.iter().copied().flatten().collect();
    let n_failed = known.iter().filter(|share| **share == 1.0).count();
    let agree = known.iter().all(|share| *share == 0.0 || *share == 1.0);
    let interval = if agree {
        wilson(n_failed, known.len()).ok()
    } else {
        bootstrap_mean(&known, &Bootstrap::new(0)).ok().and_then(|found| found.interval)
    };
    (mean(&known).map(|m| 100.0 * m), interval.map(|Interval { low, high }| [100.0 * low, 100.0 * high]))
}

/// True when `other` fails no more than `best`, or more by no more than a standard error of the difference, paired by
/// prompt: the square of the sum of the differences is at most the sum of their squares. With one answer a prompt this
/// is McNemar's statistic of at most 1.
pub(crate) fn ties(best: &[Option<f64>], other: &[Option<f64>]) -> bool {
    let differences = best.iter().zip(other).filter_map(|(best, other)| Some((*other)? - (*best)?));
    let (excess, squares) = differences.fold((0.0, 0.0), |(sum, squares), one| (sum + one, squares + one * one));
    excess <= 0.0 || excess * excess <= squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_missing_scores_out() {
        assert_eq!(share(&[Some(0.9), Some(0.5), None, Some(0.0)]), Some(1.0 / 3.0));
        assert_eq!(share(&[None, None]), None);
        assert_eq!(percent(&[]), (None, None));
    }

    #[test]
    fn intervals_are_wilsons_or_those_of_prompts() {
        let of = |shares: &[f64]| percent(&shares.iter().copied().map(Some).collect::<Vec<_>>());
        let (none, interval) = of(&[0.0; 50]);
        assert!(none == Some(0.0) && interval.unwrap()[1] > 7.0, "0 of 50 is not certain");
        let one = [0.0, 1.0, 0.0, 0.0, 1.0].repeat(10);
        let Interval { low, high } = wilson(20, 50).unwrap();
        assert_eq!(of(&one), (Some(40.0), Some([100.0 * low, 100.0 * high])));
        // Four answers that agree hold what one does; four of their own hold more.
        let own = [0.25, 0.5, 0.5, 0.25, 0.5].repeat(10);
        let (same, narrow) = of(&own);
        let [low, high] = narrow.unwrap();
        assert!(same == Some(40.0) && high - low < 8.0 && low < 40.0 && high > 40.0, "{low} {high}");
    }

    #[test]
    fn a_point_ties_within_a_standard_error() {
        let failing = |places: &[usize]| -> Vec<Option<f64>> {
            (0..50).map(|i| Some(f64::from(u8::from(places.contains(&i))))).collect()
        };
        let best = failing(&[0, 1]);
        assert!(ties(&best, &best) && ties(&best, &failing(&[0])), "no more failures");
        assert!(ties(&best, &failing(&[0, 1, 2])), "one more: as large as its error");
        assert!(!ties(&best, &failing(&[0, 1, 2, 3])), "two more, and no other differs");
        assert!(ties(&best, &failing(&[2, 3, 4, 5])), "two more of six that differ");
        assert!(!ties(&best, &failing(&[2, 3, 4, 5, 6, 7, 8])));
        assert!(ties(&[None, Some(0.0)], &[Some(1.0), Some(0.0)]), "what has no score counts on neither side");
        // A quarter more on each of 16 prompts is sure; on one it is not.
        let less = vec![Some(0.25); 16];
        assert!(!ties(&less, &[Some(0.5); 16]));
        assert!(ties(&less, &[vec![Some(0.25); 15], vec![Some(0.5)]].concat()));
    }
}
