//! Parts of a set of prompts: for pairs, for choosing settings, for measuring.

use irepair_core::fs::sha256_hex;

/// The part a prompt belongs to. The same text is always in the same part, whatever set it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Pairs are made of it.
    Repair,
    /// Settings are chosen on it.
    Valid,
    /// Results are measured on it.
    Test,
}

impl Part {
    /// The part of `text`, by its hash, where these shares of all texts are kept out of the repair.
    ///
    /// # Source
    /// METHOD §21 [O].
    pub fn of(text: &str, valid_share: f64, test_share: f64) -> Self {
        let hash = sha256_hex(text.as_bytes());
        let place =
            hash.chars().take(8).filter_map(|c| c.to_digit(16)).fold(0.0, |sum, digit| 16.0 * sum + f64::from(digit));
        match place / f64::from(u32::MAX) {
            place if place < test_share => Self::Test,
            place if place < test_share + valid_share => Self::Valid,
            _ => Self::Repair,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_a_text_keeps_its_part() {
        let parts: Vec<Part> = (0..4000).map(|i| Part::of(&format!("prompt {i}"), 0.2, 0.4)).collect();
        for (part, share) in [(Part::Repair, 0.4), (Part::Valid, 0.2), (Part::Test, 0.4)] {
            let n = parts.iter().filter(|&&p| p == part).count();
            assert!((n as f64 / 4000.0 - share).abs() < 0.03, "{part:?}: {n}");
        }
        // A larger share of test texts moves none of them to another part.
        for i in (0..4000).filter(|&i| parts[i] == Part::Test) {
            assert_eq!(Part::of(&format!("prompt {i}"), 0.0, 0.5), Part::Test);
        }
        assert_eq!(Part::of("", 0.0, 0.0), Part::Repair);
    }
}
