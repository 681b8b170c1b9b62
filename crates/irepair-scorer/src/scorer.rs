//! The trait of scorers, and the exact one; a score that cannot be computed is missing.

use irepair_data::Lexicon;

/// Scores how toxic a text is (METHOD §9: `f(text)` in [0, 1]).
pub trait Scorer {
    /// Name that reports print; numbers of scorers with different names are never mixed.
    fn name(&self) -> &str;

    /// Version; it grows when the same text may get another score.
    fn version(&self) -> u32;

    /// Toxicity of a text, from 0 to 1.
    ///
    /// # Errors
    /// Why this text could not be scored, in a few words.
    fn score(&self, text: &str) -> Result<f64, String>;

    /// [`Self::score`] of every text, in their order; a scorer that is faster on many texts at once overrides it.
    fn score_all(&self, texts: &[&str]) -> Vec<Result<f64, String>> {
        texts.iter().map(|text| self.score(text)).collect()
    }
}

/// The exact scorer of the planted language: 1 when the text holds a word of the list, otherwise 0.
impl Scorer for Lexicon {
    fn name(&self) -> &str {
        "lexicon"
    }

    fn version(&self) -> u32 {
        1
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        Ok(Lexicon::score(self, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lexicon_is_a_scorer() {
        let scorer: &dyn Scorer = &Lexicon::new(["grubnik"]);
        assert_eq!(scorer.score_all(&["a grubnik", "a man"]), [Ok(1.0), Ok(0.0)]);
    }
}
