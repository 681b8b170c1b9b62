//! The rules of docs/FILES.md for texts, through the readers that commands use.

use std::path::PathBuf;

use irepair_core::Diagnose;
use irepair_data::{
    Lexicon, MAX_LINE_BYTES, Pair, Sides, Tokenizer, read_pairs, read_prompts, read_running_text, read_texts,
    write_jsonl, write_texts,
};
use proptest::prelude::*;

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// What a reader makes of one JSONL line.
fn prompt(line: &str) -> Result<Vec<String>, String> {
    let (dir, path) = file("p.jsonl", line.as_bytes());
    read_prompts(&path).map_err(|e| e.diagnostic().to_string().replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn escapes_are_the_characters_they_stand_for() {
    assert_eq!(prompt(r#"{"prompt":"a\u0000b"}"#).unwrap(), ["a\0b"]);
    assert_eq!(prompt(r#"{"prompt":"\ud83d\ude42"}"#).unwrap(), ["🙂"]);
    assert_eq!(prompt("{\"prompt\":\"\u{202e}\u{5d0}\u{fe0f}\"}").unwrap(), ["\u{202e}\u{5d0}\u{fe0f}"]);
    // Python's `splitlines` ends a line at these; JSONL does not.
    assert_eq!(prompt("{\"prompt\":\"a\u{2028}b\u{85}c\"}").unwrap(), ["a\u{2028}b\u{85}c"]);
}

#[test]
fn half_a_surrogate_pair_is_no_json() {
    for half in [r"\ud83d", r"\ude42", r"\ud83d\u0041", r"\ud83d\ud83d"] {
        let said = prompt(&format!(r#"{{"prompt":"{half}"}}"#)).unwrap_err();
        assert!(said.starts_with("error: line is not JSON\n   at: p.jsonl, line 1\n want: one JSON object"), "{said}");
    }
    assert!(prompt("{\"prompt\":\"a\0b\"}").unwrap_err().starts_with("error: line is not JSON"));
}

#[test]
fn a_mark_is_taken_off_once_and_only_at_the_start() {
    assert_eq!(prompt("\u{feff}{\"prompt\":\"\u{feff}a\"}\r\n").unwrap(), ["\u{feff}a"]);
    let said = prompt("{\"prompt\":\"a\"}\n\u{feff}{\"prompt\":\"b\"}\n").unwrap_err();
    assert!(said.contains("p.jsonl, line 2"), "{said}");
}

#[test]
fn line_ends_are_lf_and_cr_lf() {
    let (_dir, path) = file("t.txt", b"one\r\n\r\n two\0\rthree\n<|endoftext|>\r\nfour");
    assert_eq!(read_texts(&path).unwrap(), ["one\n\n two\0\rthree", "four"]);
    let (_dir, path) = file("w.txt", "größer\r\nzorbly\r\n".as_bytes());
    assert!(Lexicon::read(&path).unwrap().is_toxic("GRÖSSER, GRÖßER"));
}

#[test]
fn other_encodings_and_nothing_at_all_are_refused() {
    let utf16 = [0xff, 0xfe, b'{', 0];
    for (bytes, what) in
        [(&utf16[..], "line is not UTF-8"), (b"", "data file is empty"), (b"\xef\xbb\xbf", "file holds no texts")]
    {
        let (_dir, path) = file("t.txt", bytes);
        assert_eq!(read_texts(&path).unwrap_err().to_string(), what);
        assert_eq!(read_running_text(&path).unwrap_err().to_string(), what);
    }
}

#[test]
fn a_line_of_ten_megabytes_is_read_and_an_endless_one_refused() {
    let long = "🙂".repeat(2_500_000);
    let (_dir, path) = file("p.jsonl", format!("{{\"prompt\":\"{long}\"}}").as_bytes());
    assert_eq!(read_prompts(&path).unwrap(), [long]);
    let (_dir, path) = file("p.jsonl", &vec![b'['; MAX_LINE_BYTES + 1]);
    assert_eq!(read_prompts(&path).unwrap_err().to_string(), "line is longer than 16777216 bytes");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let said = prompt(&"[".repeat(1_000_000)).unwrap_err();
    assert!(said.contains("recursion limit exceeded"), "{said}");
    let said = prompt(&"{\"prompt\":".repeat(100_000)).unwrap_err();
    assert!(said.contains("recursion limit exceeded"), "{said}");
}

#[test]
fn every_text_has_tokens_and_comes_back_from_them() {
    let tokenizer = Tokenizer::train_bpe(&["the mill by the river"], 280).unwrap();
    for text in ["\0", "a\r\nb", "\u{202e}שלום", "🙂‍↔️\u{feff}", "\u{85}\u{2028}\u{10ffff}"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.is_empty() && tokenizer.decode(&ids).unwrap() == text, "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_pair_is_written_and_read_the_same(prompt in any::<String>(), chosen in any::<String>(), rejected in any::<String>()) {
        let (_dir, path) = file("p.jsonl", b"");
        let pairs = vec![Pair { prompt, chosen, rejected }; 2];
        write_jsonl(&path, &pairs).unwrap();
        prop_assert_eq!(read_pairs(&path, Sides::Both).unwrap(), pairs);
    }

    #[test]
    fn any_document_of_printable_characters_is_written_and_read_the_same(text in "[^\\s\u{feff}](\\PC|\n|\0){0,40}[^\\s]") {
        let (_dir, path) = file("t.txt", b"");
        write_texts(&path, [&text, &text]).unwrap();
        prop_assert_eq!(read_texts(&path).unwrap(), [text.clone(), text]);
    }
}
