//! The tokenizers library behind a wall: files it would panic over are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use irepair_core::fs::read_to_string;
use irepair_core::weights::not_json;

use crate::Result;
use crate::added::bad;

/// Reads a `tokenizer.json`, whatever its model.
///
/// # Errors
/// `File`, and `BadTokenizer` with what lies there instead or what the library says.
pub fn read_tokenizer(path: &Path) -> Result<tokenizers::Tokenizer> {
    let text = read_to_string(path)?;
    // The library's reader panics over some texts that are no JSON, such as one that was cut short.
    serde_json::from_str::<serde_json::Value>(&text).map_err(|e| bad(path, not_json(&text, e)))?;
    guarded(|| tokenizers::Tokenizer::from_bytes(&text)).map_err(|why| bad(path, why))
}

/// What the library does; a panic of it, which a tokenizer file out of order brings about, is an error.
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
        let said = guarded(|| -> tokenizers::Result<()> { panic!("{}", "over") }).unwrap_err();
        assert_eq!(said, "the tokenizers library gave up: over");
    }
}
