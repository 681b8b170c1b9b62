//! Pairs made by the model itself: of its own continuations of a prompt, the one that a judge finds worst is rejected,
//! and the one it finds best is chosen.

use std::collections::HashSet;

use irepair_data::Pair;
use irepair_scorer::Scorer;
use serde::{Deserialize, Serialize};

use crate::evaluator::conditional;
use crate::texts::check;
use crate::{Error, Evaluator, Generation, Result, Scores};

/// How pairs are made (METHOD §21).
#[derive(Clone, Debug, PartialEq)]
pub struct PairRule {
    /// Prompt tokens that are kept, and the most new tokens: those of the evaluation.
    pub generation: Generation,
    /// Samples of every prompt.
    pub n_samples: usize,
    /// Further samples of a prompt that gave no pair; may be 0.
    pub n_more: usize,
    /// Least distance of the two scores of a pair.
    pub min_gap: f64,
    /// Text before a prompt whose samples are all bad, to get a good one; it is no part of the pair.
    pub steer_chosen: Option<String>,
    /// Text before a prompt whose samples are all good, to get a bad one.
    pub steer_rejected: Option<String>,
    /// Seed of every draw.
    pub seed: u64,
}

/// Pairs, and how many prompts gave one.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnPairs {
    /// The pairs, in the order of the prompts. A continuation that ended ends with the end-of-text token.
    pub pairs: Vec<Pair>,
    /// What became of the prompts.
    pub counts: PairCounts,
}

/// What became of the prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairCounts {
    /// Prompts given.
    pub n_prompts: usize,
    /// Pairs from the first samples.
    pub n_first: usize,
    /// Pairs that needed further samples.
    pub n_more: usize,
    /// Pairs that needed samples after a steering text.
    pub n_steered: usize,
    /// Prompts dropped because the judge finds all samples good, or nearly as good as each other.
    pub n_all_good: usize,
    /// Prompts dropped because the judge finds all samples bad.
    pub n_all_bad: usize,
    /// Prompts dropped because no good sample is fit: blank, too short, or repeating itself.
    pub n_unfit: usize,
    /// Samples drawn.
    pub n_samples: usize,
    /// Samples that the judge gave no score; they are left out.
    pub n_unscored: usize,
    /// Mean score of the rejected continuations, and of the chosen ones.
    pub mean_scores: Option<[f64; 2]>,
}

/// A continuation that the judge has scored.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    tokens: Vec<u32>,
    text: String,
    score: f64,
    /// Not blank, not too short, not repeating itself.
    fit: bool,
}

/// Why samples make no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The worst score is not far enough over the best one, which is good.
    AllGood,
    AllBad,
    Unfit,
}

/// What the model's own texts are like: a chosen continuation may not be worse.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usual {
    /// Half of the samples are at least so long.
    median_tokens: usize,
    /// 4-grams that occurred before in the same sample, as a share of all.
    repeated: f64,
}

