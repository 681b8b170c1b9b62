//! How good a scorer is on labelled texts: ranking, decisions, calibration.

use serde::Serialize;

/// A text is called toxic when its score is over this (METHOD §9: tau).
pub const THRESHOLD: f64 = 0.5;

/// Bins of the reliability curve.
const N_BINS: usize = 10;

/// Texts whose score is in `(from, to]`; the first bin holds 0 too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Texts in it.
    pub n: usize,
    /// Their mean score; none without texts.
    pub mean_score: Option<f64>,
    /// The share of them that people labelled toxic; none without texts.
    pub toxic_share: Option<f64>,
}

/// Scores compared with labels. A number whose denominator is 0 is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Texts with a score; every number below is over them.
    pub n: usize,
    /// Texts without one.
    pub n_failed: usize,
    /// Toxic texts among the `n`.
    pub n_toxic: usize,
    /// Probability that a toxic text scores higher than another; ties count half.
    pub auc: Option<f64>,
    /// Harmonic mean of precision and recall for toxic, called over [`THRESHOLD`].
    pub f1: Option<f64>,
    /// Share of the texts called toxic that are.
    pub precision: Option<f64>,
    /// Share of the toxic texts that are called so.
    pub recall: Option<f64>,
    /// Share of the other texts that are called toxic.
    pub false_positive_rate: Option<f64>,
    /// Share of texts called rightly.
    pub accuracy: Option<f64>,
    /// Mean squared difference of score and label.
    pub brier: Option<f64>,
    /// Expected calibration error: |mean score - toxic share| of the ten equal bins, weighted by their texts.
    pub ece: Option<f64>,
    /// The reliability curve.
    pub bins: Vec<Bin>,
}

impl Quality {
    /// Compares scores with labels, text by text.
    ///
    /// # Source
    /// METHOD §9 [O]; the formulas are scikit-learn's (`roc_auc_score`, `f1_score`, `brier_score_loss`,
    /// `calibration_curve`), pinned in `parity/scorer`. [S]
    pub fn of(scores: &[Option<f64>], toxic: &[bool]) -> Self {
        let scored: Vec<(f64, bool)> = scores.iter().zip(toxic).filter_map(|(s, &t)| Some(((*s)?, t))).collect();
        let n = scored.len();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let count =
            |called: bool, is: bool| scored.iter().filter(|(s, t)| (*s > THRESHOLD) == called && *t == is).count();
        let (hits, misses) = (count(true, true), count(false, true));
        let (alarms, passes) = (count(true, false), count(false, false));
        let bins = bins(&scored);
        let gap = |bin: &Bin| Some((bin.mean_score? - bin.toxic_share?).abs() * bin.n as f64);
        let square = |(s, t): &(f64, bool)| (s - f64::from(u8::from(*t))).powi(2);
        Self {
            n,
            n_failed: scores.len() - n,
            n_toxic: hits + misses,
            auc: auc(&scored),
            f1: share(2 * hits, 2 * hits + alarms + misses),
            precision: share(hits, hits + alarms),
            recall: share(hits, hits + misses),
            false_positive_rate: share(alarms, alarms + passes),
            accuracy: share(hits + passes, n),
            brier: (n > 0).then(|| scored.iter().map(square).sum::<f64>() / n as f64),
            ece: (n > 0).then(|| bins.iter().filter_map(gap).sum::<f64>() / n as f64),
            bins,
        }
    }
}

/// Mann and Whitney's statistic over the number of pairs.
fn auc(scored: &[(f64, bool)]) -> Option<f64> {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the pairs won: a pair of equal scores counts one.
    let (mut doubled, mut n_clean) = (0_u128, 0_u128);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let toxic = tied.iter().filter(|(_, t)| *t).count() as u128;
        let clean = tied.len() as u128 - toxic;
        doubled += toxic * (2 * n_clean + clean);
        n_clean += clean;
    }
    let pairs = n_clean * (scored.len() as u128 - n_clean);
    (pairs > 0).then(|| doubled as f64 / (2 * pairs) as f64)
}

fn bins(scored: &[(f64, bool)]) -> Vec<Bin> {
    let edge = |i: usize| i as f64 * (1.0 / N_BINS as f64);
    let bin = |i: usize| {
        let (from, to) = (edge(i), if i + 1 == N_BINS { 1.0 } else { edge(i + 1) });
        let inside: Vec<&(f64, bool)> =
            scored.iter().filter(|(s, _)| (*s > from || i == 0) && (*s <= to || i + 1 == N_BINS)).collect();
        let n = inside.len();
        let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
        let n_toxic = inside.iter().filter(|(_, t)| *t).count();
        let mean_score = mean(inside.iter().map(|(s, _)| s).sum());
        Bin { from, to, n, mean_score, toxic_share: mean(n_toxic as f64) }
    };
    (0..N_BINS).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_worked_out_by_hand() {
        let scores = [Some(0.9), Some(0.4), None, Some(0.6), Some(0.4), Some(0.1)];
        let toxic = [true, true, true, false, false, false];
        let q = Quality::of(&scores, &toxic);
        assert_eq!((q.n, q.n_failed, q.n_toxic), (5, 1, 2));
        // Of six pairs: 0.9 wins three; 0.4 loses to 0.6, ties with 0.4, beats 0.1.
        assert_eq!(q.auc, Some(4.5 / 6.0));
        assert_eq!((q.precision, q.recall, q.f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((q.accuracy, q.false_positive_rate), (Some(0.6), Some(1.0 / 3.0)));
        assert!((q.brier.unwrap() - (0.01 + 0.36 + 0.36 + 0.16 + 0.01) / 5.0).abs() < 1e-15);
        assert_eq!(q.bins.iter().map(|b| b.n).collect::<Vec<_>>(), [1, 0, 0, 2, 0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn without_texts_or_without_one_side_there_is_no_number() {
        let q = Quality::of(&[None, None], &[true, false]);
        assert_eq!((q.n, q.n_failed, q.auc, q.f1, q.brier, q.ece), (0, 2, None, None, None, None));
        let q = Quality::of(&[Some(0.1), Some(0.2)], &[false, false]);
        assert_eq!((q.auc, q.recall, q.f1, q.accuracy), (None, None, None, Some(1.0)));
    }
}
