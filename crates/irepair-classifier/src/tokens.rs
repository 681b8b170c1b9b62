//! Token ids of texts, with the start and end tokens a classifier was trained with.

use std::path::Path;

use irepair_data::{byte_level, guarded, read_settled_tokenizer, train_byte_level};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::Lowercase;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use crate::Result;

/// Special tokens of a tokenizer trained here; their ids are their places.
pub(crate) const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A classifier's tokenizer: lower-casing, start and end tokens and all else as its file says, cut to the classifier's
/// positions whatever the file says.
#[derive(Debug)]
pub(crate) struct TextTokens {
    inner: Tokenizer,
    /// True when `tokenizer_config.json` sets another leading space than `tokenizer.json`.
    pub(crate) settled: bool,
}

impl TextTokens {
    /// Reads the tokenizer of a directory.
    pub(crate) fn read(dir: &Path, n_positions: usize) -> Result<Self> {
        let (inner, settled) = read_settled_tokenizer(dir)?;
        let n_ends = inner.get_post_processor().map_or(0, |ends| ends.added_tokens(false));
        if n_ends >= n_positions {
            let reason = format!("it adds {n_ends} tokens to a text, and there are {n_positions} positions");
            return Err(irepair_core::Error::unreadable(&dir.join("tokenizer.json"), reason).into());
        }
        Ok(Self { inner: cut(inner, n_positions)?, settled })
    }

    /// Trains a lower-casing byte-level BPE; the same texts give the same tokenizer. (The library's WordPiece trainer
    /// numbers its first tokens in the order of a hash map, which changes from run to run.)
    pub(crate) fn train(texts: &[&str], vocab_size: usize, n_positions: usize) -> Result<Self> {
        let mut inner = byte_level(BPE::default(), true);
        inner.with_normalizer(Some(Lowercase));
        train_byte_level(&mut inner, texts, vocab_size, &SPECIAL)?;
        let [end, start] = [(SPECIAL[3], 3), (SPECIAL[2], 2)].map(|(token, id)| (token.to_owned(), id));
        inner.with_post_processor(Some(BertProcessing::new(end, start)));
        Ok(Self { inner: cut(inner, n_positions)?, settled: false })
    }

    /// Ids of every text, on all cores.
    pub(crate) fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let encodings = guarded(|| self.inner.encode_batch_fast(texts.to_vec(), true)).map_err(failed("encode"))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Number of tokens, added ones included.
    pub(crate) fn n_tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// `tokenizer.json`.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(guarded(|| self.inner.to_string(true)).map_err(failed("write"))?)
    }
}

/// Cuts texts to `n_positions` tokens, and pads none.
fn cut(mut inner: Tokenizer, n_positions: usize) -> Result<Tokenizer> {
    let truncation = TruncationParams { max_length: n_positions, ..TruncationParams::default() };
    let set = inner.with_padding(None).with_truncation(Some(truncation)).map(drop);
    set.map_err(|e| failed("set up")(e.to_string()))?;
    Ok(inner)
}

fn failed(action: &'static str) -> impl FnOnce(String) -> irepair_data::Error {
    move |why| irepair_data::Error::Tokenize { action, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_leave_no_room_for_a_text_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let trained = TextTokens::train(&["a mill by the river"], 300, 16).unwrap();
        std::fs::write(&path, trained.to_json().unwrap()).unwrap();
        assert_eq!(TextTokens::read(dir.path(), 3).unwrap().encode(&["a mill"]).unwrap()[0].len(), 3);
        let error = TextTokens::read(dir.path(), 2).unwrap_err();
        assert!(error.to_string().ends_with("it adds 2 tokens to a text, and there are 2 positions"), "{error}");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1").unwrap();
        assert!(TextTokens::read(dir.path(), 3).unwrap_err().to_string().contains("a git-lfs pointer"));
    }
}
