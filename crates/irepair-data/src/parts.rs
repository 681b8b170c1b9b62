//! What decides the ids and texts of a tokenizer besides its vocabulary and merges, in a form in which two tokenizers
//! that do the same are equal.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{DecoderWrapper, Model as _, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Parts of a tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    pub(crate) decoder: Value,
    pub(crate) model: Flags,
}

/// How a BPE treats words and what it has no token for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flags {
    pub(crate) is_bpe: bool,
    pub(crate) unk_token: Option<String>,
    pub(crate) fuse_unk: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) ignore_merges: bool,
    pub(crate) dropout: Option<f32>,
    pub(crate) affixes: [Option<String>; 2],
}

impl Flags {
    /// Those of a new BPE.
    pub(crate) const NONE: Self = Self {
        is_bpe: true,
        unk_token: None,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        dropout: None,
        affixes: [None, None],
    };
}

/// What a vocabulary has tokens for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covered {
    /// Every byte, in the spelling of byte-level tokenizers: nothing is unknown.
    spelled: bool,
    /// Every byte as `<0x00>`, and any of them.
    named: [bool; 2],
}

impl Covered {
    pub(crate) fn of(inner: &Tokenizer) -> Self {
        let has = |token: &str| inner.get_model().token_to_id(token).is_some();
        let named = || (0..=255u8).map(|byte| has(&format!("<0x{byte:02X}>")));
        let spelled = ByteLevel::alphabet().into_iter().all(|byte| has(byte.encode_utf8(&mut [0; 4])));
        Self { spelled, named: [named().all(|there| there), named().any(|there| there)] }
    }
}

impl Parts {
    /// Those of a tokenizer.
    pub(crate) fn of(inner: &Tokenizer) -> Self {
        let json = |part: Result<Value, serde_json::Error>| part.unwrap_or_default();
        let model = match inner.get_model() {
            ModelWrapper::BPE(bpe) => Flags {
                is_bpe: true,
                unk_token: bpe.unk_token.clone(),
                fuse_unk: bpe.fuse_unk,
                byte_fallback: bpe.byte_fallback,
                ignore_merges: bpe.ignore_merges,
                dropout: bpe.dropout.filter(|share| *share > 0.0),
                affixes: [&bpe.continuing_subword_prefix, &bpe.end_of_word_suffix].map(Clone::clone),
            },
            _ => Flags { is_bpe: false, ..Flags::NONE },
        };
        Self {
            normalizer: json(serde_json::to_value(inner.get_normalizer())),
            pre_tokenizer: json(serde_json::to_value(inner.get_pre_tokenizer())),
            decoder: json(serde_json::to_value(inner.get_decoder())),
            model,
        }
    }

    /// Puts them into a tokenizer with a vocabulary of its own.
    ///
    /// # Errors
    /// What the library says of a part that it does not know.
    pub(crate) fn put_into(&self, inner: &mut Tokenizer) -> Result<(), String> {
        inner.with_normalizer(part::<NormalizerWrapper>(&self.normalizer)?);
        inner.with_pre_tokenizer(part::<PreTokenizerWrapper>(&self.pre_tokenizer)?);
        inner.with_decoder(part::<DecoderWrapper>(&self.decoder)?);
        if let ModelWrapper::BPE(bpe) = inner.get_model() {
            let (mut bpe, flags) = (bpe.clone(), self.model.clone());
            bpe.unk_token = flags.unk_token;
            bpe.fuse_unk = flags.fuse_unk;
            bpe.byte_fallback = flags.byte_fallback;
            bpe.ignore_merges = flags.ignore_merges;
            bpe.dropout = flags.dropout;
            [bpe.continuing_subword_prefix, bpe.end_of_word_suffix] = flags.affixes;
            inner.with_model(bpe);
        }
        Ok(())
    }