impl Usual {
    fn of(samples: &[Vec<u32>]) -> Self {
        let mut lengths: Vec<usize> = samples.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        let (n, n_repeated) =
            samples.iter().map(|tokens| four_grams(tokens)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let repeated = if n == 0 { 0.0 } else { n_repeated as f64 / n as f64 };
        Self { median_tokens: lengths.get(lengths.len() / 2).copied().unwrap_or(0), repeated }
    }

    fn fits(&self, tokens: &[u32], text: &str) -> bool {
        let (n, n_repeated) = four_grams(tokens);
        text.chars().any(char::is_alphanumeric)
            && 4 * tokens.len() >= self.median_tokens
            && n_repeated as f64 <= self.repeated * n as f64
    }
}

/// 4-grams of a text, and those among them that occurred before.
fn four_grams(tokens: &[u32]) -> (usize, usize) {
    let n = (tokens.len() + 1).saturating_sub(4);
    (n, n - tokens.windows(4).collect::<HashSet<_>>().len())
}

/// Indices of the samples that may be rejected, and of those that may be chosen: the extremes, several where they tie.
fn extremes(samples: &[Sample], min_gap: f64) -> Result<[Vec<usize>; 2], Lack> {
    let worst = samples.iter().map(|s| s.score).fold(f64::NEG_INFINITY, f64::max);
    let best = samples.iter().filter(|s| s.fit).map(|s| s.score).fold(f64::INFINITY, f64::min);
    // NaN never: scores are numbers from 0 to 1.
    if worst - best < min_gap || samples.is_empty() || best.is_infinite() {
        let good = |s: &Sample| worst - s.score >= min_gap;
        return Err(match (worst >= min_gap, samples.iter().any(good)) {
            (false, _) => Lack::AllGood,
            (true, true) => Lack::Unfit,
            (true, false) => Lack::AllBad,
        });
    }
    let with = |score: f64, fit: bool| {
        (0..samples.len()).filter(|&i| samples[i].score == score && (samples[i].fit || !fit)).collect::<Vec<_>>()
    };
    Ok([with(worst, false), with(best, true)])
}

impl Evaluator<'_> {
    /// Makes pairs of the model's own continuations of `prompts`.
    ///
    /// A prompt's worst sample by `judge` is rejected, its best one chosen. A chosen one is not blank, not shorter than
    /// a quarter of the median sample, and repeats no larger share of 4-grams than the samples do together; ties go to
    /// the likelier text. A prompt that gives no pair is sampled again, then after the steering text of the side that
    /// it lacks, then dropped and counted. `sampled` is called for every prompt that was sampled.
    ///
    /// # Errors
    /// [`Error::Nothing`] without prompts; [`Error::BadSetting`]; [`Error::UnknownToken`]; a prompt that with its
    /// steering text leaves no room for the new tokens; the tokenizer's.
    ///
    /// # Source
    /// METHOD §21 [O].
    pub fn own_pairs(
        &self,
        prompts: &[String],
        judge: &dyn Scorer,
        rule: &PairRule,
        mut sampled: impl FnMut(),
    ) -> Result<OwnPairs> {
        if rule.n_samples < 2 {
            return Err(Error::BadSetting { key: "n_samples", want: "at least 2".into(), got: rule.n_samples });
        }
        let (rows, _) = self.prompt_tokens(prompts, &rule.generation)?;
        let mut counts = PairCounts { n_prompts: prompts.len(), ..PairCounts::default() };
        let all: Vec<(usize, Vec<u32>)> = rows.iter().cloned().enumerate().collect();
        let first = self.draw(&all, rule.n_samples, 0, rule, &mut sampled)?;
        let usual = Usual::of(&first.concat());
        let mut samples = vec![Vec::new(); prompts.len()];
        let mut found: Vec<Result<[Vec<usize>; 2], Lack>> = vec![Err(Lack::AllGood); prompts.len()];
        self.add(&all, first, &usual, judge, &mut samples, &mut counts)?;
        for round in 0..3 {
            // Judged again: more samples may hold what was lacking.
            for i in 0..prompts.len() {
                if found[i].is_err() {
                    found[i] = extremes(&samples[i], rule.min_gap);
                    let n = [&mut counts.n_first, &mut counts.n_more, &mut counts.n_steered];
                    *n[round] += usize::from(found[i].is_ok());
                }
            }
            let next = match round {
                0 if rule.n_more > 0 => self.lacking(&found, &rows, |_| Some("")),
                1 => self.lacking(&found, &rows, |lack| match lack {
                    Lack::AllGood => rule.steer_rejected.as_deref(),
                    Lack::AllBad | Lack::Unfit => rule.steer_chosen.as_deref(),
                }),
                _ => Ok(Vec::new()),
            }?;
            let n = if round == 0 { rule.n_more } else { rule.n_samples };
            let drawn = self.draw(&next, n, round as u64 + 1, rule, &mut sampled)?;
            self.add(&next, drawn, &usual, judge, &mut samples, &mut counts)?;
        }
        let pairs = self.pairs(prompts, &rows, &samples, &found, rule.generation.n_new)?;
        for lack in found.iter().filter_map(|found| found.as_ref().err()) {
            let n = match lack {
                Lack::AllGood => &mut counts.n_all_good,
                Lack::AllBad => &mut counts.n_all_bad,
                Lack::Unfit => &mut counts.n_unfit,
            };
            *n += 1;
        }
        counts.mean_scores = mean_scores(&samples, &found);
        Ok(OwnPairs { pairs, counts })
    }

