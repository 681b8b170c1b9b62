//! Token ids of texts, with the start and end tokens a classifier was trained with.

use std::path::Path;

use irepair_data::guarded;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, PostProcessor, Tokenizer, TruncationParams};

use crate::{Error, Result};

/// Special tokens of a tokenizer trained here; their ids are their places.
pub(crate) const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// A classifier's tokenizer: lower-casing, start and end tokens and all else as its file says, cut to the classifier's
/// positions whatever the file says.
#[derive(Debug)]
pub(crate) struct TextTokens(Tokenizer);

impl TextTokens {
    /// Reads `tokenizer.json`.
    pub(crate) fn read(path: &Path, n_positions: usize) -> Result<Self> {
        let unreadable = |reason: String| Error::Unreadable { path: path.to_owned(), reason };
        let inner = irepair_data::read_tokenizer(path)?;
        let n_ends = inner.get_post_processor().map_or(0, |ends| ends.added_tokens(false));
        if n_ends >= n_positions {
            return Err(unreadable(format!(
                "it adds {n_ends} tokens to a text, and there are {n_positions} positions"
            )));
        }
        Self::cut(inner, n_positions)
    }

    /// Trains a lower-casing byte-level BPE; the same texts give the same tokenizer. (The library's WordPiece trainer numbers
    /// its first tokens in the order of a hash map, which changes from run to run.)
    pub(crate) fn train(texts: &[&str], vocab_size: usize, n_positions: usize) -> Result<Self> {
        let failed = |e: tokenizers::Error| Error::Tokenize { action: "train", why: e.to_string() };
        let alphabet = ByteLevel::alphabet();
        let smallest = alphabet.len() + SPECIAL.len();
        if vocab_size < smallest {
            let why = format!("a vocabulary of {vocab_size} is too small, at least {smallest} are needed");
            return Err(Error::Tokenize { action: "train", why });
        }
        let mut inner = Tokenizer::new(BPE::default());
        inner.with_normalizer(Some(Lowercase));
        inner.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
        inner.with_decoder(Some(ByteLevel::default()));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(alphabet.into_iter().collect())
            .special_tokens(SPECIAL.iter().map(|&token| AddedToken::from(token, true)).collect())
            .build();
        let texts = texts.iter().map(|&text| text.to_owned());
        inner.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(failed)?;
        let ends = [(SPECIAL[3], 3), (SPECIAL[2], 2)].map(|(token, id)| (token.to_owned(), id));
        let [end, start] = ends;
        inner.with_post_processor(Some(BertProcessing::new(end, start)));
        Self::cut(inner, n_positions)
    }

    fn cut(mut inner: Tokenizer, n_positions: usize) -> Result<Self> {
        let failed = |e: tokenizers::Error| Error::Tokenize { action: "set up", why: e.to_string() };
        let truncation = TruncationParams { max_length: n_positions, ..TruncationParams::default() };
        inner.with_padding(None).with_truncation(Some(truncation)).map_err(failed)?;
        Ok(Self(inner))
    }

    /// Ids of every text, on all cores.
    pub(crate) fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let failed = |why: String| Error::Tokenize { action: "encode", why };
        let encodings = guarded(|| self.0.encode_batch_fast(texts.to_vec(), true)).map_err(failed)?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Number of tokens, added ones included.
    pub(crate) fn n_tokens(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// `tokenizer.json`.
    pub(crate) fn to_json(&self) -> Result<String> {
        self.0.to_string(true).map_err(|e| Error::Tokenize { action: "write", why: e.to_string() })
    }
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
        assert_eq!(TextTokens::read(&path, 3).unwrap().encode(&["a mill"]).unwrap()[0].len(), 3);
        let error = TextTokens::read(&path, 2).unwrap_err();
        assert!(error.to_string().ends_with("it adds 2 tokens to a text, and there are 2 positions"), "{error}");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1").unwrap();
        assert!(TextTokens::read(&path, 3).unwrap_err().to_string().contains("a git-lfs pointer"));
    }
}