    /// The same parts in their one form, for a vocabulary.
    pub(crate) fn settled(&self, covered: Covered) -> Self {
        let Flags { is_bpe, mut unk_token, mut fuse_unk, mut byte_fallback, .. } = self.model.clone();
        if covered.spelled || !covered.named[1] {
            byte_fallback = false;
        }
        if covered.spelled || byte_fallback && covered.named[0] {
            (unk_token, fuse_unk) = (None, false);
        }
        let affixes = self.model.affixes.clone().map(|affix| affix.filter(|affix| !affix.is_empty()));
        let decoder = match self.decoder["type"].as_str() {
            Some("ByteLevel") => json!({"type": "ByteLevel"}),
            _ => settled(&self.decoder),
        };
        let (mut normalizer, mut pre_tokenizer) = (settled(&self.normalizer), settled(&self.pre_tokenizer));
        let space = json!({"String": " "});
        // Without a space at the beginning it only writes spaces in another way, as a normalizer does.
        if normalizer.is_null()
            && pre_tokenizer["type"] == "Metaspace"
            && pre_tokenizer["prepend_scheme"] == "never"
            && pre_tokenizer["split"] == false
        {
            normalizer = json!({"type": "Replace", "pattern": space, "content": pre_tokenizer["replacement"]});
            pre_tokenizer = Value::Null;
        }
        // Nothing is split at spaces that are none any more.
        if normalizer["type"] == "Replace" && normalizer["pattern"] == space && pre_tokenizer["pattern"] == space {
            pre_tokenizer = Value::Null;
        }
        Self {
            normalizer,
            pre_tokenizer,
            decoder,
            model: Flags { is_bpe, unk_token, fuse_unk, byte_fallback, affixes, ..self.model.clone() },
        }
    }
}

fn part<T: DeserializeOwned>(json: &Value) -> Result<Option<T>, String> {
    serde_json::from_value(json.clone()).map_err(|error| error.to_string())
}

/// A part without what changes nothing: series of one and series in series, and settings of offsets.
fn settled(part: &Value) -> Value {
    match part["type"].as_str() {
        Some("Sequence") => {
            let Some(key) = ["normalizers", "pretokenizers", "decoders"].into_iter().find(|key| part[key].is_array())
            else {
                return part.clone();
            };
            let parts = part[key].as_array().into_iter().flatten().map(settled).filter(|part| !part.is_null());
            let flat = parts.flat_map(|part| match part[key].as_array() {
                Some(inner) => inner.clone(),
                None => vec![part],
            });
            match <[Value; 1]>::try_from(flat.collect::<Vec<_>>()) {
                Ok([one]) => one,
                Err(none) if none.is_empty() => Value::Null,
                Err(several) => json!({"type": "Sequence", key: several}),
            }
        }
        Some("ByteLevel") => {
            let mut part = part.clone();
            if let Some(settings) = part.as_object_mut() {
                settings.remove("trim_offsets");
            }
            part
        }
        _ => part.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_do_the_same_are_equal() {
        let byte_level = |trim: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": true});
        let series = |parts: Value| json!({"type": "Sequence", "pretokenizers": parts});
        assert_eq!(settled(&series(json!([series(json!([byte_level(true)]))]))), settled(&byte_level(false)));
        assert_eq!(settled(&series(json!([]))), Value::Null);
        let digits = json!({"type": "Digits", "individual_digits": true});
        let two = settled(&series(json!([digits, series(json!([byte_level(true)]))])));
        assert_eq!(two, series(json!([digits, settled(&byte_level(true))])));
    }

    #[test]
    fn what_no_text_reaches_does_not_matter() {
        let flags = |unk: &str, byte_fallback| Flags { unk_token: Some(unk.to_owned()), byte_fallback, ..Flags::NONE };
        let of = |model| Parts { normalizer: Value::Null, pre_tokenizer: Value::Null, decoder: Value::Null, model };
        let same = |covered: Covered| {
            of(flags("a", true)).settled(covered) == of(Flags { byte_fallback: true, ..Flags::NONE }).settled(covered)
        };
        assert!(same(Covered { spelled: true, named: [false; 2] }));
        assert!(same(Covered { spelled: false, named: [true; 2] }));
        assert!(!same(Covered { spelled: false, named: [false, true] }));
        assert!(!same(Covered { spelled: false, named: [false; 2] }));
        let spelled = Covered { spelled: true, named: [false; 2] };
        let ignoring = Flags { ignore_merges: true, ..Flags::NONE };
        assert_ne!(of(ignoring).settled(spelled), of(Flags::NONE).settled(spelled));
    }
}
