//! The weights with the largest scores on error text that are not among those of neutral text (METHOD §3): what
//! `snip-diff` and `wanda-diff` count.
//!
//! The top share is one of all scored weights of the model, not of each block. Its threshold is exact: the bits of a
//! float32 that is not negative order it as an integer, whose digits are counted from the highest on. That takes three
//! passes over the scores and a copy of one tensor at a time; a sort would take a copy of them all.

use std::collections::BTreeSet;

use irepair_model::{BlockMap, host};
use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::block_sums::BlockSums;

/// The share that counts as top [O].
pub(crate) const TOP_SHARE: f64 = 0.05;

/// Bits of a float32 without its sign, from the highest digit on: where the digit starts, and its width.
const DIGITS: [(i64, i64); 3] = [(20, 11), (10, 10), (0, 10)];

/// A score per weight, by parameter index: float32, at least 0.
pub(crate) type Scores = Vec<(usize, Tensor)>;

/// Some weights of a model.
pub(crate) struct Members {
    /// By parameter index, true for each weight that belongs; of all parameters that have scores.
    pub(crate) masks: Vec<(usize, Tensor)>,
    /// Parameters with a score that is not finite.
    pub(crate) broken: BTreeSet<usize>,
}

impl Members {
    /// The weights whose scores are in the top `share` of all; those as large as the smallest of them belong too.
    ///
    /// # Errors
    /// When a copy to the host fails.
    pub(crate) fn top(scores: Scores, share: f64) -> Result<Self> {
        no_grad(|| {
            let not_finite: Vec<Tensor> =
                scores.iter().map(|(_, scores)| scores.isfinite().logical_not().any()).collect();
            let broken = scores.iter().zip(host::numbers(&not_finite)?).filter(|(_, broken)| *broken > 0.0);
            let broken = broken.map(|((parameter, _), _)| *parameter).collect();
            let threshold = threshold(&scores, share)?;
            let masks = scores.into_iter().map(|(parameter, scores)| (parameter, bits(&scores).ge(threshold)));
            Ok(Self { masks: masks.collect(), broken })
        })
    }

    /// These without `others`, which are weights of the same parameters.
    pub(crate) fn without(self, others: Self) -> Self {
        let left = |((parameter, own), (_, other)): ((usize, Tensor), (usize, Tensor))| {
            (parameter, own.logical_and(&other.logical_not()))
        };
        let masks = no_grad(|| self.masks.into_iter().zip(others.masks).map(left).collect());
        Self { masks, broken: self.broken.union(&others.broken).copied().collect() }
    }

    /// The share of each block's scored weights that belong; NaN where a score is not finite.
    ///
    /// # Errors
    /// When the copy to the host fails.
    pub(crate) fn shares(&self, map: &BlockMap) -> Result<Vec<f64>> {
        let masks = self.masks.iter().map(|(parameter, mask)| (*parameter, mask));
        let mut shares = BlockSums::over(map, masks, |_, mask| mask.sum(Kind::Int64)).read_alone(map.n_blocks())?;
        let mut n_scored = vec![0; map.n_blocks()];
        for (parameter, mask) in &self.masks {
            if let Some(block) = map.block(*parameter) {
                n_scored[block.0] += mask.numel();
                if self.broken.contains(parameter) {
                    shares[block.0] = f64::NAN;
                }
            }
        }
        shares.iter_mut().zip(n_scored).for_each(|(share, n)| *share /= n.max(1) as f64);
        Ok(shares)
    }
}

/// The bits of float32 scores without their sign, as int32: in the order of the scores.
fn bits(scores: &Tensor) -> Tensor {
    scores.view_dtype(Kind::Int).bitwise_and(i64::from(i32::MAX))
}

/// The bits of the smallest score in the top `share`.
fn threshold(scores: &Scores, share: f64) -> Result<i64> {
    let n: usize = scores.iter().map(|(_, scores)| scores.numel()).sum();
    let mut n_above = (share * n as f64).round().clamp(1.0, n.max(1) as f64);
    let mut prefix = 0;
    for (start, width) in DIGITS {
        let n_digits = 1_i64 << width;
        let count = |(_, scores): &(usize, Tensor)| {
            let bits = bits(scores).flatten(0, -1);
            let digits = bits.bitwise_right_shift_tensor_scalar(start).bitwise_and(n_digits - 1);
            let candidates = bits.bitwise_right_shift_tensor_scalar(start + width).eq(prefix);
            digits.where_scalarother(&candidates, n_digits).bincount(None::<Tensor>, n_digits + 1)
        };
        let Some(counts) = scores.iter().map(count).reduce(|sum, counts| sum + counts) else { return Ok(0) };
        let counts = host::vectors(&[counts])?.remove(0);
        let mut digit = n_digits - 1;
        while digit > 0 && counts[digit as usize] < n_above {
            n_above -= counts[digit as usize];
            digit -= 1;
        }
        prefix = (prefix << width) | digit;
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn top(scores: &[Vec<f32>], share: f64) -> Vec<Vec<bool>> {
        let scores = scores.iter().map(|scores| Tensor::from_slice(scores)).enumerate().collect();
        let masks = Members::top(scores, share).unwrap().masks;
        masks.iter().map(|(_, mask)| Vec::try_from(mask).unwrap()).collect()
    }

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(1e-42), Just(f32::MAX), 0.0f32..2.0, 1e-30f32..1e-20]
    }

    proptest! {
        #[test]
        fn the_threshold_is_that_of_a_sort(
            scores in prop::collection::vec(prop::collection::vec(score(), 1..40), 1..5),
            share in 0.0f64..=1.0,
        ) {
            let mut all: Vec<f32> = scores.concat();
            all.sort_by(|a, b| b.partial_cmp(a).unwrap());
            let k = ((share * all.len() as f64).round() as usize).clamp(1, all.len());
            let want: Vec<Vec<bool>> =
                scores.iter().map(|scores| scores.iter().map(|s| *s >= all[k - 1]).collect()).collect();
            prop_assert_eq!(top(&scores, share), want);
        }
    }

    #[test]
    fn all_of_them_and_none() {
        assert_eq!(top(&[vec![0.0, 3.0], vec![1.0]], 1.0), [vec![true, true], vec![true]]);
        assert_eq!(top(&[vec![0.0, 3.0], vec![1.0]], 0.0), [vec![false, true], vec![false]], "the largest at least");
        assert!(top(&[], 0.5).is_empty());
    }

    #[test]
    fn a_score_that_is_not_finite_marks_its_block() {
        let scores = |values: [f32; 2]| vec![(0, Tensor::from_slice(&[1.0f32, 2.0])), (1, Tensor::from_slice(&values))];
        let map = BlockMap::new(2, [Some(irepair_core::BlockId(0)), Some(irepair_core::BlockId(1))]);
        for broken in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let of = |values| Members::top(scores(values), 0.5).unwrap();
            for left in [of([broken, 1.0]).without(of([3.0, 4.0])), of([3.0, 4.0]).without(of([broken, 1.0]))] {
                let shares = left.shares(&map).unwrap();
                assert!(shares[0].is_finite() && shares[1].is_nan(), "{broken}: {shares:?}");
            }
        }
    }
}
