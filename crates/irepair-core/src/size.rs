//! How many blocks a slice keeps: a count (`3b`) or a share of the blocks (`20`, `20%`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Size of a slice, as `--top-k` reads it: a bare number or `N%` is percent of the blocks, `Nb` is a number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SliceSize {
    /// So many blocks, at least 1.
    Blocks(usize),
    /// Percent of the blocks, over 0 and up to 100; the paper's "top 20 %".
    Percent(f64),
}

impl SliceSize {
    /// Number of blocks kept out of `n_blocks`: `max(1, floor(r L))` for a share (METHOD §5), never more than there
    /// are.
    pub fn resolve(self, n_blocks: usize) -> usize {
        match self {
            Self::Blocks(k) => k.min(n_blocks),
            // The small slack undoes binary rounding: 20 % of 15 is 3, not 2.
            Self::Percent(p) => ((p / 100.0 * n_blocks as f64 + 1e-9).floor() as usize).clamp(1, n_blocks),
        }
    }
}

impl FromStr for SliceSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::BadSliceSize { got: text.to_owned() };
        let trimmed = text.trim();
        if let Some(count) = trimmed.strip_suffix('b') {
            return match count.trim().parse() {
                Ok(k) if k >= 1 => Ok(Self::Blocks(k)),
                _ => Err(refuse()),
            };
        }
        match trimmed.trim_end_matches('%').trim().parse::<f64>() {
            Ok(p) if p > 0.0 && p <= 100.0 => Ok(Self::Percent(p)),
            _ => Err(refuse()),
        }
    }
}

impl TryFrom<String> for SliceSize {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SliceSize> for String {
    fn from(size: SliceSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for SliceSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(k) => write!(f, "{k}b"),
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
        for text in ["1b", "3b", "20%", "12.5%"] {
            assert_eq!(text.parse::<SliceSize>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["0", "0b", "101", "-5", "", "b", "NaN", "inf", "twenty", "1.5b"] {
            let error = text.parse::<SliceSize>().unwrap_err();
            assert_eq!(error.to_string(), format!("slice size `{text}` is out of range"));
        }
    }
}
