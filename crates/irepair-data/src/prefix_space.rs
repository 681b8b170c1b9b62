//! Tokenizers that put a space before every text, as SentencePiece does: a continuation is no beginning of a text, and
//! gets none.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// The tokenizer of texts that follow another; none where it is the same one, as with every byte-level tokenizer.
pub(crate) fn of_continuations(inner: &Tokenizer) -> Result<Option<Tokenizer>, String> {
    let [normalizer, pre_tokenizer, decoder] = [
        serde_json::to_value(inner.get_normalizer()),
        serde_json::to_value(inner.get_pre_tokenizer()),
        serde_json::to_value(inner.get_decoder()),
    ]
    .map(Result::unwrap_or_default);
    let without = [without_prefix(&normalizer), without_prefix(&pre_tokenizer)];
    if without == [normalizer, pre_tokenizer] {
        return Ok(None);
    }
    let [normalizer, pre_tokenizer] = without;
    let mut pieces = inner.clone();
    pieces.with_normalizer(part::<NormalizerWrapper>(normalizer)?);
    pieces.with_pre_tokenizer(part::<PreTokenizerWrapper>(pre_tokenizer)?);
    pieces.with_decoder(part::<DecoderWrapper>(without_prefix(&decoder))?);
    Ok(Some(pieces))
}

fn part<T: DeserializeOwned>(json: Value) -> Result<Option<T>, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// A part of `tokenizer.json` without what adds a space before a text, or takes it off when a text is decoded.
fn without_prefix(part: &Value) -> Value {
    match part["type"].as_str() {
        Some("Prepend") => Value::Null,
        Some("Strip") if part["start"] != 0 && part["content"] == " " => Value::Null,
        Some("Metaspace") => {
            let mut part = part.clone();
            part["prepend_scheme"] = json!("never");
            // The older name of the same setting.
            if let Some(settings) = part.as_object_mut() {
                settings.remove("add_prefix_space");
            }
            part
        }
        Some("Sequence") => {
            let mut part = part.clone();
            for list in ["normalizers", "pretokenizers", "decoders"] {
                if let Some(parts) = part[list].as_array() {
                    let kept: Vec<Value> = parts.iter().map(without_prefix).filter(|part| !part.is_null()).collect();
                    part[list] = Value::Array(kept);
                }
            }
            part
        }
        _ => part.clone(),
    }
}
