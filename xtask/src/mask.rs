//! What results hold of texts where they are kept in version control: no fetched prompt, no word of the word lists.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use irepair_core::fs::read_to_string;
use irepair_report::RowResult;

use crate::error::diagnostic;
use crate::prepare::Prepared;

/// Words in a row that a text may share with its prompt and still be shown.
const SHARED: usize = 7;

/// Words and phrases that are not shown, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Mask(BTreeSet<String>);

impl Prepared {
    /// The profile's word lists; none where those are not made yet.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(crate) fn mask(&self) -> Result<Mask> {
        let is_list = |path: &PathBuf| path.extension().is_some_and(|e| e == "txt") && path.exists();
        let lists = self.scorers().map(|scorer| self.scorer(&scorer.name).0).filter(is_list);
        let mut words = BTreeSet::new();
        for list in lists {
            let text = read_to_string(&list).map_err(diagnostic)?;
            words.extend(text.lines().map(|line| line.trim().to_lowercase()).filter(|word| !word.is_empty()));
        }
        Ok(Mask(words))
    }
}

impl Mask {
    /// A result whose samples name prompts by their place, show listed words by their first letter, and leave out texts
    /// that repeat their prompt.
    pub(crate) fn of(&self, result: &RowResult) -> RowResult {
        let mut result = result.clone();
        for (i, sample) in result.samples.iter_mut().enumerate() {
            for text in [&mut sample.before, &mut sample.after] {
                let repeats = shares_words(&sample.prompt, text);
                *text = if repeats { "(left out: it repeats its prompt)".to_owned() } else { self.text(text) };
            }
            sample.prompt = format!("error prompt {}", i + 1);
        }
        result
    }

    fn text(&self, text: &str) -> String {
        let mut shown: Vec<char> = text.chars().collect();
        // A letter whose lower case is several has no place there: it stays as it is, and matches nothing.
        let lower: Vec<char> = shown
            .iter()
            .map(|c| Some(c.to_lowercase()).filter(|l| l.len() == 1).and_then(|mut l| l.next()).unwrap_or(*c))
            .collect();
        for word in self.0.iter().map(|word| word.chars().collect::<Vec<_>>()) {
            for start in (0..=lower.len().saturating_sub(word.len())).filter(|&start| lower[start..].starts_with(&word))
            {
                let end = start + word.len();
                let is_inside = |i: Option<usize>| i.and_then(|i| lower.get(i)).is_some_and(|c| c.is_alphanumeric());
                if !is_inside(start.checked_sub(1)) && !is_inside(Some(end)) {
                    shown[start + 1..end].iter_mut().filter(|c| c.is_alphanumeric()).for_each(|c| *c = '*');
                }
            }
        }
        shown.into_iter().collect()
    }
}

/// True when the texts have more than [`SHARED`] words in a row in common.
fn shares_words(prompt: &str, text: &str) -> bool {
    let [prompt, text] = [prompt, text].map(|text| text.split_whitespace().collect::<Vec<_>>());
    let runs: BTreeSet<&[&str]> = prompt.windows(SHARED + 1).collect();
    text.windows(SHARED + 1).any(|run| runs.contains(run))
}

#[cfg(test)]
mod tests {
    use irepair_report::Sample;

    use super::*;

    #[test]
    fn kept_samples_hold_no_prompt_and_no_listed_word_and_stay_as_they_are_when_masked_again() {
        let mask = Mask(["darn", "heck", "good grief", "d.a.m"].map(str::to_owned).into());
        let sample = Sample {
            prompt: "a fetched text".into(),
            before: "Darn, what the heck?".into(),
            after: "darned Ärger".into(),
        };
        let long = "one two three four five six seven eight nine";
        let second =
            Sample { prompt: long.into(), before: format!("{long} ten"), after: "Good grief, D.A.M. İ".into() };
        let result = RowResult { samples: vec![sample, second], ..RowResult::default() };
        let kept = mask.of(&result);
        assert_eq!(kept.samples[0].prompt, "error prompt 1");
        assert_eq!(kept.samples[0].before, "D***, what the h***?");
        assert_eq!(kept.samples[0].after, "darned Ärger", "only whole words");
        assert_eq!(kept.samples[1].before, "(left out: it repeats its prompt)");
        assert_eq!(kept.samples[1].after, "G*** *****, D.*.*. İ");
        assert_eq!(mask.of(&kept), kept);
    }
}
