//! A word list from labelled texts: the words that hardly any text but a toxic one holds.

use std::collections::{BTreeMap, BTreeSet};

use irepair_data::{Labeled, Lexicon};

/// Which words are listed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WordSettings {
    /// Texts of a source that must hold a word for the source to count for it.
    pub min_texts: usize,
    /// Smallest share of toxic texts among those that hold it, averaged over the sources that count.
    pub min_toxic_share: f64,
}

impl Default for WordSettings {
    fn default() -> Self {
        Self { min_texts: 20, min_toxic_share: 0.9 }
    }
}

/// The words that mark a toxic text among the labelled ones. As in [`Lexicon`], a word is a run of letters and digits.
///
/// Only sources with both kinds of text count: where all texts are toxic, every word would mark them.
///
/// # Source
/// METHOD §9 [O].
pub fn toxic_words(labels: &[Labeled], settings: WordSettings) -> Lexicon {
    let source = |label: &Labeled| label.source.clone().unwrap_or_default();
    let mut kinds: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for label in labels {
        kinds.entry(source(label)).or_default().insert(label.toxic);
    }
    // Texts and toxic texts that hold a word, by source.
    let mut held: BTreeMap<String, BTreeMap<String, (usize, usize)>> = BTreeMap::new();
    for label in labels.iter().filter(|label| kinds[&source(label)].len() == 2) {
        let words = label.text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        for word in words.map(str::to_lowercase).collect::<BTreeSet<_>>() {
            let (n, n_toxic) = held.entry(word).or_default().entry(source(label)).or_default();
            *n += 1;
            *n_toxic += usize::from(label.toxic);
        }
    }
    let marks = |sources: &BTreeMap<String, (usize, usize)>| {
        let counted = sources.values().filter(|(n, _)| *n >= settings.min_texts);
        let shares: Vec<f64> = counted.map(|&(n, n_toxic)| n_toxic as f64 / n as f64).collect();
        !shares.is_empty() && shares.iter().sum::<f64>() >= settings.min_toxic_share * shares.len() as f64
    };
    Lexicon::new(held.iter().filter(|(_, sources)| marks(sources)).map(|(word, _)| word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, toxic: bool, source: &str, n: usize) -> Vec<Labeled> {
        vec![Labeled { text: text.into(), toxic, source: Some(source.into()) }; n]
    }

    #[test]
    fn a_word_of_toxic_texts_alone_makes_the_list() {
        let labels = [
            texts("You GRUBNIK, go", true, "posts", 40),
            texts("you go home", false, "posts", 40),
            texts("rare zorbly", true, "posts", 19),
        ]
        .concat();
        let words = toxic_words(&labels, WordSettings::default());
        assert_eq!(words.words().collect::<Vec<_>>(), ["grubnik"]);
        let rarer = WordSettings { min_texts: 19, ..WordSettings::default() };
        assert_eq!(toxic_words(&labels, rarer).words().collect::<Vec<_>>(), ["grubnik", "rare", "zorbly"]);
    }

    #[test]
    fn a_source_of_toxic_texts_alone_marks_no_word() {
        let labels = [texts("white house", true, "forum", 100), texts("the house", false, "posts", 40)].concat();
        assert_eq!(toxic_words(&labels, WordSettings::default()).words().len(), 0);
        // A word is judged source by source: one large source cannot decide alone.
        let labels = [
            texts("damn fine", true, "a", 990),
            texts("fine", false, "a", 10),
            texts("damn good", false, "b", 20),
            texts("bad", true, "b", 20),
        ]
        .concat();
        assert_eq!(toxic_words(&labels, WordSettings::default()).words().collect::<Vec<_>>(), ["bad", "fine"]);
        // Nor can a source that hardly holds it.
        let few = [labels[..1000].to_vec(), texts("damn good", false, "b", 5), texts("x", true, "b", 5)].concat();
        assert_eq!(toxic_words(&few, WordSettings::default()).words().collect::<Vec<_>>(), ["damn", "fine"]);
    }
}
