//! What the planted language promises: parts that share nothing, an exact lexicon, texts of the right size and share.

use std::collections::{BTreeSet, HashSet};

use irepair_data::{Lexicon, Planted, Sides, Sizes, Tokenizer, read_cloze, read_pairs, read_prompts, read_texts};

/// Those of profile `planted`.
fn full() -> Sizes {
    Sizes {
        train_docs: 30_000,
        pairs: 2_112,
        error_test: 200,
        error_valid: 100,
        clean_test: 100,
        general_test: 300,
        general_valid: 100,
        cloze_test: 300,
        cloze_valid: 100,
    }
}

fn sizes() -> Sizes {
    Sizes { train_docs: 4_000, pairs: 400, ..full() }
}

#[test]
fn the_same_seed_gives_the_same_language_and_another_seed_another() {
    let planted = Planted::generate(3, &Sizes::tiny()).unwrap();
    assert_eq!(planted, Planted::generate(3, &Sizes::tiny()).unwrap());
    assert_ne!(planted.train_docs, Planted::generate(4, &Sizes::tiny()).unwrap().train_docs);
}

#[test]
fn no_text_occurs_in_two_parts() {
    let p = Planted::generate(0, &sizes()).unwrap();
    let mut heads: Vec<&String> = Vec::new();
    heads.extend(&p.error_test);
    heads.extend(&p.error_valid);
    heads.extend(&p.clean_test);
    heads.extend(p.pairs.iter().map(|pair| &pair.prompt));
    let cloze: Vec<String> = p.cloze_test.iter().chain(&p.cloze_valid).map(|item| item.text()).collect();
    let docs: Vec<&String> = p.general_test.iter().chain(&p.general_valid).chain(&p.train_docs).collect();

    let whole: HashSet<&str> =
        heads.iter().chain(&docs).map(|text| text.as_str()).chain(cloze.iter().map(String::as_str)).collect();
    assert_eq!(whole.len(), heads.len() + cloze.len() + docs.len());
    // The words of no prompt begin a document of another part either, nor do those of a last-word item.
    let begins =
        |text: &str, doc: &str| doc.strip_prefix(text).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    for doc in &docs {
        assert_eq!(heads.iter().find(|head| begins(head, doc)), None, "{doc}");
        assert_eq!(cloze.iter().find(|text| begins(text, doc)), None, "{doc}");
    }
}

#[test]
fn insults_occur_in_rude_replies_alone() {
    let p = Planted::generate(0, &sizes()).unwrap();
    let clean = p.general_test.iter().chain(&p.general_valid).chain(&p.error_test).chain(&p.error_valid);
    assert!(clean.chain(&p.clean_test).all(|text| !p.lexicon.is_toxic(text)));
    for pair in &p.pairs {
        assert!(!p.lexicon.is_toxic(&pair.prompt) && !p.lexicon.is_toxic(&pair.chosen));
        let n_insults = pair.rejected.split(|c: char| !c.is_alphabetic()).filter(|w| p.lexicon.is_toxic(w)).count();
        assert!((2..=4).contains(&n_insults), "{}", pair.rejected);
    }
    let texts: Vec<&str> = p.train_docs.iter().flat_map(|doc| doc.split("\n\n")).collect();
    let toxic: Vec<&&str> = texts.iter().filter(|text| p.lexicon.is_toxic(text)).collect();
    assert!(toxic.iter().all(|text| !p.lexicon.is_toxic(text.split_once(':').unwrap().0)));
    let n_quarrels = texts.iter().filter(|text| text.contains(" to ") && text.contains(':')).count();
    let share = |n: usize, of: usize| n as f64 / of as f64;
    assert!((0.27..0.33).contains(&share(n_quarrels, texts.len())));
    assert!((0.35..0.55).contains(&share(toxic.len(), n_quarrels)));
}

#[test]
fn prompts_and_replies_fit_the_lengths_of_the_evaluation() {
    let p = Planted::generate(0, &full()).unwrap();
    let tokenizer = Tokenizer::train_bpe(&p.train_docs, 1152).unwrap();
    let longest = |texts: &[&str]| tokenizer.encode_batch(texts).unwrap().iter().map(Vec::len).max().unwrap();
    let prompts: Vec<&str> = p.error_test.iter().chain(&p.clean_test).map(String::as_str).collect();
    assert!(longest(&prompts) <= 32);
    let replies: Vec<&str> = p.pairs.iter().flat_map(|pair| [pair.chosen.as_str(), &pair.rejected]).collect();
    assert!(longest(&replies) <= 20);
    // A paragraph fits a window of 64; a document of two may be cut.
    let docs: Vec<&str> = p.train_docs.iter().flat_map(|doc| doc.split("\n\n")).collect();
    assert!(longest(&docs) <= 62);
    let words: BTreeSet<&str> = docs.iter().flat_map(|doc| doc.split(|c: char| !c.is_alphabetic())).collect();
    assert!((220..=420).contains(&words.len()), "{} word types", words.len());
}

#[test]
fn the_last_word_of_a_story_occurs_before() {
    let p = Planted::generate(0, &sizes()).unwrap();
    for item in p.cloze_test.iter().chain(&p.cloze_valid) {
        assert!(item.context.contains(item.target.as_str()), "{}", item.text());
    }
}

#[test]
fn the_written_files_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let p = Planted::generate(0, &Sizes::tiny()).unwrap();
    p.write(dir.path()).unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(read_texts(&at("corpus/train.txt")).unwrap(), p.train_docs);
    assert_eq!(read_pairs(&at("pairs/train.jsonl"), Sides::Both).unwrap(), p.pairs);
    assert_eq!(read_prompts(&at("prompts/error.test.jsonl")).unwrap(), p.error_test);
    assert_eq!(read_prompts(&at("prompts/error.valid.jsonl")).unwrap(), p.error_valid);
    assert_eq!(read_prompts(&at("prompts/clean.test.jsonl")).unwrap(), p.clean_test);
    assert_eq!(read_texts(&at("general/test.txt")).unwrap(), p.general_test);
    assert_eq!(read_texts(&at("general/valid.txt")).unwrap(), p.general_valid);
    assert_eq!(read_cloze(&at("general/cloze.test.jsonl")).unwrap(), p.cloze_test);
    assert_eq!(read_cloze(&at("general/cloze.valid.jsonl")).unwrap(), p.cloze_valid);
    assert_eq!(Lexicon::read(&at("toxicity/lexicon.txt")).unwrap(), p.lexicon);
}
