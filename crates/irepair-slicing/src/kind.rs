//! The names of the policies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Which policy (METHOD §5); `Display`, `FromStr` and serde use the names of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// The most sensitive blocks, measured at every step: the paper's method [D].
    Dynamic,
    /// The least sensitive blocks, measured at every step: the paper's control [D].
    Reverse,
    /// The most sensitive blocks of one estimate made before the first step [D].
    Fixed,
    /// Blocks drawn uniformly, kept for some steps [O].
    Random,
    /// Blocks in order, each kept for some steps [O].
    Cyclic,
    /// `Dynamic`, measured only every so many steps [O].
    EveryN,
    /// The most sensitive blocks of a running mean [O].
    Ema,
    /// `Dynamic`, but sometimes drawn uniformly, less and less often [O].
    Explore,
    /// As many of the most sensitive blocks as hold a share of the squared sensitivity [O].
    Coverage,
    /// Every parameter, embeddings included; unsliced [D].
    All,
}

impl PolicyKind {
    /// Every kind, in the order of METHOD §5.
    pub const ALL: [Self; 10] = [
        Self::Dynamic,
        Self::Reverse,
        Self::Fixed,
        Self::Random,
        Self::Cyclic,
        Self::EveryN,
        Self::Ema,
        Self::Explore,
        Self::Coverage,
        Self::All,
    ];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Reverse => "reverse",
            Self::Fixed => "fixed",
            Self::Random => "random",
            Self::Cyclic => "cyclic",
            Self::EveryN => "every-n",
            Self::Ema => "ema",
            Self::Explore => "explore",
            Self::Coverage => "coverage",
            Self::All => "all",
        }
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::UnknownPolicy { got: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse::<PolicyKind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "dynamite".parse::<PolicyKind>().unwrap_err();
        assert_eq!(
            error.diagnostic().to_string(),
            "error: no slicing policy is called `dynamite`\n want: dynamic, reverse, fixed, random, cyclic, every-n, \
             ema, explore, coverage, all    got: dynamite"
        );
    }
}
