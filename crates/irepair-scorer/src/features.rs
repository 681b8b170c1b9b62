//! From a text to the n-grams it holds, as numbers of buckets.

use serde::{Deserialize, Serialize};

/// Which n-grams are features. Written into every scorer file; another rule is another [`FeatureSettings::RULE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// Version of the rule that makes features: [`Self::RULE`] is the one computed here.
    pub rule: u32,
    /// Longest run of words.
    pub max_words: usize,
    /// Shortest run of characters.
    pub min_chars: usize,
    /// Longest run of characters.
    pub max_chars: usize,
    /// Buckets of the word n-grams: 2 to this power.
    pub word_bits: u32,
    /// Buckets of the character n-grams: 2 to this power.
    pub char_bits: u32,
}

impl FeatureSettings {
    /// The rule implemented here: lower-cased text; words are runs of letters and digits; character n-grams lie within
    /// the runs between white space, with a space put at either end, as scikit-learn's `char_wb` has them.
    pub const RULE: u32 = 1;

    /// True for settings that can be computed within a fair amount of memory.
    pub fn are_usable(&self) -> bool {
        self.rule == Self::RULE
            && (1..=4).contains(&self.max_words)
            && (1..=self.max_chars).contains(&self.min_chars)
            && self.max_chars <= 8
            && (1..=22).contains(&self.word_bits)
            && (1..=22).contains(&self.char_bits)
    }

    /// Number of buckets: words first, characters after them.
    pub fn n_buckets(&self) -> usize {
        (1 << self.word_bits) + (1 << self.char_bits)
    }

    /// The first bucket of the character n-grams.
    pub fn first_char_bucket(&self) -> u32 {
        1 << self.word_bits
    }

    /// The buckets a text falls into, ascending, each once; empty for a text without letters or digits.
    pub fn buckets(&self, text: &str) -> Vec<u32> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let mut buckets = Vec::new();
        if words.is_empty() {
            return buckets;
        }
        for n in 1..=self.max_words {
            for gram in words.windows(n) {
                let mut hash = Hash::new(n as u8);
                for word in gram {
                    hash.add(word.as_bytes());
                    hash.add(b" ");
                }
                buckets.push(hash.bucket(self.word_bits));
            }
        }
        let mut padded = String::new();
        let mut starts = Vec::new();
        for token in text.split_whitespace() {
            padded.clear();
            padded.push(' ');
            padded.push_str(token);
            padded.push(' ');
            starts.clear();
            starts.extend(padded.char_indices().map(|(at, _)| at));
            starts.push(padded.len());
            let n_chars = starts.len() - 1;
            for n in self.min_chars..=self.max_chars {
                // A token shorter than n is one gram, and none again for a longer n.
                for from in 0..=n_chars.saturating_sub(n) {
                    let to = (from + n).min(n_chars);
                    let mut hash = Hash::new(0x80);
                    hash.add(&padded.as_bytes()[starts[from]..starts[to]]);
                    buckets.push(self.first_char_bucket() + hash.bucket(self.char_bits));
                }
                if n >= n_chars {
                    break;
                }
            }
        }
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }
}

impl Default for FeatureSettings {
    /// Words and pairs of them, 2 to 5 characters: what text classification does [S]. So many buckets that the n-grams
    /// of 10^5 short texts seldom share one, and so few that a file of two numbers each stays under 13 MB [O].
    fn default() -> Self {
        Self { rule: Self::RULE, max_words: 2, min_chars: 2, max_chars: 5, word_bits: 19, char_bits: 20 }
    }
}

/// FNV-1a over 64 bits with a last mixing step: short keys, and the same number everywhere and for ever, which the
/// standard library's hasher does not promise.
struct Hash(u64);

impl Hash {
    fn new(kind: u8) -> Self {
        let mut hash = Self(0xcbf2_9ce4_8422_2325);
        hash.add(&[kind]);
        hash
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn bucket(&self, bits: u32) -> u32 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (64 - bits)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_are_counted_as_by_hand() {
        let settings = FeatureSettings::default();
        // Words: a, bc, "a bc". Characters of " a ": 2-grams 2, 3-gram 1; of " bc ": 3, 2, 1.
        assert_eq!(settings.buckets("A bc").len(), 3 + 3 + 6);
        assert_eq!(settings.buckets("A bc"), settings.buckets("a  BC"));
        // A text said twice has one feature more: the pair across the seam.
        assert_eq!(settings.buckets("a bc a bc").len(), 3 + 3 + 6 + 1);
        for nothing in ["", " ", "!?", "--- ..."] {
            assert!(settings.buckets(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn words_come_first_and_every_bucket_exists() {
        let settings = FeatureSettings { word_bits: 3, char_bits: 4, ..FeatureSettings::default() };
        let buckets = settings.buckets("the mill by the river, größer 東京 ☃ it's");
        assert!(buckets.iter().all(|&b| (b as usize) < settings.n_buckets()));
        assert!(buckets.is_sorted_by(|a, b| a < b));
        let n_words = buckets.iter().filter(|&&b| b < settings.first_char_bucket()).count();
        assert!(n_words > 0 && n_words < buckets.len());
    }

    #[test]
    fn the_published_buckets_do_not_change() {
        // Recorded once: a change here makes every stored scorer mean something else.
        assert_eq!(FeatureSettings::default().buckets("a"), RECORDED);
    }

    const RECORDED: [u32; 4] = [491_141, 709_337, 853_507, 1_283_033];
}
