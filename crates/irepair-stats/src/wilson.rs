//! The Wilson interval of a rate: of yes/no answers, such as failures on prompts.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Error, Interval, LEVEL, Result};

/// The Wilson score interval, at [`LEVEL`], of the rate `n_yes / n`; unlike the normal one it has a width at 0 and 1.
///
/// # Errors
/// [`Error::Empty`] for `n` = 0.
///
/// # Source
/// Wilson 1927, without continuity correction \[S\].
pub fn wilson(n_yes: usize, n: usize) -> Result<Interval> {
    wilson_of_shares(n_yes.min(n) as f64 / n.max(1) as f64, n)
}

/// [`wilson`] of the mean of `n` shares between 0 and 1. They vary no more than as many answers of yes and no with the
/// same mean, so that the interval is at least as wide as theirs has to be.
///
/// # Errors
/// As [`wilson`].
pub fn wilson_of_shares(mean: f64, n: usize) -> Result<Interval> {
    if n == 0 {
        return Err(Error::Empty { what: "an interval of a rate" });
    }
    let (rate, n) = (mean.clamp(0.0, 1.0), n as f64);
    let z = Normal::standard().inverse_cdf(0.5 + LEVEL / 2.0);
    let z2 = z * z;
    let middle = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the interval touches 0 or 1 exactly, which rounding must not miss.
    let low = if rate == 0.0 { 0.0 } else { (middle - half).clamp(0.0, rate) };
    let high = if rate == 1.0 { 1.0 } else { (middle + half).clamp(rate, 1.0) };
    Ok(Interval { low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_intervals() {
        // Newcombe 1998, Statistics in Medicine 17, table I, method 3.
        for (n_yes, n, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = wilson(n_yes, n).unwrap();
            assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}");
        }
    }

    #[test]
    fn it_holds_the_rate_and_mirrors() {
        for n in 1..60 {
            for n_yes in 0..=n {
                let (found, mirror) = (wilson(n_yes, n).unwrap(), wilson(n - n_yes, n).unwrap());
                assert!(found.contains(n_yes as f64 / n as f64) && found.low < found.high);
                assert!((found.low + mirror.high - 1.0).abs() < 1e-12 && (0.0..=1.0).contains(&found.low));
            }
        }
        assert!(wilson(0, 0).is_err());
    }
}
