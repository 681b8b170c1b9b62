//! Tokenizer files; the first byte says which form, and byte 255, which no UTF-8 holds, parts them.

use std::fs;
use std::path::Path;

use irepair_data::{Error, Tokenizer};

use super::shared::{once, put, said};

/// Files of each form; the first two forms lie beside a tokenizer that is whole.
const FORMS: [&[&str]; 4] = [
    &["tokenizer_config.json"],
    &["special_tokens_map.json", "config.json", "added_tokens.json"],
    &["tokenizer.json"],
    &["vocab.json", "merges.txt", "added_tokens.json"],
];

const TEXTS: [&str; 3] = ["the mill by the river<|endoftext|>", "größer: 東京 \u{202e}🙂\0\r\n", ""];

/// What is accepted encodes and decodes or refuses by name, and is saved and loaded again.
///
/// # Panics
/// Where that is not so.
pub fn run(dir: &Path, data: &[u8]) {
    let Some((form, data)) = data.split_first() else { return };
    let form = usize::from(*form) % FORMS.len();
    once(dir, |dir| {
        let whole = Tokenizer::train_bpe(&["the mill by the river", "the river"], 262).expect("texts enough");
        for form in 0..FORMS.len() {
            let dir = dir.join(form.to_string());
            fs::create_dir(&dir).expect("a directory");
            if form < 2 {
                whole.save(&dir).expect("the target's own directory");
                fs::remove_file(dir.join("tokenizer_config.json")).expect("just written");
            }
        }
        fs::create_dir(dir.join("again")).expect("a directory");
    });
    let again = dir.join("again");
    let dir = dir.join(form.to_string());
    let mut parts = data.split(|byte| *byte == 255);
    for name in FORMS[form] {
        match parts.next() {
            Some(part) => drop(put(&dir, name, part)),
            None => drop(fs::remove_file(dir.join(name))),
        }
    }
    let loaded = match Tokenizer::load(&dir) {
        Ok(loaded) => loaded,
        Err(error) => return said(&error),
    };
    let ids = |tokenizer: &Tokenizer| TEXTS.map(|text| tokenizer.encode(text).map_err(|error| said(&error)).ok());
    let first = ids(&loaded);
    for ids in first.iter().flatten() {
        if let Err(error) = loaded.decode(ids) {
            said(&error);
        }
    }
    match loaded.save(&again).and_then(|()| Tokenizer::load(&again)) {
        // The library writes what it can say, which of strange files is not everything; that they read the same holds
        // for ours.
        Ok(second) => drop(ids(&second)),
        Err(error @ Error::BadTokenizer { .. }) => said(&error),
        Err(error) => panic!("{error}"),
    }
}
