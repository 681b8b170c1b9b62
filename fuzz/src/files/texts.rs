//! Plain text files: documents, rows, word lists; gzip if the first bytes are those of gzip.

use std::path::Path;

use irepair_data::{Lexicon, read_running_text, read_texts, wikitext_detokenized, wikitext_words, write_texts};

use super::shared::{put, said};

/// Documents read back equal after writing, except for carriage returns and byte-order marks, which the reader removes.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let (path, again) = (put(dir, "fuzzed.txt", data), dir.join("again.txt"));
    match read_texts(&path) {
        Ok(texts) => {
            if !texts.iter().any(|text| text.contains(['\r', '\u{feff}'])) {
                write_texts(&again, &texts).expect("no document that was read holds a separator");
                assert_eq!(read_texts(&again).expect("just written"), texts);
            }
        }
        Err(error) => return said(&error),
    }
    match read_running_text(&path) {
        Ok(text) => text.pages().iter().for_each(|page| {
            wikitext_detokenized(page);
            assert!(wikitext_words(page) >= 1);
        }),
        Err(error) => said(&error),
    }
    match Lexicon::read(&path) {
        Ok(lexicon) => assert!(lexicon.words().len() > 0),
        Err(error) => said(&error),
    }
}
