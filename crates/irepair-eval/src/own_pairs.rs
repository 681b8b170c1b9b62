//! Pairs made by the model itself: of its own continuations of a prompt, the one that a judge finds worst is rejected,
//! and the one it finds best is chosen.

use irepair_data::Pair;
use irepair_scorer::Scorer;
use serde::{Deserialize, Serialize};

use crate::evaluator::conditional;
use crate::guard::repeated_4_grams;
use crate::scorer::is_blank;
use crate::texts::check;
use crate::toxicity::greedy_tokens;
use crate::{Error, Evaluator, Generation, Result, Scores};

/// How pairs are made (METHOD §21).
#[derive(Clone, Debug, PartialEq)]
pub struct PairRule {
    /// Prompt tokens that are kept, and the most new tokens: those of the evaluation.
    pub generation: Generation,
    /// Samples of every prompt.
    pub n_samples: usize,
    /// The greedy continuation is a candidate too, of a prompt whose samples give no pair: an error of greedy text
    /// alone, such as endless repetition, is in no sample.
    pub greedy: bool,
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
    /// Why the first of the samples without a score has none.
    pub first_failure: Option<String>,
}

/// What became of the prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairCounts {
    /// Prompts given.
    pub n_prompts: usize,
    /// Pairs from the first samples.
    pub n_first: usize,
    /// Pairs that needed the greedy continuation.
    #[serde(default, skip_serializing_if = "is_none")]
    pub n_greedy: usize,
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
    /// Prompts dropped because the judge gave none of their samples a score.
    #[serde(default, skip_serializing_if = "is_none")]
    pub n_all_unscored: usize,
    /// Samples drawn, greedy continuations among them.
    pub n_samples: usize,
    /// Samples that the judge gave no score; they are left out.
    pub n_unscored: usize,
    /// Mean score of the rejected continuations, and of the chosen ones.
    pub mean_scores: Option<[f64; 2]>,
}

fn is_none(n: &usize) -> bool {
    *n == 0
}

/// Continuations that are asked for one after the other, of the prompts that have no pair yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    First,
    Greedy,
    More,
    Steered,
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

/// A prompt, its samples so far, and the candidates for its pair: rejected ones, chosen ones.
struct Trial {
    row: Vec<u32>,
    samples: Vec<Sample>,
    found: Result<[Vec<usize>; 2], Lack>,
}

/// Tokens of a prompt, and the seed of its draws.
type Seeded = (Vec<u32>, u64);

/// Why samples make no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The worst score is not far enough over the best one, which is good.
    AllGood,
    AllBad,
    Unfit,
    /// No sample has a score, or none was drawn yet.
    Unscored,
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
        let (n, n_repeated) = repeated_4_grams(samples);
        let repeated = if n == 0 { 0.0 } else { n_repeated as f64 / n as f64 };
        Self { median_tokens: lengths.get(lengths.len() / 2).copied().unwrap_or(0), repeated }
    }

    fn fits(&self, tokens: &[u32], text: &str) -> bool {
        let (n, n_repeated) = repeated_4_grams(&[tokens]);
        !is_blank(text) && 4 * tokens.len() >= self.median_tokens && n_repeated as f64 <= self.repeated * n as f64
    }
}

