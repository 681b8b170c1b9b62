//! Mann-Whitney U test over seeds and the A12 effect size (METHOD §16).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::check;
use crate::ranks::{count_sums, exact_p, midranks, normal_p};
use crate::{Bootstrap, Error, Estimate, PMethod, Result};

/// Up to this many values in all the p-value is exact.
const MAX_EXACT: usize = 40;

/// Outcome of a rank-sum test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Pairs `(x, y)` with `x > y`, equal ones counting one half.
    pub u: f64,
    /// Two-sided p.
    pub p: f64,
    /// How `p` was obtained.
    pub method: PMethod,
}

/// Two-sided Mann-Whitney U test of two independent samples.
///
/// Up to 40 values in all, the permutation distribution of the (mid)ranks is counted exactly, with ties; beyond that
/// the normal approximation is used, corrected for ties and continuity. Three runs against three can reach p = 0.1 at
/// best, five against five 0.008.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`]; [`Error::NoDifference`] when all values are equal.
///
/// # Source
/// METHOD §16 \[S\].
pub fn mann_whitney(xs: &[f64], ys: &[f64]) -> Result<MannWhitney> {
    check(xs, "a rank-sum test")?;
    check(ys, "a rank-sum test")?;
    let pooled: Vec<f64> = xs.iter().chain(ys).copied().collect();
    if pooled.iter().all(|&v| v == pooled[0]) {
        return Err(Error::NoDifference);
    }
    let (ranks, ties) = midranks(&pooled);
    let rank_sum: f64 = ranks[..xs.len()].iter().sum();
    let (nx, ny) = (xs.len() as f64, ys.len() as f64);
    let u = rank_sum - nx * (nx + 1.0) / 2.0;

    let (p, method) = if pooled.len() <= MAX_EXACT {
        let doubled: Vec<usize> = ranks.iter().map(|r| (2.0 * r).round() as usize).collect();
        (exact_p(&count_sums(&doubled, Some(xs.len())), (2.0 * rank_sum).round() as usize), PMethod::Exact)
    } else {
        let n = nx + ny;
        let variance = nx * ny / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
        (normal_p(u - nx * ny / 2.0, variance.sqrt()), PMethod::Normal)
    };
    Ok(MannWhitney { u, p, method })
}

/// Vargha-Delaney effect size, `P(X < Y) + P(X = Y) / 2`: the chance that ours is lower (better) than theirs.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`].
///
/// # Source
/// METHOD §16 \[S\]; see [`a12_size`].
pub fn a12(ours: &[f64], theirs: &[f64]) -> Result<f64> {
    check(ours, "an effect size")?;
    check(theirs, "an effect size")?;
    let mut sorted = theirs.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(share_won(ours, &sorted))
}

/// [`a12`] with its percentile bootstrap interval, each sample resampled by itself; no interval when a sample is a
/// single value. `n` is the number of values of both samples.
///
/// If every value of one sample is below every value of the other, all resamples are equal and the interval is one
/// point, which shows that the samples are small rather than that the effect is certain.
///
/// # Errors
/// As [`a12`]; [`Error::NoResamples`], [`Error::NotAShare`] for the settings.
///
/// # Source
/// METHOD §16: the bootstrap's settings are those of a mean.
pub fn a12_interval(ours: &[f64], theirs: &[f64], bootstrap: &Bootstrap) -> Result<Estimate> {
    let value = a12(ours, theirs)?;
    let drawn = |from: &[f64], rng: &mut ChaCha8Rng| -> Vec<f64> {
        from.iter().map(|_| from[rng.random_range(0..from.len())]).collect()
    };
    let replicates = bootstrap.replicate(|rng| {
        let (left, mut right) = (drawn(ours, rng), drawn(theirs, rng));
        right.sort_by(f64::total_cmp);
        share_won(&left, &right)
    })?;
    let interval = if ours.len().min(theirs.len()) < 2 { None } else { bootstrap.percentile_interval(replicates) };
    Ok(Estimate { value, interval, n: ours.len() + theirs.len() })
}

/// Share of pairs with ours below theirs, equal ones counting one half; theirs from low to high.
fn share_won(ours: &[f64], theirs: &[f64]) -> f64 {
    let below = |x: f64| theirs.partition_point(|&y| y < x) + theirs.partition_point(|&y| y <= x);
    let lost: usize = ours.iter().map(|&x| below(x)).sum();
    1.0 - lost as f64 / (2 * ours.len() * theirs.len()) as f64
}

/// METHOD §16's words for an A12: 0.56 / 0.64 / 0.71 are small / medium / large, in either direction.
pub fn a12_size(a12: f64) -> &'static str {
    // The slack undoes binary rounding: 1 - 0.29 is large.
    match (a12 - 0.5).abs() + 1e-9 {
        d if d >= 0.21 => "large",
        d if d >= 0.14 => "medium",
        d if d >= 0.06 => "small",
        _ => "negligible",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_against_three_reach_one_tenth() {
        let m = mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!((m.u, m.p, m.method), (0.0, 0.1, PMethod::Exact));
        assert_eq!(a12(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), Ok(1.0));
    }

    #[test]
    fn equal_samples_are_a_draw() {
        assert_eq!(a12(&[1.0, 2.0], &[1.0, 2.0]), Ok(0.5));
        assert_eq!(mann_whitney(&[1.0, 2.0], &[1.0, 2.0]).unwrap().p, 1.0);
        assert_eq!(mann_whitney(&[1.0], &[1.0]), Err(Error::NoDifference));
    }

    #[test]
    fn a_clear_effect_has_an_interval_of_one_point_and_single_values_have_none() {
        let settings = Bootstrap::new(0);
        let clear = a12_interval(&[1.0, 2.0], &[3.0, 4.0, 5.0], &settings).unwrap();
        assert_eq!((clear.value, clear.n), (1.0, 5));
        assert_eq!(clear.interval.map(|i| (i.low, i.high)), Some((1.0, 1.0)));
        assert_eq!(a12_interval(&[1.0], &[0.0, 2.0], &settings).unwrap().interval, None);
        assert!(a12_interval(&[], &[1.0], &settings).is_err());
    }

    #[test]
    fn effect_sizes_have_words_in_both_directions() {
        assert_eq!([0.5, 0.56, 0.36, 0.71, 0.29].map(a12_size), ["negligible", "small", "medium", "large", "large"]);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(mann_whitney(&[], &[1.0]).is_err());
        assert!(mann_whitney(&[1.0], &[f64::NAN]).is_err());
        assert!(a12(&[1.0], &[]).is_err());
    }
}
