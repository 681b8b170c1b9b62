//! Holm's correction for many tests in one table (METHOD §16).

use crate::{Error, Result};

/// Holm-adjusted p-values, in the order given: reject where the adjusted value is at most the level.
///
/// # Errors
/// [`Error::NotFinite`] for a NaN, [`Error::NotAShare`] for a p outside \[0, 1\].
///
/// # Source
/// METHOD §16 \[S\]: over all pairs in a table.
pub fn holm(ps: &[f64]) -> Result<Vec<f64>> {
    for (idx, &value) in ps.iter().enumerate() {
        if !value.is_finite() {
            return Err(Error::NotFinite { idx, value });
        }
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::NotAShare { what: "p-value", value });
        }
    }
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let (mut adjusted, mut highest) = (vec![0.0; ps.len()], 0.0f64);
    for (place, &i) in order.iter().enumerate() {
        highest = highest.max((ps.len() - place) as f64 * ps[i]).min(1.0);
        adjusted[i] = highest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook_example() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
        for (got, want) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - want).abs() < 1e-12, "{adjusted:?}");
        }
    }

    #[test]
    fn nothing_in_nothing_out() {
        assert_eq!(holm(&[]), Ok(vec![]));
        assert!(holm(&[f64::NAN]).is_err());
        assert!(holm(&[1.5]).is_err());
    }
}
