//! The numbers that policies and methods read, with their defaults and ranges.

use std::fmt;

/// One number of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberRow {
    /// METHOD's value.
    pub default: f64,
    /// What is allowed.
    pub range: Range,
}

table! {
    /// A number that a policy or a method reads. The name is its key in files.
    pub enum Number("number"): NumberRow {
        /// Steps a choice is kept, or the half-life of exploring in steps (METHOD §5 [O]).
        PolicyEvery = "policy_every" { default: 20.0, range: Range::Count }
        /// Weight of the past in a running mean (METHOD §5 [O]).
        PolicyRho = "policy_rho" { default: 0.9, range: Range::ShareBelowOne }
        /// Chance of exploring at step 0 (METHOD §5 [O]).
        PolicyEpsilon = "policy_epsilon" { default: 0.1, range: Range::Share }
        /// Share of the squared sensitivity that a slice must hold (METHOD §5 [O]).
        PolicyQuota = "policy_quota" { default: 0.5, range: Range::ShareOverZero }
        /// Weight of the NLL of chosen text (METHOD §17 [F]).
        Beta = "beta" { default: 0.5, range: Range::NotNegative }
        /// Weight of the KL on utility text (METHOD §17 [F]).
        Gamma = "gamma" { default: 1.0, range: Range::NotNegative }
        /// Factor on a whole objective, `s` in METHOD §6 (METHOD §17 [F]).
        Scale = "scale" { default: 1.0, range: Range::Positive }
        /// Sharpness of the preference in the DPO loss (METHOD §17 [D,L]).
        DpoBeta = "dpo_beta" { default: 0.1, range: Range::Positive }
        /// Sharpness of the preference in the NPO loss (METHOD §7 [O]).
        NpoBeta = "npo_beta" { default: 0.1, range: Range::Positive }
    }
}

/// Which values a number may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Whole numbers from 1.
    Count,
    /// Whole numbers from 1 to a million.
    Updates,
    /// Finite, over 0.
    Positive,
    /// Finite, 0 or more.
    NotNegative,
    /// 0 to 1.
    Share,
    /// 0 up to, but not, 1.
    ShareBelowOne,
    /// Over 0, up to 1.
    ShareOverZero,
    /// What logits can be divided by and stay finite.
    Temperature,
}

impl Range {
    /// What is allowed, in words, and the test.
    fn row(self) -> (&'static str, fn(f64) -> bool) {
        match self {
            Self::Count => ("at least 1", |x| x.is_finite() && x >= 1.0),
            Self::Updates => ("at least 1 and at most 1000000", |x| (1.0..=1e6).contains(&x)),
            Self::Positive => ("a number over 0", |x| x.is_finite() && x > 0.0),
            Self::NotNegative => ("0 or more", |x| x.is_finite() && x >= 0.0),
            Self::Share => ("0 to 1", |x| (0.0..=1.0).contains(&x)),
            Self::ShareBelowOne => ("at least 0 and below 1", |x| (0.0..1.0).contains(&x)),
            Self::ShareOverZero => ("over 0 and up to 1", |x| x > 0.0 && x <= 1.0),
            Self::Temperature => ("at least 1e-6 and at most 1e6", |x| (1e-6..=1e6).contains(&x)),
        }
    }

    /// True when `x` may be the value.
    pub fn contains(self, x: f64) -> bool {
        self.row().1(x)
    }

    /// True when the values are whole numbers.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Count | Self::Updates)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}

/// A value for every [`Number`]; METHOD's unless set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers([f64; Number::ALL.len()]);

impl Numbers {
    /// The value of one number.
    pub fn get(&self, number: Number) -> f64 {
        self.0[number as usize]
    }

    /// The same with another value for one number.
    #[must_use]
    pub fn with(mut self, number: Number, value: f64) -> Self {
        self.0[number as usize] = value;
        self
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self(std::array::from_fn(|i| Number::ALL[i].row().default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed() {
        for number in Number::ALL {
            let NumberRow { default, range } = number.row();
            assert!(range.contains(default) && !range.contains(f64::NAN), "{number}");
            assert_eq!(Numbers::default().get(*number), default);
            assert_eq!(Numbers::default().with(*number, 7.0).get(*number), 7.0);
        }
    }

    #[test]
    fn ranges_have_the_ends_they_say() {
        let ends = |range: Range| [0.0, 1.0].map(|x| range.contains(x));
        assert_eq!(ends(Range::Share), [true, true]);
        assert_eq!(ends(Range::ShareBelowOne), [true, false]);
        assert_eq!(ends(Range::ShareOverZero), [false, true]);
        assert_eq!(ends(Range::Positive), [false, true]);
        assert_eq!(ends(Range::NotNegative), [true, true]);
        assert_eq!(ends(Range::Count), [false, true]);
    }
}
