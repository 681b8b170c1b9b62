//! How much a slice keeps: a number of blocks (`3b`) or of units (`3u`), or a share of all (`20`, `20%`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Size of a slice, as `--top-k` reads it: a bare number or `N%` is percent of the units that may be chosen, `Nb` is a
/// number of blocks, `Nu` one of units of the kind that is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SliceSize {
    /// So many blocks, at least 1.
    Blocks(usize),
    /// So many units of the kind that is chosen, at least 1; of blocks, as many blocks.
    Units(usize),
    /// Percent of the units, over 0 and up to 100; the paper's "top 20 %".
    Percent(f64),
}

impl SliceSize {
    /// Number of units kept out of `n`: `max(1, floor(r n))` for a share (METHOD §5), never more than there are.
    pub fn resolve(self, n: usize) -> usize {
        match self {
            Self::Blocks(k) | Self::Units(k) => k.min(n),
            // The small slack undoes binary rounding: 20 % of 15 is 3, not 2.
            Self::Percent(p) => ((p / 100.0 * n as f64 + 1e-9).floor() as usize).clamp(1, n),
        }
    }
}

impl FromStr for SliceSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::BadSliceSize { got: text.to_owned() };
        let trimmed = text.trim();
        for (suffix, counted) in [('b', Self::Blocks as fn(usize) -> Self), ('u', Self::Units)] {
            if let Some(count) = trimmed.strip_suffix(suffix) {
                return count.trim().parse().ok().filter(|&k| k >= 1).map(counted).ok_or_else(refuse);
            }
        }
        match trimmed.trim_end_matches('%').trim().parse::<f64>() {
            Ok(p) if p > 0.0 && p <= 100.0 => Ok(Self::Percent(p)),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for SliceSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(k) => write!(f, "{k}b"),
            Self::Units(k) => write!(f, "{k}u"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_top_20_percent() {
        let size: SliceSize = "20".parse().unwrap();
        assert_eq!([36, 48, 24, 12, 15, 1].map(|n| size.resolve(n)), [7, 9, 4, 2, 3, 1]);
    }

    #[test]
    fn counts_and_shares_round_trip() {
        for text in ["1b", "3b", "4u", "20%", "12.5%"] {
            assert_eq!(text.parse::<SliceSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["0", "0b", "0u", "u", "101", "-5", "", "b", "NaN", "inf", "twenty", "1.5b"] {
            let error = text.parse::<SliceSize>().unwrap_err();
            assert_eq!(error.to_string(), format!("slice size `{text}` is out of range"));
        }
    }
}
