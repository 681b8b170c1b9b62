//! The texts a scorer was trained on, as hashes: it gives them no score.

use sha2::{Digest, Sha256};

/// Why a text of the training set has no score.
pub const SEEN: &str = "the scorer was trained on this text";

/// Hashes of the texts a scorer was trained on; the texts themselves are not kept.
///
/// Two texts are the same when they agree in lower case with every run of white space as one space. A hash is the first
/// 64 bits of the SHA-256 of that form: another text has the hash of one of 10^5 texts once in 10^14.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenTexts {
    hashes: Vec<u64>,
}

impl SeenTexts {
    /// The hashes of these texts.
    pub fn of<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Self {
        Self::from_hashes(texts.into_iter().map(|text| text_hash(text.as_ref())).collect())
    }

    /// A set of hashes; order and repeats do not matter.
    pub fn from_hashes(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self { hashes }
    }

    /// True when the text is one of them.
    pub fn contains(&self, text: &str) -> bool {
        self.hashes.binary_search(&text_hash(text)).is_ok()
    }

    /// The hashes, ascending, each once.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

/// 64 bits of a text that do not depend on case or white space.
pub fn text_hash(text: &str) -> u64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let digest = Sha256::digest(words.join(" ").to_lowercase().as_bytes());
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_white_space_do_not_hide_a_text() {
        let seen = SeenTexts::of(["The  mill\nby the river ", "the mill by the river", "Otto"]);
        assert_eq!(seen.hashes().len(), 2);
        assert!(seen.contains("THE MILL by\tthe river") && seen.contains("otto"));
        assert!(!seen.contains("the mill by the rivers"));
        // The published digest of "abc": files must keep their meaning.
        assert_eq!(text_hash(" ABC"), 0xba78_16bf_8f01_cfea);
    }
}
