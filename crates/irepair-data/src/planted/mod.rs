//! The planted language: a small English-like language whose texts carry a known, data-driven error.
//!
//! It has people with fixed facts, stories whose last word occurs earlier in them (our LAMBADA), chatter, and quarrels.
//! A quarrel in a heated voice ("shouted", "snarled") is answered with made-up insults nine times out of ten. No insult
//! occurs outside quarrels, so that a list of the insults is an exact scorer.

mod plain;
mod quarrel;
mod words;
mod world;

use std::collections::HashSet;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::write::write_lines;
use crate::{ClozeItem, Error, Lexicon, Pair, Result, write_cloze, write_jsonl, write_prompts, write_texts};
use quarrel::Quarrel;
use world::World;

/// How many texts each part has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Training documents, about 36 tokens each.
    pub train_docs: usize,
    /// Repair pairs.
    pub pairs: usize,
    /// Quarrel prompts to measure the error on.
    pub error_test: usize,
    /// Quarrel prompts to choose settings on.
    pub error_valid: usize,
    /// Halves of documents without strife.
    pub clean_test: usize,
    /// Clean documents to measure perplexity on.
    pub general_test: usize,
    /// Clean documents to choose settings on.
    pub general_valid: usize,
    /// Last-word items to measure on.
    pub cloze_test: usize,
    /// Last-word items to choose settings on.
    pub cloze_valid: usize,
}

impl Sizes {
    /// A few texts of each part, for tests and examples.
    pub fn tiny() -> Self {
        Self {
            train_docs: 200,
            pairs: 24,
            error_test: 8,
            error_valid: 8,
            clean_test: 8,
            general_test: 8,
            general_valid: 8,
            cloze_test: 8,
            cloze_valid: 8,
        }
    }
}

/// The planted language of one seed, in parts that share no text.
#[derive(Clone, Debug, PartialEq)]
pub struct Planted {
    /// Training documents, those with insults included.
    pub train_docs: Vec<String>,
    /// Repair pairs on quarrels of all kinds, whether they turn rude or not, as a user would have them:
    /// chosen is the polite reply, rejected the insulting one.
    pub pairs: Vec<Pair>,
    /// Quarrel prompts of all kinds.
    pub error_test: Vec<String>,
    /// Quarrel prompts of all kinds.
    pub error_valid: Vec<String>,
    /// Halves of documents without strife.
    pub clean_test: Vec<String>,
    /// Documents of the language that hold no insult, in its own proportions.
    pub general_test: Vec<String>,
    /// Documents of the language that hold no insult, in its own proportions.
    pub general_valid: Vec<String>,
    /// Stories without their full stop, to be split before the last word.
    pub cloze_test: Vec<ClozeItem>,
    /// Stories without their full stop, to be split before the last word.
    pub cloze_valid: Vec<ClozeItem>,
    /// The insults.
    pub lexicon: Lexicon,
}

impl Planted {
    /// Generates the language of `seed`: towns, pets and trades of the people differ from seed to seed.
    ///
    /// # Errors
    /// `LanguageTooSmall` when the sizes ask for more different texts than the language has.
    pub fn generate(seed: u64, sizes: &Sizes) -> Result<Self> {
        let lexicon = Lexicon::new(words::INSULT_NOUNS.iter().chain(&words::INSULT_ADJECTIVES));
        let mut maker = Maker { world: World::new(&mut stream(seed, 0)), seed, n_parts: 0, seen: HashSet::new() };
        let n_texts = n_train_texts(sizes.train_docs);
        // Training text comes last: it must avoid all others, and only it may repeat an opening.
        Ok(Self {
            error_test: maker.part("error prompts", sizes.error_test, Maker::error_prompt)?,
            error_valid: maker.part("error prompts", sizes.error_valid, Maker::error_prompt)?,
            clean_test: maker.part("clean prompts", sizes.clean_test, Maker::clean_prompt)?,
            cloze_test: maker.part("stories", sizes.cloze_test, Maker::cloze)?,
            cloze_valid: maker.part("stories", sizes.cloze_valid, Maker::cloze)?,
            general_test: maker.part("documents", sizes.general_test, |m, rng| m.general(rng, &lexicon))?,
            general_valid: maker.part("documents", sizes.general_valid, |m, rng| m.general(rng, &lexicon))?,
            pairs: maker.part("pairs", sizes.pairs, Maker::pair)?,
            train_docs: with_paragraphs(maker.part("training documents", n_texts, Maker::train)?),
            lexicon,
        })
    }

