//! Every architecture and SentencePiece: tensors, settings and token ids against transformers, the Python package
//! `gguf` and llama.cpp (`parity/gguf/make_architectures.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use irepair_data::Tokenizer;
use irepair_gguf::{Conversion, Export, GgufFile};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const CASES: [&str; 6] = ["llama-spm", "qwen2-arch", "qwen3", "gemma2", "gemma3", "phi3"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    stored.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect()
}

/// The directory that a case becomes.
fn converted(case: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = GgufFile::open(&golden(&format!("{case}.gguf"))).unwrap();
    Conversion::plan(&file).unwrap().write(&dir.path().join("out"), &mut |_| {}).unwrap();
    dir
}

#[test]
fn tensors_are_those_of_the_model_that_was_written() {
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
fn settings_are_those_of_transformers() {
    for case in CASES {
        let dir = converted(case);
        let config = read(&dir.path().join("out/config.json"));
        let mut want = read(&golden(&format!("{case}.json")));
        let rope = want["rope_parameters"].take();
        for (key, want) in want.as_object().unwrap().iter().filter(|(key, _)| *key != "rope_parameters") {
            assert_eq!(&config[key], want, "{case}: {key}");
        }
        // transformers 5 has bases, factors and shares in one place, which it fills from the older keys written here.
        let rope = match rope.get("full_attention") {
            Some(full) => {
                assert_eq!(config["rope_local_base_freq"], rope["sliding_attention"]["rope_theta"], "{case}");
                full.clone()
            }
            None => rope,
        };
        for (key, want) in rope.as_object().unwrap() {
            let got = match key.as_str() {
                "rope_type" if want == "default" => &json!("default"),
                "rope_theta" | "partial_rotary_factor" | "original_max_position_embeddings" => &config[key],
                _ => &config["rope_scaling"][key],
            };
            assert_eq!(got, want, "{case}: {key}");
        }
        assert_eq!(config["rope_scaling"].is_null(), rope["rope_type"] == "default", "{case}");
    }
}

#[test]
fn token_ids_are_llama_cpps() {
    let ids = read(&golden("architectures.ids.json"));
    for case in CASES {
        let dir = converted(case);
        let tokenizer = Tokenizer::load(&dir.path().join("out")).unwrap();
        let (texts, ids) = (&ids[case]["texts"], &ids[case]["ids"]);
        let misses: Vec<String> = texts
            .as_array()
            .unwrap()
            .iter()
            .zip(ids.as_array().unwrap())
            // llama.cpp does not compose for Qwen's tokenizer, its publisher does.
            .filter(|(text, _)| !case.starts_with("qwen") || text.as_str().unwrap().chars().all(|c| !is_mark(c)))
            .filter_map(|(text, want)| {
                let got = json!(tokenizer.encode(text.as_str().unwrap()).unwrap());
                (&got != want).then(|| format!("{text}\n want {want}\n got  {got}"))
            })
            .collect();
        assert!(misses.is_empty(), "{case}: {} texts differ:\n{}", misses.len(), misses.join("\n"));
    }
}

/// Characters of the texts that Unicode's composed form joins with the one before.
fn is_mark(c: char) -> bool {
    ('\u{300}'..'\u{370}').contains(&c) || ('\u{900}'..'\u{970}').contains(&c)
}

#[test]
fn ids_become_their_text_again() {
    for case in ["llama-spm", "gemma2", "gemma3", "phi3"] {
        let dir = converted(case);
        let tokenizer = Tokenizer::load(&dir.path().join("out")).unwrap();
        for text in ["the mill", "  größer 東京都\n\n x", "🙂 <0x0A> 12", "x"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{case}: {ids:?}");
        }
    }
}

#[test]
fn a_continuation_gets_no_space_of_its_own() {
    for case in ["llama-spm", "gemma2", "phi3"] {
        let dir = converted(case);
        let tokenizer = Tokenizer::load(&dir.path().join("out")).unwrap();
        let whole = tokenizer.encode_text("the mill by the river").unwrap();
        let rest = tokenizer.encode_continuations(&[" by the river"]).unwrap().remove(0);
        assert_eq!([tokenizer.encode_text("the mill").unwrap(), rest.clone()].concat(), whole, "{case}");
        assert_eq!(tokenizer.decode_continuation(&rest).unwrap(), " by the river", "{case}");
        let word = tokenizer.encode_continuations(&["by"]).unwrap().remove(0);
        assert_eq!(tokenizer.decode_continuation(&word).unwrap(), "by", "{case}");
    }
}

#[test]
fn an_import_without_a_repair_is_its_file_again() {
    for case in CASES {
        let dir = converted(case);
        let like = golden(&format!("{case}.gguf"));
        let file = GgufFile::open(&like).unwrap();
        let conversion = Conversion::plan(&file).unwrap();
        let out = dir.path().join("new.gguf");
        Export::plan(&conversion, &dir.path().join("out"), &mut |_| {}).unwrap().write(&out, &mut |_| {}).unwrap();
        assert!(fs::read(&out).unwrap() == fs::read(&like).unwrap(), "{case}");
    }
}

#[test]
fn a_changed_norm_with_one_added_comes_back_as_the_sum_says() {
    let dir = converted("gemma2");
    let weights = dir.path().join("out/model.safetensors");
    let (mut bytes, name) = (fs::read(&weights).unwrap(), "model.layers.1.post_feedforward_layernorm.weight");
    let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
    let at = 8 + n_header + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    // The first is lost in the sum, the others are not.
    let new = [1e-9f32, 0.3, -0.7, 2.5];
    bytes[at..at + 16].copy_from_slice(&new.map(f32::to_le_bytes).concat());
    fs::write(&weights, bytes).unwrap();

    let file = GgufFile::open(&golden("gemma2.gguf")).unwrap();
    let conversion = Conversion::plan(&file).unwrap();
    let out = dir.path().join("new.gguf");
    Export::plan(&conversion, &dir.path().join("out"), &mut |_| {}).unwrap().write(&out, &mut |_| {}).unwrap();
    let written = GgufFile::open(&out).unwrap();
    let mut values = [0.0; 24];
    written.values().unwrap().read(&written.tensors()["blk.1.post_ffw_norm.weight"], 0, &mut values).unwrap();
    assert_eq!(values[..4], new.map(|weight| weight + 1.0));
}
