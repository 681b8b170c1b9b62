//! Values against the Python package `gguf`, token ids against llama.cpp: `parity/gguf/make.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use irepair_data::Tokenizer;
use irepair_gguf::{Conversion, GgufFile};
use safetensors::SafeTensors;
use serde_json::Value;

const CASES: [&str; 4] = ["smollm", "llama-bpe", "gpt-2", "qwen2"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Shape and bytes of every tensor of a safetensors file.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        (name, (view.shape().to_vec(), view.data().to_vec()))
    };
    stored.tensors().into_iter().map(tensor).collect()
}

/// The directory that a case becomes.
fn converted(case: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = GgufFile::open(&golden(&format!("{case}.gguf"))).unwrap();
    Conversion::plan(&file).unwrap().write(&dir.path().join("out"), &mut |_| {}).unwrap();
    dir
}

#[test]
fn every_type_is_dequantised_bit_for_bit() {
    let file = GgufFile::open(&golden("blocks.gguf")).unwrap();
    let want = tensors(&golden("blocks.safetensors"));
    assert_eq!((file.tensors().len(), want.len()), (13, 13));
    for (name, info) in file.tensors() {
        let (shape, bytes) = &want[name];
        assert_eq!((&info.shape, &info.kind.to_string()), (shape, name));
        let mut values = vec![0.0; shape.iter().product()];
        let mut reader = file.values().unwrap();
        // In two parts, the later one first.
        let middle = values.len() / 2;
        let (first, second) = values.split_at_mut(middle);
        reader.read(info, middle, second).unwrap();
        reader.read(info, 0, first).unwrap();
        let got: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let misses = got.chunks(4).zip(bytes.chunks(4)).filter(|(got, want)| got != want).count();
        assert_eq!(misses, 0, "{name}: {misses} values of {} differ", values.len());
    }
}

#[test]
fn weights_are_those_from_before_the_conversion() {
    for case in CASES {
        let dir = converted(case);
        let got = tensors(&dir.path().join("out/model.safetensors"));
        let want = tensors(&golden(&format!("{case}.safetensors")));
        assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{case}");
        for (name, tensor) in &want {
            assert!(got[name] == *tensor, "{case}: {name}");
        }
    }
}

#[test]
fn config_says_what_decides_the_mathematics() {
    for case in CASES {
        let dir = converted(case);
        let config = json(&dir.path().join("out/config.json"));
        assert_eq!((config["model_type"].as_str(), config["dtype"].as_str()), (Some("llama"), Some("float32")));
        for (key, want) in json(&golden(&format!("{case}.json"))).as_object().unwrap() {
            assert_eq!(&config[key], want, "{case}: {key}");
        }
        let ends = json(&dir.path().join("out/generation_config.json"));
        assert_eq!(ends["eos_token_id"], config["eos_token_id"], "{case}");
    }
}

#[test]
fn token_ids_are_llama_cpps() {
    let ids = json(&golden("ids.json"));
    for case in CASES {
        let dir = converted(case);
        let tokenizer = Tokenizer::load(&dir.path().join("out")).unwrap();
        assert_eq!(tokenizer.eos_id(), 2);
        let (texts, ids) = (&ids[case]["texts"], &ids[case]["ids"]);
        assert!(texts.as_array().unwrap().len() > 80);
        for (text, want) in texts.as_array().unwrap().iter().zip(ids.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            let got = serde_json::json!(tokenizer.encode(text).unwrap());
            assert_eq!(&got, want, "{case}: {text:?}");
        }
    }
}

#[test]
fn tokens_at_the_ends_of_a_text_are_added_as_the_file_says() {
    for (case, adds) in [("smollm", false), ("llama-bpe", true), ("gpt-2", false)] {
        let dir = converted(case);
        let config = json(&dir.path().join("out/tokenizer_config.json"));
        assert_eq!(config["add_bos_token"], adds, "{case}");
        assert_eq!(config["bos_token"], "<|im_start|>");
        assert_eq!(config.get("chat_template").is_some(), case != "gpt-2");
        let stored = json(&dir.path().join("out/tokenizer.json"));
        assert_eq!(stored["post_processor"]["special_tokens"]["<|im_start|>"]["ids"][0] == 1, adds, "{case}");
    }
}

#[test]
#[ignore = "needs a real file: IREPAIR_IMPORTED=DIR of `irepair import`, IREPAIR_IDS=FILE of `parity/gguf/check.py tokens --out`"]
fn token_ids_of_a_real_tokenizer_are_llama_cpps() {
    let [dir, ids] = ["IREPAIR_IMPORTED", "IREPAIR_IDS"].map(|key| PathBuf::from(std::env::var_os(key).expect(key)));
    let tokenizer = Tokenizer::load(&dir).unwrap();
    for line in fs::read_to_string(ids).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let got = tokenizer.encode(record["text"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::json!(got), record["ids"], "{}", record["text"]);
    }
}
