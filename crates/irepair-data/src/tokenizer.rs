//! Text to token ids and back, through the tokenizers library: load, train, save.

mod after;
mod begin;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use irepair_core::fs::{sha256_hex, write_atomic};
use serde_json::json;
use tokenizers::models::bpe::BPE;

use crate::added::{self, bad};
use crate::generation::generation_ends;
use crate::library::{byte_level, from_vocab_and_merges, guarded, id_of_two, read_tokenizer, train_byte_level};
use crate::prefix_space::of_continuations;
use crate::read::END_OF_TEXT;
use crate::sources::{begin_of, eos_of, settle_prefix_space};
use crate::spaces::Spaces;
use crate::{ChatTemplate, Error, Result, rebuilt};

/// A tokenizer with its begin-of-text token, if it has one, and its end-of-text token, which pads texts and, without a
/// begin-of-text token, starts them (METHOD §2 [D]).
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The tokenizer of continuations, where `inner` puts a space before every text.
    continuations: Option<Box<tokenizers::Tokenizer>>,
    eos_id: u32,
    /// The token that begins texts, by the rules of `tokenizer.json`.
    begin_id: Option<u32>,
    /// The token that begins rendered texts where the chat template writes it.
    written_begin_id: Option<u32>,
    end_ids: Vec<u32>,
    spaces: Spaces,
    /// What a version of transformers makes of its files otherwise.
    otherwise: Option<String>,
    /// The directory it was loaded from.
    dir: Option<PathBuf>,
}

impl Tokenizer {
    /// Loads from a Hugging Face model directory: `tokenizer.json`, or else `vocab.json` with `merges.txt` (GPT-2's
    /// byte-level BPE). Ids are those of transformers: tokens added to the vocabulary count, stored truncation and
    /// padding do not.
    ///
    /// docs/FILES.md has the order of the files that decide the begin-of-text and end-of-text tokens, the tokens that
    /// end a generation and the leading space.
    ///
    /// # Errors
    /// `NoTokenizer` when there is neither form, `BadTokenizer` naming the file that cannot be used, `NoEos`, `File`.
    pub fn load(dir: &Path) -> Result<Self> {
        let (whole, vocab) = (dir.join("tokenizer.json"), dir.join("vocab.json"));
        let config = added::settings(dir)?;
        let mut inner = if whole.exists() {
            read_tokenizer(&whole)?
        } else if vocab.exists() {
            from_vocab_and_merges(dir, &config)?
        } else {
            return Err(Error::NoTokenizer { dir: dir.to_owned() });
        };
        if let Some(id) = id_of_two(&inner) {
            let path = if whole.exists() { &whole } else { &vocab };
            return Err(bad(path, format!("two tokens have the id {id}")));
        }
        guarded(|| Ok(added::add(&mut inner, dir, &config, !whole.exists()))).map_err(|why| bad(&whole, why))??;
        inner.with_padding(None).with_truncation(None).map_err(|e| bad(&whole, e))?;
        settle_prefix_space(&mut inner, dir, &config)?;
        let otherwise = if whole.exists() {
            rebuilt::settle(&mut inner, dir, &config)?
        } else {
            rebuilt::settle_older(&mut inner, dir, &config)?;
            None
        };
        let eos_id = eos_of(dir, &inner, &config)?;
        let begin_id = begin_of(&inner, dir, &config)?;
        let continuations = of_continuations(&inner).map_err(|why| bad(&whole, why))?.map(Box::new);
        let (end_ids, dir) = (generation_ends(dir, eos_id)?, Some(dir.to_owned()));
        let spaces = Spaces::of(&inner, &config);
        let written_begin_id = None;
        Ok(Self { continuations, end_ids, inner, eos_id, begin_id, written_begin_id, spaces, otherwise, dir })
    }