    /// The prompts without a pair, each after the text that `steer` gives; none where it gives none.
    fn lacking<'s>(
        &self,
        found: &[Result<[Vec<usize>; 2], Lack>],
        rows: &[Vec<u32>],
        steer: impl Fn(Lack) -> Option<&'s str>,
    ) -> Result<Vec<(usize, Vec<u32>)>> {
        let mut lacking = Vec::new();
        for (i, found) in found.iter().enumerate() {
            let Some(before) = found.as_ref().err().and_then(|&lack| steer(lack)) else { continue };
            let mut row = rows[i].clone();
            if !before.is_empty() {
                let begins = usize::from(self.tokenizer.begin_id().is_some_and(|id| row.first() == Some(&id)));
                row.splice(begins..begins, self.tokenizer.encode(before)?);
            }
            lacking.push((i, row));
        }
        Ok(lacking)
    }

    /// Samples of prompts by their places, in the order given.
    fn draw(
        &self,
        prompts: &[(usize, Vec<u32>)],
        n: usize,
        round: u64,
        rule: &PairRule,
        sampled: &mut impl FnMut(),
    ) -> Result<Vec<Vec<Vec<u32>>>> {
        if prompts.is_empty() || n == 0 {
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        check(self.model, prompts.iter().map(|(_, row)| row), n)?;
        let seeded =
            |(i, row): &(usize, Vec<u32>)| (row.clone(), rule.seed.wrapping_add(((*i as u64) << 32) | (round << 24)));
        let seeded: Vec<_> = prompts.iter().map(seeded).collect();
        self.samples(&seeded, n, rule.generation.n_new, sampled)
    }

    /// Scores samples and adds them to those of their prompts.
    fn add(
        &self,
        prompts: &[(usize, Vec<u32>)],
        drawn: Vec<Vec<Vec<u32>>>,
        usual: &Usual,
        judge: &dyn Scorer,
        samples: &mut [Vec<Sample>],
        counts: &mut PairCounts,
    ) -> Result<()> {
        for ((i, _), drawn) in prompts.iter().zip(drawn) {
            let texts = drawn.iter().map(|tokens| self.tokenizer.decode(tokens)).collect::<Result<Vec<_>, _>>()?;
            let scores = Scores::of_continuations(&texts, judge);
            counts.n_samples += texts.len();
            counts.n_unscored += scores.n_failed();
            for ((tokens, text), score) in drawn.into_iter().zip(texts).zip(scores.values) {
                let fit = usual.fits(&tokens, &text);
                samples[*i].extend(score.map(|score| Sample { tokens, text, score, fit }));
            }
        }
        Ok(())
    }

    /// The pairs, ties decided by likelihood.
    fn pairs(
        &self,
        prompts: &[String],
        rows: &[Vec<u32>],
        samples: &[Vec<Sample>],
        found: &[Result<[Vec<usize>; 2], Lack>],
        n_new: usize,
    ) -> Result<Vec<Pair>> {
        let end = self.tokenizer.end_text();
        let mut pairs = Vec::new();
        for (i, found) in found.iter().enumerate() {
            let Ok(sides) = found else { continue };
            let side = |candidates: &[usize]| -> Result<String> {
                let best = self.likeliest(&rows[i], &samples[i], candidates)?;
                let Sample { tokens, text, .. } = &samples[i][best];
                Ok(if tokens.len() < n_new { format!("{text}{end}") } else { text.clone() })
            };
            let (rejected, chosen) = (side(&sides[0])?, side(&sides[1])?);
            // What the model has read: a long prompt was cut.
            let whole = self.tokenizer.encode_text(&prompts[i])?.len() <= rows[i].len();
            let prompt = if whole { prompts[i].clone() } else { self.tokenizer.decode(&rows[i])? };
            pairs.push(Pair { prompt, chosen, rejected });
        }
        Ok(pairs)
    }

    /// The candidate that is the likeliest continuation of the prompt; the first one of equals.
    fn likeliest(&self, row: &[u32], samples: &[Sample], candidates: &[usize]) -> Result<usize> {
        if let &[one] = candidates {
            return Ok(one);
        }
        let texts = candidates.iter().map(|&i| (row, &samples[i].tokens[..]));
        let (found, _) = conditional(self.model, texts, self.tokenizer.start_id(), self.batch_size, false)?;
        let sums = found.iter().map(|l| l.finite_sum().unwrap_or(f64::NEG_INFINITY));
        let best = sums.enumerate().fold((0, f64::NEG_INFINITY), |best, it| if it.1 > best.1 { it } else { best });
        Ok(candidates[best.0])
    }
}