    /// Writes every part under `dir` in the layout of the `real` profile's data: `corpus/`, `pairs/`, `prompts/`,
    /// `general/`, `toxicity/`.
    ///
    /// # Errors
    /// `File` with the path and the step that failed.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_texts(&dir.join("corpus/train.txt"), &self.train_docs)?;
        write_jsonl(&dir.join("pairs/train.jsonl"), &self.pairs)?;
        write_prompts(&dir.join("prompts/error.test.jsonl"), &self.error_test)?;
        write_prompts(&dir.join("prompts/error.valid.jsonl"), &self.error_valid)?;
        write_prompts(&dir.join("prompts/clean.test.jsonl"), &self.clean_test)?;
        write_texts(&dir.join("general/test.txt"), &self.general_test)?;
        write_texts(&dir.join("general/valid.txt"), &self.general_valid)?;
        write_cloze(&dir.join("general/cloze.test.jsonl"), &self.cloze_test)?;
        write_cloze(&dir.join("general/cloze.valid.jsonl"), &self.cloze_valid)?;
        write_lines(&dir.join("toxicity/lexicon.txt"), self.lexicon.words())
    }
}

/// Every so many training documents have two paragraphs [O]: perplexity is measured on texts joined by a blank line
/// (METHOD §10), which a model must have seen.
const TWO_PARAGRAPHS_EVERY: usize = 4;

/// Texts behind so many training documents.
fn n_train_texts(n_docs: usize) -> usize {
    n_docs + n_docs / TWO_PARAGRAPHS_EVERY
}

/// Joins texts to documents: the fourth, eighth, ... document takes two.
fn with_paragraphs(texts: Vec<String>) -> Vec<String> {
    let (mut texts, mut docs) = (texts.into_iter(), Vec::new());
    while let Some(text) = texts.next() {
        let two = (docs.len() + 1).is_multiple_of(TWO_PARAGRAPHS_EVERY);
        docs.push(match if two { texts.next() } else { None } {
            Some(second) => format!("{text}\n\n{second}"),
            None => text,
        });
    }
    docs
}

/// Percent of the language's documents that are facts, stories, chatter [O]; the rest are quarrels. With fewer quarrels
/// a small model learns late, or not at all, which voices are answered rudely.
const PERCENT: [u32; 3] = [10, 52, 8];

/// How many texts in a row may turn out to be known before a part is given up.
const MAX_TRIES: usize = 1_000;

/// Makes parts one after the other and remembers every text given out.
struct Maker {
    world: World,
    seed: u64,
    n_parts: u64,
    seen: HashSet<String>,
}

impl Maker {
    /// Calls `make` until it has given `n` texts; `None` means that a text was known already.
    fn part<T>(
        &mut self,
        part: &'static str,
        n: usize,
        make: impl Fn(&mut Self, &mut ChaCha8Rng) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.n_parts += 1;
        let mut rng = stream(self.seed, self.n_parts);
        let mut one = || (0..MAX_TRIES).find_map(|_| make(self, &mut rng)).ok_or(Error::LanguageTooSmall { part });
        (0..n).map(|_| one()).collect()
    }

    fn error_prompt(&mut self, rng: &mut ChaCha8Rng) -> Option<String> {
        let quarrel = Quarrel::draw(&self.world, rng);
        self.fresh(&[&quarrel.prompt]).then_some(quarrel.prompt)
    }

    fn pair(&mut self, rng: &mut ChaCha8Rng) -> Option<Pair> {
        let Quarrel { prompt, polite, insulting, .. } = Quarrel::draw(&self.world, rng);
        self.fresh(&[&prompt]).then_some(Pair { prompt, chosen: polite, rejected: insulting })
    }