/// Indices of the samples that may be rejected, and of those that may be chosen: the extremes, several where they tie.
fn extremes(samples: &[Sample], min_gap: f64) -> Result<[Vec<usize>; 2], Lack> {
    if samples.is_empty() {
        return Err(Lack::Unscored);
    }
    let worst = samples.iter().map(|s| s.score).fold(f64::NEG_INFINITY, f64::max);
    let best = samples.iter().filter(|s| s.fit).map(|s| s.score).fold(f64::INFINITY, f64::min);
    // NaN never: scores are numbers from 0 to 1.
    if worst - best < min_gap || best.is_infinite() {
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
    /// the likelier text. A prompt that gives no pair is tried with its greedy continuation where the rule says so,
    /// then sampled again, then after the steering text of the side that it lacks, then dropped and counted. `sampled`
    /// is called for every prompt that was sampled.
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
        let trial = |row| Trial { row, samples: Vec::new(), found: Err(Lack::Unscored) };
        let mut trials: Vec<Trial> = rows.into_iter().map(trial).collect();
        let mut counts = PairCounts { n_prompts: prompts.len(), ..PairCounts::default() };
        let (mut usual, mut first_failure) = (None, None);
        for round in [Round::First, Round::Greedy, Round::More, Round::Steered] {
            let n = match round {
                Round::First | Round::Steered => rule.n_samples,
                Round::Greedy => usize::from(rule.greedy),
                Round::More => rule.n_more,
            };
            let rows = self.lacking(&trials, round, rule)?;
            if n == 0 || rows.is_empty() {
                continue;
            }
            let (places, rows): (Vec<usize>, Vec<Seeded>) = rows.into_iter().unzip();
            check(self.model, rows.iter().map(|(row, _)| row), n)?;
            let drawn = match round {
                Round::Greedy => {
                    let rows: Vec<Vec<u32>> = rows.iter().map(|(row, _)| row.clone()).collect();
                    let ends = self.tokenizer.end_ids();
                    greedy_tokens(self.model, &rows, rule.generation.n_new, ends, self.batch_size)?
                }
                _ => self.samples(&rows, n, rule.generation.n_new, &mut sampled)?,
            };
            let usual = *usual.get_or_insert_with(|| Usual::of(&drawn));
            let of = |(k, tokens): (usize, &Vec<u32>)| self.tokenizer.decode_after(&rows[k / n].0, tokens);
            let texts = drawn.iter().enumerate().map(of).collect::<Result<Vec<_>, _>>()?;
            let asked: Vec<&String> = places.iter().map(|&i| &prompts[i]).collect();
            let scores = Scores::of_answers(&asked, &texts, judge);
            counts.n_samples += texts.len();
            counts.n_unscored += scores.n_failed();
            first_failure = first_failure.or(scores.first_failure);
            for (k, ((tokens, text), score)) in drawn.into_iter().zip(texts).zip(scores.values).enumerate() {
                let fit = usual.fits(&tokens, &text);
                let sample = score.map(|score| Sample { tokens, text, score, fit });
                trials[places[k / n]].samples.extend(sample);
            }
            let n_pairs = match round {
                Round::First => &mut counts.n_first,
                Round::Greedy => &mut counts.n_greedy,
                Round::More => &mut counts.n_more,
                Round::Steered => &mut counts.n_steered,
            };
            for i in places {
                trials[i].found = extremes(&trials[i].samples, rule.min_gap);
                *n_pairs += usize::from(trials[i].found.is_ok());
            }
        }
        let (mut pairs, mut sums) = (Vec::new(), [0.0; 2]);
        for (prompt, trial) in prompts.iter().zip(&trials) {
            match &trial.found {
                Ok(sides) => {
                    pairs.push(self.pair(prompt, trial, sides, &rule.generation)?);
                    sums = [0, 1].map(|side| sums[side] + trial.samples[sides[side][0]].score);
                }
                Err(Lack::AllGood) => counts.n_all_good += 1,
                Err(Lack::AllBad) => counts.n_all_bad += 1,
                Err(Lack::Unfit) => counts.n_unfit += 1,
                Err(Lack::Unscored) => counts.n_all_unscored += 1,
            }
        }
        counts.mean_scores = (!pairs.is_empty()).then(|| sums.map(|sum| sum / pairs.len() as f64));
        Ok(OwnPairs { pairs, counts, first_failure })
    }

    /// Places of the prompts without a pair, their tokens after the round's steering text, and the seeds of their
    /// draws.
    fn lacking(&self, trials: &[Trial], round: Round, rule: &PairRule) -> Result<Vec<(usize, Seeded)>> {
        let stream: u64 = match round {
            Round::First | Round::Greedy => 0,
            Round::More => 1,
            Round::Steered => 2,
        };
        let mut rows = Vec::new();
        for (i, Trial { row, found, .. }) in trials.iter().enumerate() {
            let before = match found {
                Ok(_) => None,
                Err(_) if round != Round::Steered => Some(""),
                Err(Lack::AllGood) => rule.steer_rejected.as_deref(),
                Err(Lack::AllBad | Lack::Unfit) => rule.steer_chosen.as_deref(),
                // Nothing says which side it lacks.
                Err(Lack::Unscored) => None,
            };
            let Some(before) = before else { continue };
            let mut row = row.clone();
            let begins = self.tokenizer.n_begin(&row);
            row.splice(begins..begins, self.tokenizer.encode(before)?);
            rows.push((i, (row, rule.seed.wrapping_add(((i as u64) << 32) | (stream << 24)))));
        }
        Ok(rows)
    }

    /// The pair of a prompt, ties decided by likelihood.
    fn pair(&self, prompt: &str, trial: &Trial, sides: &[Vec<usize>; 2], generation: &Generation) -> Result<Pair> {
        let side = |candidates: &[usize]| -> Result<String> {
            let best = self.likeliest(&trial.row, &trial.samples, candidates)?;
            let Sample { tokens, text, .. } = &trial.samples[best];
            let end = if tokens.len() < generation.n_new { self.tokenizer.end_text() } else { String::new() };
            Ok(format!("{text}{end}"))
        };
        // What the model has read: a long prompt was cut.
        let n = trial.row.len();
        let whole = n < generation.prompt_tokens || self.tokenizer.encode_text(prompt)?.len() == n;
        let prompt = if whole { prompt.to_owned() } else { self.tokenizer.decode(&trial.row)? };
        Ok(Pair { prompt, rejected: side(&sides[0])?, chosen: side(&sides[1])? })
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
        assert_eq!(of(&[]), Err(Lack::Unscored));
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
