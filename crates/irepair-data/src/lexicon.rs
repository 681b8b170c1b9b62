//! The exact scorer: a text is toxic when it holds a word of a list.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{Error, Lines, Result};

/// A list of words that make a text toxic (METHOD §9: a scorer `f(text)` in [0, 1] [O]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lexicon {
    words: BTreeSet<String>,
}

impl Lexicon {
    /// A lexicon of these words; case does not matter, blank ones are left out.
    pub fn new<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().trim().to_lowercase()).filter(|word| !word.is_empty());
        Self { words: words.collect() }
    }

    /// Reads one word a line.
    ///
    /// # Errors
    /// File and line errors, and `NoRecords` when there is no word.
    pub fn read(path: &Path) -> Result<Self> {
        let lines = Lines::open(path)?.map(|line| line.map(|(_, text)| text)).collect::<Result<Vec<_>>>()?;
        let lexicon = Self::new(lines);
        if lexicon.words.is_empty() {
            return Err(Error::NoRecords { path: path.to_owned(), wanted: "words" });
        }
        Ok(lexicon)
    }

    /// Entries that no text can hold: phrases, and words with punctuation, are no runs of letters and digits.
    pub fn n_unmatched(&self) -> usize {
        self.words.iter().filter(|word| !word.chars().all(char::is_alphanumeric)).count()
    }

    /// True when the text holds a word of the lexicon as a whole word: a run of letters and digits, whatever its case.
    pub fn is_toxic(&self, text: &str) -> bool {
        text.split(|c: char| !c.is_alphanumeric()).any(|word| self.words.contains(&word.to_lowercase()))
    }

    /// 1 when [`Self::is_toxic`], otherwise 0.
    pub fn score(&self, text: &str) -> f64 {
        f64::from(u8::from(self.is_toxic(text)))
    }

    /// The words, lower-case and sorted.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_count_whatever_their_case() {
        let lexicon = Lexicon::new(["grubnik", " Zorbly ", ""]);
        assert_eq!(lexicon.words().collect::<Vec<_>>(), ["grubnik", "zorbly"]);
        for (text, score) in [("You GRUBNIK!", 1.0), ("a zorbly-minded man", 1.0), ("two grubniks", 0.0), ("", 0.0)] {
            assert_eq!(lexicon.score(text), score, "{text}");
        }
    }

    #[test]
    fn a_list_without_words_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lexicon.txt");
        std::fs::write(&path, "\n\n").unwrap();
        assert_eq!(Lexicon::read(&path).unwrap_err().to_string(), "file holds no words");
        std::fs::write(&path, "grubnik\r\n\r\nzorbly\r\n").unwrap();
        assert_eq!(Lexicon::read(&path).unwrap().words().len(), 2);
    }

    #[test]
    fn entries_that_never_match_are_counted() {
        let lexicon = Lexicon::new(["grubnik", "awful dump", "d*mp", "größer", "4u"]);
        assert_eq!((lexicon.n_unmatched(), lexicon.words().len()), (2, 5));
        assert!(!lexicon.is_toxic("an awful dump, d*mp"));
    }
}