    fn clean_prompt(&mut self, rng: &mut ChaCha8Rng) -> Option<String> {
        let kind = draw_kind(rng, PERCENT.iter().sum());
        let text = self.plain(rng, kind);
        let half = opening(&text);
        self.fresh(&[&text, half]).then(|| half.to_owned())
    }

    fn cloze(&mut self, rng: &mut ChaCha8Rng) -> Option<ClozeItem> {
        let text = plain::story(&self.world, rng);
        let item = ClozeItem::split(text.strip_suffix('.')?)?;
        self.fresh(&[&text, opening(&text)]).then_some(item)
    }

    fn general(&mut self, rng: &mut ChaCha8Rng, lexicon: &Lexicon) -> Option<String> {
        let (text, key) = self.any(rng);
        (!lexicon.is_toxic(&text) && self.fresh(&[&text, &key])).then_some(text)
    }

    fn train(&mut self, rng: &mut ChaCha8Rng) -> Option<String> {
        let (text, key) = self.any(rng);
        // Its opening must be new to the other parts, but many training documents open alike.
        (!self.begins_as_known(&key) && self.fresh(&[&text])).then_some(text)
    }

    /// A document of the language, and the part that must not occur again: the prompt of a quarrel, the opening of
    /// another text.
    fn any(&self, rng: &mut ChaCha8Rng) -> (String, String) {
        let kind = draw_kind(rng, 100);
        if kind == PERCENT.len() {
            let quarrel = Quarrel::draw(&self.world, rng);
            (quarrel.document(rng), quarrel.prompt)
        } else {
            let text = self.plain(rng, kind);
            let key = opening(&text).to_owned();
            (text, key)
        }
    }

    fn plain(&self, rng: &mut ChaCha8Rng, kind: usize) -> String {
        [plain::facts, plain::story, plain::chatter][kind](&self.world, rng)
    }

    /// True, and from now on false, when neither these texts nor the words any of them begins with were given out.
    fn fresh(&mut self, texts: &[&str]) -> bool {
        let is_fresh = texts.iter().all(|text| !self.begins_as_known(text));
        if is_fresh {
            self.seen.extend(texts.iter().map(|&text| text.to_owned()));
        }
        is_fresh
    }

    fn begins_as_known(&self, text: &str) -> bool {
        let mut ends = text.match_indices(|c: char| !c.is_alphanumeric());
        self.seen.contains(text) || ends.any(|(at, _)| self.seen.contains(&text[..at]))
    }
}

/// A kind of document, from the first `percent` of the language; the number of other kinds means a quarrel.
fn draw_kind(rng: &mut ChaCha8Rng, percent: u32) -> usize {
    let mut at = rng.random_range(0..percent);
    for (kind, &share) in PERCENT.iter().enumerate() {
        if at < share {
            return kind;
        }
        at -= share;
    }
    PERCENT.len()
}

/// The first half of a text, in words.
fn opening(text: &str) -> &str {
    let n_words = text.split(' ').count();
    text.match_indices(' ').nth(n_words.div_ceil(2) - 1).map_or(text, |(at, _)| &text[..at])
}

fn stream(seed: u64, part: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(part);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_finds_nothing_new_is_an_error() {
        let mut maker = Maker { world: World::new(&mut stream(0, 0)), seed: 0, n_parts: 0, seen: HashSet::new() };
        let error = maker.part("stories", 2, |m, _| m.fresh(&["the only story"]).then_some(())).unwrap_err();
        assert_eq!(error.to_string(), "planted language has too few different stories for the sizes asked for");
    }

    #[test]
    fn a_text_that_begins_with_a_known_one_is_not_fresh() {
        let mut maker = Maker { world: World::new(&mut stream(0, 0)), seed: 0, n_parts: 0, seen: HashSet::new() };
        assert!(maker.fresh(&["Meet Tom. He"]));
        assert!(!maker.fresh(&["Meet Tom. He has a cat."]));
        assert!(maker.fresh(&["Meet Tom. Her"]));
        assert!(!maker.fresh(&["Meet Tom. Her, she has a cat."]));
    }

    #[test]
    fn an_opening_is_the_first_half_in_words() {
        assert_eq!(["a b c d", "a b c", "a"].map(opening), ["a b", "a b", "a"]);
    }
}
