//! The tokenizers library: files over which it would panic are refused, and byte-level BPEs are trained.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use irepair_core::fs::read_to_string;
use irepair_core::weights::{disguise, not_json};
use serde_json::Value;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::added::{bad, settings};
use crate::misfit::misfit;
use crate::sources::settle_prefix_space;
use crate::{Error, Result};

/// Reads a `tokenizer.json`, whatever its model.
///
/// # Errors
/// `File`, and `BadTokenizer` with what the file is instead or what the library says.
pub fn read_tokenizer(path: &Path) -> Result<tokenizers::Tokenizer> {
    let text = read_to_string(path)?;
    // The library panics over some texts that are no JSON, such as one that was cut short.
    let json = serde_json::from_str::<serde_json::Value>(&text).map_err(|e| bad(path, not_json(&text, e)))?;
    // The library's words for a part that does not fit name neither the part nor the entry.
    let why = |said: String| bad(path, misfit(&json).unwrap_or(said));
    let inner = guarded(|| tokenizers::Tokenizer::from_bytes(&text)).map_err(why)?;
    match inner.get_model() {
        ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|share| share > 0.0) => {
            let why = "model.dropout is over 0: the same text would have other tokens each time; set it to null";
            Err(bad(path, why.to_owned()))
        }
        _ => Ok(inner),
    }
}

/// Reads the `tokenizer.json` of a model directory with the leading space that transformers gives it; true when that is
/// not the one in `tokenizer.json`.
///
/// # Errors
/// Those of [`read_tokenizer`], and `BadTokenizer` when versions of transformers differ.
pub fn read_settled_tokenizer(dir: &Path) -> Result<(tokenizers::Tokenizer, bool)> {
    let mut inner = read_tokenizer(&dir.join("tokenizer.json"))?;
    let changes = settle_prefix_space(&mut inner, dir, &settings(dir)?)?;
    Ok((inner, changes))
}

/// A byte-level tokenizer of this model, as GPT-2's.
pub fn byte_level(model: BPE, add_prefix_space: bool) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, true)));
    inner.with_decoder(Some(ByteLevel::default()));
    inner
}

/// An id that two tokens of the vocabulary have: it could mean either.
pub(crate) fn id_of_two(inner: &tokenizers::Tokenizer) -> Option<u32> {
    let mut ids: Vec<u32> = inner.get_vocab(false).into_values().collect();
    ids.sort_unstable();
    ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// The older form.
pub(crate) fn from_vocab_and_merges(dir: &Path, config: &Value) -> Result<tokenizers::Tokenizer> {
    let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    if !merges.exists() {
        return Err(Error::NoTokenizer { dir: dir.to_owned() });
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // The library opens them by name, and would wait for a pipe.
    for path in [&vocab, &merges] {
        drop(irepair_core::fs::open(path)?);
    }
    let model = guarded(|| BPE::from_file(&text(&vocab), &text(&merges)).build());
    let model = model.map_err(|why| {
        let text = read_to_string(&vocab).unwrap_or_default();
        bad(&vocab, disguise(text.as_bytes()).map_or(why, str::to_owned))
    })?;
    Ok(byte_level(model, config["add_prefix_space"].as_bool().unwrap_or(false)))
}

/// Trains a byte-level BPE: `special` tokens first, then all 256 bytes, then merges. The same texts give the same
/// tokenizer; it is smaller than `vocab_size` when every word has become one token before.
///
/// # Errors
/// `Tokenize` when `vocab_size` leaves no room for the bytes, or the library refuses.
pub fn train_byte_level<S: AsRef<str> + Sync>(
    inner: &mut tokenizers::Tokenizer,
    texts: &[S],
    vocab_size: usize,
    special: &[&str],
) -> Result<()> {
    let failed = |why: String| Error::Tokenize { action: "train", why };
    let alphabet = ByteLevel::alphabet();
    let smallest = alphabet.len() + special.len();
    if vocab_size < smallest {
        return Err(failed(format!("a vocabulary of {vocab_size} is too small, at least {smallest} are needed")));
    }
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(special.iter().map(|&token| AddedToken::from(token, true)).collect())
        .build();
    let texts = texts.iter().map(|text| text.as_ref().to_owned());
    inner.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(|e| failed(e.to_string()))?;
    Ok(())
}

/// Runs the library; a panic of it, which some broken tokenizer files cause, becomes an error.
///
/// # Errors
/// What the library says, or that it failed.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("the tokenizers library gave up: {}", said.unwrap_or("no reason given")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    #[test]
    fn a_file_that_the_library_panics_over_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        Tokenizer::train_bpe(&["the mill"], 260).unwrap().save(dir.path()).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let decoder = whole.find("\"decoder\": {").unwrap();
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_tokenizer(&path).unwrap_err().to_string()
        };
        // Cut inside the decoder.
        let said = refused(&whole[..decoder + 30]);
        assert!(said.starts_with("tokenizer file cannot be used: not JSON: EOF while parsing"), "{said}");
        let said = refused(&whole.replace("\"dropout\": null", "\"dropout\": 0.1"));
        assert!(said.contains("model.dropout is over 0"), "{said}");
        std::fs::write(&path, whole.replace("\"dropout\": null", "\"dropout\": 0.0")).unwrap();
        assert!(read_tokenizer(&path).is_ok());
        let said = guarded(|| -> tokenizers::Result<()> { panic!("{}", "over") }).unwrap_err();
        assert_eq!(said, "the tokenizers library gave up: over");
    }
}