    /// Trains a byte-level BPE like GPT-2's: all 256 bytes, no prefix space, `<|endoftext|>` as token 0. The same texts
    /// give the same tokenizer; it is smaller than `vocab_size` when every word has become one token before.
    ///
    /// # Errors
    /// `Tokenize` when `vocab_size` leaves no room for the bytes, or the library refuses.
    pub fn train_bpe<S: AsRef<str> + Sync>(texts: &[S], vocab_size: usize) -> Result<Self> {
        let mut inner = byte_level(BPE::default(), false);
        train_byte_level(&mut inner, texts, vocab_size, &[END_OF_TEXT])?;
        Ok(Self {
            inner,
            continuations: None,
            eos_id: 0,
            begin_id: None,
            written_begin_id: None,
            end_ids: vec![0],
            spaces: Spaces::Kept,
            otherwise: None,
            dir: None,
        })
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, which transformers' `AutoTokenizer` loads.
    ///
    /// # Errors
    /// `File` with the path and the step that failed.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let whole = guarded(|| self.inner.to_string(true)).map_err(|why| bad(&dir.join("tokenizer.json"), why))?;
        write_atomic(&dir.join("tokenizer.json"), whole.as_bytes())?;
        let eos = self.inner.id_to_token(self.eos_id);
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.inner.id_to_token(self.start_id()),
            "eos_token": eos,
            "unk_token": eos,
            "clean_up_tokenization_spaces": false,
        });
        // Versions of transformers differ in the file whose flag they read: both get the same value.
        let written: serde_json::Value = serde_json::from_str(&whole).unwrap_or_default();
        if written["pre_tokenizer"]["add_prefix_space"] == true {
            config["add_prefix_space"] = true.into();
        }
        write_atomic(&dir.join("tokenizer_config.json"), format!("{config:#}\n").as_bytes())?;
        Ok(())
    }

    /// SHA-256 of all that decides its token ids and texts.
    ///
    /// # Errors
    /// `Tokenize` when the library cannot write it down.
    pub fn sha256(&self) -> Result<String> {
        let whole = guarded(|| self.inner.to_string(false)).map_err(|why| refused("write", why))?;
        Ok(sha256_hex(format!("{} {whole}", self.eos_id).as_bytes()))
    }

    /// Token ids of a text: no begin-of-text or end-of-text token is added. A tokenizer that puts a space before every
    /// text does so; what follows another text is for [`Self::encode_continuations`].
    ///
    /// # Errors
    /// `Tokenize` when the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(|why| refused("encode", why))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What a version of transformers makes of the files otherwise, as one line for users; none where both versions
    /// give the same ids.
    pub fn otherwise(&self) -> Option<&str> {
        self.otherwise.as_deref()
    }

    /// What transformers 4 does otherwise with generated texts, as one line for users.
    pub fn text_rule(&self) -> Option<&'static str> {
        (self.spaces == Spaces::KeptByVersion5).then_some(
            "clean_up_tokenization_spaces is true in tokenizer_config.json: generated texts keep their spaces before \
             punctuation, as in transformers 5; transformers 4 takes them out",
        )
    }

    /// Token ids of texts that follow another, on all cores: [`Self::encode`] without the space that SentencePiece puts
    /// before every text.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses a text.
    pub fn encode_continuations<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let Some(continuations) = &self.continuations else { return self.encode_batch(texts) };
        let (begun, whole) = (self.encode_with(continuations, texts)?, self.encode_batch(texts)?);
        // Added tokens part a text, and what follows the first of them is encoded as in any other text.
        let added = self.inner.get_added_tokens_decoder();
        let after = |ids: &[u32]| ids.iter().position(|id| added.contains_key(id)).map(|at| at + 1);
        let join = |(mut begun, whole): (Vec<u32>, Vec<u32>)| {
            if let Some((at, rest)) = after(&begun).zip(after(&whole)) {
                begun.truncate(at);
                begun.extend_from_slice(&whole[rest..]);
            }
            begun
        };
        Ok(begun.into_iter().zip(whole).map(join).collect())
    }

    fn of_continuations(&self) -> &tokenizers::Tokenizer {
        self.continuations.as_deref().unwrap_or(&self.inner)
    }

    /// The chat template of the directory that the tokenizer was loaded from.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::load`]; `NoTemplate` for a tokenizer that was not loaded.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        ChatTemplate::load(self.dir.as_deref().ok_or_else(|| Error::NoTemplate { dir: PathBuf::new() })?)
    }

    /// [`Self::encode`] of every text, on all cores.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses a text.
    pub fn encode_batch<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        self.encode_with(&self.inner, texts)
    }

    fn encode_with<S: AsRef<str>>(&self, inner: &tokenizers::Tokenizer, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let inputs: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = guarded(|| inner.encode_batch_fast(inputs, false)).map_err(|why| refused("encode", why))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Text of the token ids of a continuation: special tokens are skipped, and a space at the start is kept.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses.
    pub fn decode_continuation(&self, ids: &[u32]) -> Result<String> {
        let text = guarded(|| self.of_continuations().decode(ids, true)).map_err(|why| refused("decode", why))?;
        Ok(self.spaces.settle(text))
    }

    /// Text of token ids from the beginning of a text; special tokens are skipped.
    ///
    /// # Errors
    /// `Tokenize` when the library refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = guarded(|| self.inner.decode(ids, true)).map_err(|why| refused("decode", why))?;
        Ok(self.spaces.settle(text))
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of all tokens, added ones included.
    pub fn ids(&self) -> BTreeSet<u32> {
        self.inner.get_vocab(true).into_values().collect()
    }

    /// The token with an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The end-of-text token as text, which [`Self::encode`] reads as that token.
    pub fn end_text(&self) -> String {
        self.inner.id_to_token(self.eos_id).unwrap_or_default()
    }

    /// The end-of-text token.
    pub fn eos_id(&self) -> u32 {
        self.eos_id
    }

    /// The tokens at which a generated text ends; none when `generation_config.json` names none.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }
}

