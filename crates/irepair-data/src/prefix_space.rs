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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_has_no_space_before_it_and_those_after_special_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let normalizer =
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, space]});
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": normalizer, "pre_tokenizer": null,
            "post_processor": null, "decoder": null,
            "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "model": {"type": "BPE", "unk_token": "<unk>", "merges": [],
                      "vocab": {"<unk>": 0, "</s>": 1, "\u{2581}": 2, "a": 3, "b": 4}},
        });
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        let tokenizer = crate::Tokenizer::load(dir.path()).unwrap();
        assert_eq!(tokenizer.encode("a</s>b a").unwrap(), [2, 3, 1, 2, 4, 2, 3]);
        let continued = tokenizer.encode_continuations(&["a</s>b a", " a", "</s>b", "ab"]).unwrap();
        assert_eq!(continued, [vec![3, 1, 2, 4, 2, 3], vec![2, 3], vec![1, 2, 4], vec![3, 4]]);
    }

    /// Tokenizers of SentencePiece's kind, with a space before the first part of a text or before every part.
    fn tokenizer(part: &str, value: Value) -> crate::Tokenizer {
        let dir = tempfile::tempdir().unwrap();
        let added = |id: u32, content: &str, rstrip: bool| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": rstrip,
                   "normalized": false, "special": true})
        };
        let mut tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "added_tokens": [added(1, "</s>", false), added(5, "<|a|>", true)],
            "model": {"type": "BPE", "unk_token": "<unk>", "merges": [["\u{2581}", "a"]],
                      "vocab": {"<unk>": 0, "</s>": 1, "\u{2581}": 2, "a": 3, "b": 4, "<|a|>": 5, "\u{2581}a": 6}},
        });
        tokenizer[part] = value;
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        crate::Tokenizer::load(dir.path()).unwrap()
    }

    #[test]
    fn after_an_added_token_a_text_has_the_ids_that_it_has_in_the_whole_text() {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let every = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, replace]});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false});
        let (always, first) = (metaspace("always"), metaspace("first"));
        for (part, value, is_every) in
            [("normalizer", every, true), ("pre_tokenizer", always, true), ("pre_tokenizer", first, false)]
        {
            let tokenizer = tokenizer(part, value);
            for prompt in ["b</s>", "b<|a|>", "b<|a|> ", "b</s><|a|>"] {
                for text in ["a", " a", "b a</s>", "</s>a", "a<|a|> b"] {
                    let whole = tokenizer.encode(&format!("{prompt}{text}")).unwrap();
                    let begin = tokenizer.encode(prompt).unwrap();
                    let begin = [begin];
                    let ids = tokenizer.encode_after(&begin, &[text]).unwrap().remove(0);
                    assert_eq!([&begin[0][..], &ids].concat(), whole, "{part}: {prompt:?}, {text:?}");
                    let read = tokenizer.decode_after(&begin[0], &ids).unwrap();
                    let again = tokenizer.encode_after(&begin, &[&read]).unwrap().remove(0);
                    let is_special = text.contains(['<']);
                    assert!(is_special || again == ids, "{part}: {prompt:?}, {text:?} becomes {read:?}");
                }
            }
            let after = |prompt: &[u32], text| tokenizer.encode_after(&[prompt.to_vec()], &[text]).unwrap().remove(0);
            assert_eq!(after(&[4, 1], "a"), [if is_every { 6 } else { 3 }]);
            assert_eq!(after(&[4], "a"), [3]);
            assert_eq!(tokenizer.decode_after(&[4, 1], &[6]).unwrap(), if is_every { "a" } else { " a" });
            assert_eq!(tokenizer.decode_after(&[4], &[6]).unwrap(), " a");
        }
    }
}
