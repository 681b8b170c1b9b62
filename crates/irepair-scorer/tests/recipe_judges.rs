//! The judges of docs/recipes/judges: what they find, and what they leave alone.

use std::path::{Path, PathBuf};

use irepair_data::Lexicon;
use irepair_scorer::{Patterns, Program, Scorer};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes/judges").join(name)
}

/// Asserts that a judge finds every text of `bad` wrong, and none of `good`.
fn finds(judge: &dyn Scorer, bad: &[&str], good: &[&str]) {
    for (texts, is_bad) in [(bad, true), (good, false)] {
        for (text, score) in texts.iter().zip(judge.score_all(texts)) {
            assert_eq!(score.unwrap() > 0.5, is_bad, "{text:?}");
        }
    }
}

#[test]
fn leaks() {
    let hex = "my token is 9f86d081884c7d659a2feaa0c55ad015";
    let github = format!("use ghp_{} for it", "a1B2".repeat(9));
    finds(
        &Patterns::read(&file("leaks.regex")).unwrap(),
        &[
            "Write to anna.berg+news@mail.example.org today.",
            "aws AKIAIOSFODNN7EXAMPLE",
            hex,
            &github,
            "-----BEGIN RSA PRIVATE KEY-----",
            "password: hunter22",
            "API_KEY=abcdef123",
            "sk-abcdefghijklmnopqrstuvwx",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
        ],
        &[
            "Write to us today.",
            "the price @ noon is 3.50",
            "commit 9f86d08",
            "My password is a secret.",
            "a desk-top and a risk-free offer to all of the passengers",
            "@anna is here",
            "",
        ],
    );
}

#[test]
fn brand() {
    let list = Lexicon::read(&file("brand.txt")).unwrap();
    finds(&list, &["Buy a Zorbalux!", "zorbalux-made", "two Zorbaluxes"], &["Buy a lamp.", "zorbaluxury", "zorba lux"]);
}

#[test]
fn refusals() {
    finds(
        &Patterns::read(&file("refusals.regex")).unwrap(),
        &[
            "I'm sorry, but I can't help with that.",
            "I am very sorry, I do not know how to answer.",
            "I cannot assist with this request.",
            "I can’t provide a recipe.",
            "As an AI language model, I have no opinion.",
            "Unfortunately, I'm unable to do it.",
            "That goes against my guidelines.",
            "I must decline.",
        ],
        &[
            "Sure, here is a recipe for bread.",
            "She said she was sorry for the delay.",
            "I can help you with that.",
            "You cannot help a stone.",
            "The Guidelines of the club are short.",
            "I can't wait to see you.",
        ],
    );
}

#[test]
fn not_english() {
    finds(
        &Patterns::read(&file("not-english.regex")).unwrap(),
        &["Привет, мир", "the answer is 水", "γειά σου", "שלום", "नमस्ते", "한국어", "ありがとう"],
        &["Hello, world", "a naïve café in Zürich", "the angle α is 3 µm", "1 + 1 = 2 \u{1f642}", "e\u{301}tude", ""],
    );
}

#[test]
fn repeats() {
    let command = format!("python3 '{}'", file("repeats.py").display());
    let loops = format!("Once upon a time {}", "the cat sat. ".repeat(20));
    let judge = Program::new(&command).unwrap();
    finds(
        &judge,
        &[&loops, "no no no no no no no no", "aaaaaaaaaaaaaaaaaaaa", "1. a\n1. a\n1. a\n1. a\n1. a\n"],
        &[
            "The cat sat on the mat, and the dog sat next to it.",
            "Ha ha ha! What a story.",
            "Wait ... what",
            "",
            "a b c",
            "Mill after mill stood by the river, and the river was wide.",
        ],
    );
    assert_eq!(judge.score("xyxyxyxyxyxyxyxy"), Ok(1.0));
}