fn refused(action: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Tokenize { action, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokenizers::Model;

    use super::*;

    const TEXTS: [&str; 3] = ["the mill by the river", "the river by the mill", "Anna went to the mill."];

    #[test]
    fn training_is_deterministic_and_lossless() {
        let json = || Tokenizer::train_bpe(&TEXTS, 300).unwrap().inner.to_string(false).unwrap();
        let first = json();
        assert!((0..8).all(|_| json() == first));
        let tokenizer = Tokenizer::train_bpe(&TEXTS, 300).unwrap();
        assert_eq!((tokenizer.eos_id(), tokenizer.encode(END_OF_TEXT).unwrap()), (0, vec![0]));
        for text in ["the mill", " the  mill\n", "größer: 東京 ☃", ""] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
        assert_eq!(tokenizer.encode(" the").unwrap().len(), 1);
        assert_eq!(tokenizer.decode(&[0, 0]).unwrap(), "");
    }

    #[test]
    fn a_saved_tokenizer_loads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train_bpe(&TEXTS, 280).unwrap();
        tokenizer.save(dir.path()).unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((loaded.vocab_size(), loaded.eos_id()), (tokenizer.vocab_size(), 0));
        assert_eq!(loaded.encode_batch(&TEXTS).unwrap(), tokenizer.encode_batch(&TEXTS).unwrap());
    }

    #[test]
    fn the_older_form_loads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train_bpe(&TEXTS, 280).unwrap();
        tokenizer.inner.get_model().save(dir.path(), None).unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(loaded.encode(TEXTS[2]).unwrap(), tokenizer.encode(TEXTS[2]).unwrap());
        assert_eq!(loaded.encode("a<|endoftext|>").unwrap().last(), Some(&loaded.eos_id()));

        let n = loaded.vocab_size();
        let added = json!({"<pad>": n});
        std::fs::write(dir.path().join("added_tokens.json"), added.to_string()).unwrap();
        std::fs::write(dir.path().join("config.json"), format!("{{\"eos_token_id\": {n}}}")).unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((loaded.vocab_size(), loaded.eos_id() as usize), (n + 1, n));
    }

    #[test]
    fn the_older_form_of_qwen2_splits_as_its_class_does() {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["mill 12, mill 12", "mill 12 DON'T"];
        Tokenizer::train_bpe(&texts, 300).unwrap().inner.get_model().save(dir.path(), None).unwrap();
        let ids = |class: &str, text: &str| {
            std::fs::write(dir.path().join("tokenizer_config.json"), json!({"tokenizer_class": class}).to_string())
                .unwrap();
            Tokenizer::load(dir.path()).unwrap().encode(text).unwrap().len()
        };
        // One token of three characters; a token for the space and each digit.
        assert_eq!([ids("GPT2Tokenizer", " 12"), ids("Qwen2Tokenizer", " 12")], [1, 3]);
        // Qwen2 composes what stands decomposed.
        assert_eq!([ids("GPT2Tokenizer", "e\u{301}"), ids("Qwen2Tokenizer", "e\u{301}")], [3, 2]);
    }

    #[test]
    fn one_id_for_two_tokens_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::train_bpe(&TEXTS, 280).unwrap().save(dir.path()).unwrap();
        let path = dir.path().join("tokenizer.json");
        let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        stored["model"]["vocab"]["!"] = json!(40);
        std::fs::write(&path, stored.to_string()).unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "tokenizer file cannot be used: two tokens have the id 40");
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Tokenizer::load(dir.path()).unwrap_err().to_string(), "directory has no tokenizer");
        std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("tokenizer file cannot be used: "), "{error}");
        let lfs = "version https://git-lfs.github.com/spec/v1\n";
        for (name, text, why) in [
            ("tokenizer.json", lfs, "a git-lfs pointer, not the file itself: fetch the large file"),
            ("tokenizer.json", "<!doctype html>", "an HTML or XML page, not the file itself: the download failed"),
            ("tokenizer_config.json", lfs, "a git-lfs pointer, not the file itself: fetch the large file"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
            let error = Tokenizer::load(dir.path()).unwrap_err();
            assert_eq!(error.to_string(), format!("tokenizer file cannot be used: {why}"));
        }
        Tokenizer::train_bpe(&TEXTS, 280).unwrap().save(dir.path()).unwrap();
        std::fs::write(dir.path().join("config.json"), "{\"eos_token_id\": 300}").unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err();
        let Error::EndNotThere { path, id: 300, .. } = error else { panic!("{error}") };
        assert!(path.ends_with("config.json"), "{path:?}: not the tokenizer's file");
        let listed = json!({"added_tokens_decoder": {"500": {"content": "<far>", "special": true}}});
        std::fs::write(dir.path().join("tokenizer_config.json"), listed.to_string()).unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err();
        let want = "tokenizer file cannot be used: added token `<far>` is listed with id 500 and comes to ";
        assert!(error.to_string().starts_with(want), "{error}");
        assert!(Tokenizer::train_bpe(&TEXTS, 100).is_err());
    }
}
