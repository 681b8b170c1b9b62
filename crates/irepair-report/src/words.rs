//! Numbers as words: a number that is not there is said to be missing.

use std::fmt;

use crate::fix::Rate;

/// A number with so many digits after the point, or `missing`.
///
/// ```
/// assert_eq!(irepair_report::words::number(Some(0.25), 1), "0.2");
/// assert_eq!(irepair_report::words::number(None, 1), "missing");
/// ```
pub fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("missing".to_owned(), |value| format!("{value:.digits$}"))
}

/// An interval after its number: a space, then `[18.1, 29.0]`; nothing where there is none.
pub fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or(String::new(), |[low, high]| format!(" [{low:.1}, {high:.1}]"))
}

impl fmt::Display for Rate {
    /// A rate as `23.3 % [18.1, 29.0], 28 of 120`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, n_failed, n_missing, percent, interval: found } = self;
        match percent {
            Some(percent) => write!(f, "{percent:.1} %{}, {n_failed} of {n}", interval(*found))?,
            None => write!(f, "missing")?,
        }
        if *n_missing > 0 { write!(f, ", {n_missing} without a score") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_says_what_it_is_of() {
        let rate = Rate { n: 120, n_failed: 28, n_missing: 0, percent: Some(23.33), interval: Some([18.1, 29.0]) };
        assert_eq!(rate.to_string(), "23.3 % [18.1, 29.0], 28 of 120");
        let rate = Rate { n: 3, n_failed: 1, n_missing: 2, percent: Some(100.0 / 3.0), interval: None };
        assert_eq!(rate.to_string(), "33.3 %, 1 of 3, 2 without a score");
        let rate = Rate { n: 0, n_failed: 0, n_missing: 2, percent: None, interval: None };
        assert_eq!(rate.to_string(), "missing, 2 without a score");
    }
}