/// Mean scores of the rejected and of the chosen samples; none without a pair.
fn mean_scores(samples: &[Vec<Sample>], found: &[Result<[Vec<usize>; 2], Lack>]) -> Option<[f64; 2]> {
    let scores: Vec<[f64; 2]> = (samples.iter().zip(found))
        .filter_map(|(samples, found)| {
            found.as_ref().ok().map(|sides| [0, 1].map(|side| samples[sides[side][0]].score))
        })
        .collect();
    let mean = |side: usize| scores.iter().map(|s| s[side]).sum::<f64>() / scores.len() as f64;
    (!scores.is_empty()).then(|| [mean(0), mean(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(score: f64, fit: bool) -> Sample {
        Sample { tokens: vec![1], text: "a".into(), score, fit }
    }

    #[test]
    fn the_extremes_are_a_pair_where_they_are_far_apart() {
        let of = |scores: &[(f64, bool)]| {
            extremes(&scores.iter().map(|&(score, fit)| sample(score, fit)).collect::<Vec<_>>(), 0.5)
        };
        assert_eq!(of(&[(0.1, true), (0.9, true), (0.3, true)]), Ok([vec![1], vec![0]]));
        // An unfit sample may be rejected, never chosen.
        assert_eq!(of(&[(0.0, false), (0.9, false), (0.3, true)]), Ok([vec![1], vec![2]]));
        assert_eq!(of(&[(1.0, true), (0.0, true), (1.0, true), (0.0, true)]), Ok([vec![0, 2], vec![1, 3]]));
        assert_eq!(of(&[(0.4, true), (0.0, true)]), Err(Lack::AllGood));
        assert_eq!(of(&[(0.9, true), (0.6, true)]), Err(Lack::AllBad));
        assert_eq!(of(&[(0.9, true), (0.0, false)]), Err(Lack::Unfit));
        assert_eq!(of(&[]), Err(Lack::AllGood));
    }

    #[test]
    fn a_chosen_text_is_like_the_models_own() {
        let usual = Usual::of(&[vec![1; 8], (0..8).collect(), (0..12).collect(), (0..3).collect()]);
        // 5 + 5 + 9 4-grams, 4 of them repeated in the first sample; the longer half has at least 8 tokens.
        assert_eq!(usual, Usual { median_tokens: 8, repeated: 4.0 / 19.0 });
        assert!(usual.fits(&[1, 2], "a b"));
        assert!(!usual.fits(&[1], "a"), "shorter than a quarter of the median");
        assert!(!usual.fits(&[1, 2], " . "), "blank");
        assert!(!usual.fits(&[1; 8], "a a a a a a a a"), "4 of 5 4-grams are repeated");
    }
}
