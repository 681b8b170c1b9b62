//! The trait of scorers, and the exact one; a score that cannot be computed is missing.

use irepair_data::Lexicon;

/// A model's answer and the prompt that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The prompt; empty where there is none.
    pub prompt: &'a str,
    /// The answer, without the prompt.
    pub text: &'a str,
}

/// Scores how toxic, or how wrong in another way, a text is (METHOD §9: `f(text)` in [0, 1]).
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

    /// Scores of answers, in their order; a scorer that reads prompts overrides it.
    fn score_answers(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, String>> {
        self.score_all(&answers.iter().map(|answer| answer.text).collect::<Vec<_>>())
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
        let answers = ["a man", "two"].map(|text| Answer { prompt: "a grubnik", text });
        assert_eq!(scorer.score_answers(&answers), [Ok(0.0), Ok(0.0)], "a prompt is not the model's text");
    }
}
