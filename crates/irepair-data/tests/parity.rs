//! Equal to transformers' GPT2TokenizerFast on `parity/tokenizer/` (generator in the same folder): every form a
//! tokenizer is stored in, texts of every awkward kind. No tolerance.

use std::path::{Path, PathBuf};

use irepair_data::Tokenizer;
use serde_json::Value;

const CASES: [&str; 14] = [
    "whole",
    "whole-added",
    "whole-prefix-space",
    "whole-truncation",
    "whole-begin",
    "whole-named-later",
    "older",
    "older-config",
    "older-prefix-space",
    "older-added-file",
    "older-added-decoder",
    "older-eos-object",
    "older-eos-map",
    "older-no-eot-in-vocab",
];

fn parity(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/tokenizer").join(path)
}

fn json(path: &str) -> Value {
    let text = std::fs::read_to_string(parity(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every text that a tokenizer treats otherwise than the golden file of `case`.
fn differences(case: &str, tokenizer: &Tokenizer) -> Vec<String> {
    let (golden, texts) = (json(&format!("{case}/golden.json")), strings(&json("texts.json")));
    let mut found = Vec::new();
    let mut compare = |what: String, got: String, want: &str| {
        if got != want {
            found.push(format!("{case}: {what}\n   got {got:?}\n  want {want:?}"));
        }
    };
    compare("number of tokens".into(), tokenizer.vocab_size().to_string(), &golden["n_tokens"].to_string());
    compare("end-of-text token".into(), tokenizer.eos_id().to_string(), &golden["eos_id"].to_string());
    let batch = tokenizer.encode_batch(&texts).unwrap();
    let (ids, decoded) = (strings(&golden["ids"]), strings(&golden["decoded"]));
    let begun = golden.get("texts").map_or_else(|| ids.clone(), strings);
    assert_eq!((ids.len(), decoded.len()), (texts.len(), texts.len()));
    for (i, text) in texts.iter().enumerate() {
        let row = tokenizer.encode(text).unwrap();
        assert_eq!(row, batch[i], "{case}: {text:?} alone and in a batch");
        let shown = |row: &[u32]| row.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        compare(format!("ids of {text:?}"), shown(&row), &ids[i]);
        compare(format!("ids of {text:?} from its beginning"), shown(&tokenizer.encode_text(text).unwrap()), &begun[i]);
        let golden_row: Vec<u32> = ids[i].split_whitespace().map(|id| id.parse().unwrap()).collect();
        compare(format!("{text:?} decoded"), tokenizer.decode(&golden_row).unwrap(), &decoded[i]);
    }
    found
}

#[test]
fn every_form_treats_every_text_as_transformers_does() {
    let mut found = Vec::new();
    for case in CASES {
        found.extend(differences(case, &Tokenizer::load(&parity(case)).unwrap_or_else(|e| panic!("{case}: {e}"))));
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_form_saved_and_loaded_again_is_the_same() {
    let mut found = Vec::new();
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::load(&parity(case)).unwrap().save(dir.path()).unwrap();
        found.extend(differences(case, &Tokenizer::load(dir.path()).unwrap()));
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
