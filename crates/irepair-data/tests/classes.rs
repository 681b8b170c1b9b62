//! Equal to both versions of transformers on `parity/tokenizer_classes/` (generator in the same folder): every class
//! and model type over the same files. Where the versions differ, `tokenizer.json` is followed and that is said.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_data::Tokenizer;
use serde_json::{Value, json};

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/tokenizer_classes/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn put(dir: &Path, name: &str, value: &Value) {
    std::fs::write(dir.join(name), value.to_string()).unwrap();
}

/// The directory of a case, as `make.py` writes it.
fn directory(golden: &Value, case: &Value) -> tempfile::TempDir {
    let kind = case[0].as_str().unwrap();
    let of_pieces = kind == "gemma" || kind == "prepend" || kind.starts_with("meta-");
    let model = &golden["models"][if of_pieces { "pieces" } else { "bytes" }];
    let added: Vec<Value> = ["<unk>", "<s>", "</s>", "<|end|>"]
        .into_iter()
        .filter(|token| !model["vocab"][token].is_null())
        .map(|token| {
            json!({"id": model["vocab"][token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let mut whole = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
                           "post_processor": null, "model": model});
    for (key, part) in golden["kinds"][kind].as_object().unwrap() {
        whole[key] = part.clone();
    }
    let mut config =
        json!({"bos_token": "<s>", "eos_token": "<|end|>", "pad_token": "<|end|>", "add_bos_token": false});
    config["unk_token"] = if of_pieces { "<unk>" } else { "<|end|>" }.into();
    if of_pieces {
        config["mask_token"] = "<|end|>".into();
    }
    for (key, value) in case[3].as_object().unwrap() {
        config[key] = value.clone();
    }
    if case[1].is_string() {
        config["tokenizer_class"] = case[1].clone();
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "tokenizer.json", &whole);
    put(dir.path(), "tokenizer_config.json", &config);
    put(dir.path(), "config.json", &json!({"model_type": case[2]}));
    if case[4] == true {
        std::fs::write(dir.path().join("tokenizer.model"), "").unwrap();
    }
    dir
}

#[test]
fn ids_are_those_of_both_versions_or_the_difference_is_said() {
    let golden = golden();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let (mut counts, mut wrong) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for case in golden["cases"].as_array().unwrap() {
        let dir = directory(&golden, case);
        let result = |i: usize| case[i].as_u64().map(|at| &golden["results"][at as usize]);
        let (old, new) = (result(5), result(6));
        let tokenizer = match Tokenizer::load(dir.path()) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                // Both versions read the directory in one way: nothing to refuse.
                if old.is_some() && old == new {
                    wrong.push(format!("refused, both equal: {case} {error}"));
                }
                *counts.entry("refused").or_default() += 1;
                continue;
            }
        };
        let ids = tokenizer.encode_batch(&texts).unwrap();
        let decoded: Vec<String> = ids.iter().map(|ids| tokenizer.decode(ids).unwrap()).collect();
        let ours = json!([ids, decoded]);
        let equals = |result: Option<&Value>| result.is_none_or(|result| *result == ours);
        let is_equal = equals(old) && equals(new);
        let outcome = match (is_equal, tokenizer.otherwise()) {
            (true, None) => "equal",
            (true, Some(_)) => "equal here, warned",
            (false, Some(said)) if equals(old) && said.contains("transformers 5") => "warned of 5",
            (false, Some(said)) if equals(new) && said.contains("transformers 4") => "warned of 4",
            (false, said) => {
                wrong.push(format!("{case} {said:?}\n  ours {ours}\n  old {old:?}\n  new {new:?}"));
                "wrong"
            }
        };
        *counts.entry(outcome).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{counts:?}\n{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let want = [("equal", 1071), ("refused", 57), ("warned of 4", 92), ("warned of 5", 692)];
    assert_eq!(counts, BTreeMap::from(want));
}

#[test]
fn spaces_before_punctuation_are_those_of_transformers_5_and_said_where_4_takes_them_out() {
    let golden = golden();
    let (mut n_said, mut n_taken) = (0, 0);
    for case in golden["decoded"].as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "tokenizer.json", &case["tokenizer"]);
        put(dir.path(), "tokenizer_config.json", &case["config"]);
        put(dir.path(), "config.json", &json!({"model_type": "llama"}));
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), case["new"], "{}", case["config"]);
        assert_eq!(tokenizer.decode_continuation(&ids).unwrap(), case["new"], "{}", case["config"]);
        assert_eq!(tokenizer.text_rule().is_some(), case["new"] != case["old"], "{}", case["config"]);
        n_said += usize::from(case["new"] != case["old"]);
        n_taken += usize::from(case["new"] != text);
    }
    assert!(n_said > 0 && n_taken > 0, "{n_said} {n_taken}");
}
