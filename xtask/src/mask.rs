//! What results hold of texts where they are kept in version control: no fetched prompt, no word of the word lists.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use irepair_core::fs::read_to_string;
use irepair_report::RowResult;

use crate::error::diagnostic;
use crate::prepare::Prepared;

/// Words that are not shown, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Mask(BTreeSet<String>);

impl Prepared {
    /// The single words of the profile's word lists; none where those are not made yet.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(crate) fn mask(&self) -> Result<Mask> {
        let is_list = |path: &PathBuf| path.extension().is_some_and(|e| e == "txt") && path.exists();
        let lists = self.scorers().map(|scorer| self.scorer(&scorer.name).0).filter(is_list);
        let mut words = BTreeSet::new();
        for list in lists {
            let text = read_to_string(&list).map_err(diagnostic)?;
            words.extend(text.lines().map(|line| line.trim().to_lowercase()).filter(|word| !word.contains(' ')));
        }
        Ok(Mask(words))
    }
}

impl Mask {
    /// A result whose samples name prompts by their place, and show words of the lists by their first letter.
    pub(crate) fn of(&self, result: &RowResult) -> RowResult {
        let mut result = result.clone();
        for (i, sample) in result.samples.iter_mut().enumerate() {
            sample.prompt = format!("error prompt {}", i + 1);
            sample.before = self.text(&sample.before);
            sample.after = self.text(&sample.after);
        }
        result
    }

    fn text(&self, text: &str) -> String {
        let mut shown = String::new();
        for piece in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
            let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
            let mut letters = word.chars();
            match letters.next() {
                Some(first) if self.0.contains(&word.to_lowercase()) => {
                    shown.push(first);
                    shown.extend(letters.map(|_| '*'));
                    shown.push_str(&piece[word.len()..]);
                }
                _ => shown.push_str(piece),
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use irepair_report::Sample;

    use super::*;

    #[test]
    fn kept_samples_hold_no_prompt_and_no_listed_word_and_stay_as_they_are_when_masked_again() {
        let mask = Mask(["darn", "heck"].map(str::to_owned).into());
        let sample = Sample {
            prompt: "a fetched text".into(),
            before: "Darn, what the heck?".into(),
            after: "darned Ärger".into(),
        };
        let result = RowResult { samples: vec![sample], ..RowResult::default() };
        let kept = mask.of(&result);
        assert_eq!(kept.samples[0].prompt, "error prompt 1");
        assert_eq!(kept.samples[0].before, "D***, what the h***?");
        assert_eq!(kept.samples[0].after, "darned Ärger", "only whole words");
        assert_eq!(mask.of(&kept), kept);
    }
}
