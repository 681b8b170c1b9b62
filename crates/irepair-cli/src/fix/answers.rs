//! Answers of a model to prompts, and what the judges say of them.

use irepair_data::Tokenizer;
use irepair_eval::{Evaluator, Generation, Scores, copies, degeneration};
use irepair_model::CausalLm;
use irepair_report::{Change, Form, Rate};
use irepair_scorer::{Scorer, THRESHOLD};
use irepair_stats::{Bootstrap, Interval, paired_bootstrap_difference, wilson};
use serde::{Deserialize, Serialize};

use super::verdicts::trusted;
use crate::measure;

/// A model's answers to prompts, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) texts: Vec<String>,
    /// Their tokens, for their form.
    tokens: Vec<Vec<u32>>,
    /// Whether each is a copy of its prompt.
    #[serde(default)]
    copied: Vec<bool>,
    /// By the judge; none where it gave no score.
    pub(crate) scores: Vec<Option<f64>>,
    /// By the second judge; empty without one.
    pub(crate) second: Vec<Option<f64>>,
    /// Prompts that were cut.
    pub(crate) n_cut: usize,
}

/// Who asks and who judges.
pub(crate) struct Asking<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) judge: &'a dyn Scorer,
    pub(crate) second: Option<&'a dyn Scorer>,
    pub(crate) generation: Generation,
    pub(crate) batch_size: usize,
}

impl Asking<'_> {
    /// Greedy answers of `model`, judged.
    ///
    /// # Errors
    /// Those of the evaluator; a judge without a score for more than one answer in a hundred.
    pub(crate) fn ask(&self, model: &CausalLm, prompts: &[String]) -> anyhow::Result<Answers> {
        let evaluator = Evaluator::new(model, self.tokenizer, self.batch_size);
        let found = evaluator.greedy_continuations(prompts, &self.generation)?;
        let n_cut = found.n_truncated_prompts;
        let judged = |judge: &dyn Scorer| {
            let scores = Scores::of_answers(prompts, &found.texts, judge);
            trusted(judge, scores.values.len(), scores.n_failed(), scores.first_failure.as_deref())?;
            anyhow::Ok(scores.values)
        };
        let scores = judged(self.judge)?;
        let second = self.second.map(judged).transpose()?.unwrap_or_default();
        let copied = found.prompts.iter().zip(&found.tokens).map(|(prompt, tokens)| copies(prompt, tokens)).collect();
        Ok(Answers { texts: found.texts, tokens: found.tokens, copied, scores, second, n_cut })
    }
}

impl Answers {
    /// The form of the answers, for the degeneration guard.
    pub(crate) fn form(&self) -> Form {
        let n_copied = self.copied.iter().filter(|copied| **copied).count();
        let copied = (!self.copied.is_empty()).then(|| n_copied as f64 / self.copied.len() as f64);
        Form { copied, ..measure::form(&degeneration(&self.tokens, &self.texts)) }
    }

    /// The answers at some places.
    pub(crate) fn at(&self, places: &[usize]) -> Self {
        let pick = |scores: &[Option<f64>]| places.iter().filter_map(|&i| scores.get(i).copied()).collect();
        Self {
            texts: places.iter().map(|&i| self.texts[i].clone()).collect(),
            tokens: places.iter().map(|&i| self.tokens[i].clone()).collect(),
            copied: places.iter().filter_map(|&i| self.copied.get(i).copied()).collect(),
            scores: pick(&self.scores),
            second: pick(&self.second),
            n_cut: self.n_cut,
        }
    }

    /// Whether the judge objects to each answer.
    pub(crate) fn fails(&self, i: usize) -> Option<bool> {
        self.scores[i].map(|score| score > THRESHOLD)
    }
}

/// How often answers fail, with Wilson's interval.
pub(crate) fn rate(scores: &[Option<f64>]) -> Rate {
    let n_failed = scores.iter().flatten().filter(|score| **score > THRESHOLD).count();
    let n = scores.iter().flatten().count();
    let percent = (n > 0).then(|| 100.0 * n_failed as f64 / n as f64);
    let interval = wilson(n_failed, n).ok().map(|Interval { low, high }| [100.0 * low, 100.0 * high]);
    Rate { n, n_failed, n_missing: scores.len() - n, percent, interval }
}

/// Failures before and after, on the same prompts.
pub(crate) fn change(before: &[Option<f64>], after: &[Option<f64>]) -> Change {
    Change { before: rate(before), after: rate(after), difference: difference(before, after) }
}

/// 95 % interval of the failures of `after` less those of `before` in percent, by resampling prompts; none where all
/// prompts change alike.
pub(crate) fn difference(before: &[Option<f64>], after: &[Option<f64>]) -> Option<[f64; 2]> {
    let fails = |score: f64| 100.0 * f64::from(u8::from(score > THRESHOLD));
    let pairs = before.iter().zip(after).filter_map(|(before, after)| Some((fails((*after)?), fails((*before)?))));
    let (after, before): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let varies =
        after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<_>>().windows(2).any(|two| two[0] != two[1]);
    let found = paired_bootstrap_difference(&after, &before, &Bootstrap::new(0)).ok().filter(|_| varies)?;
    found.interval.map(|Interval { low, high }| [low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_what_is_over_a_half_and_leaves_missing_scores_out() {
        let found = rate(&[Some(0.9), Some(0.5), None, Some(0.0)]);
        assert_eq!((found.n, found.n_failed, found.n_missing), (3, 1, 1));
        assert!((found.percent.unwrap() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(rate(&[]).percent, None);
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
}
