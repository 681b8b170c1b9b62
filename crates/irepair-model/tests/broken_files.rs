//! Broken and hostile checkpoint files: each complaint word by word.

use std::fs;
use std::path::Path;

use common::{files, model, shard};
use irepair_core::Diagnose;
use irepair_model::CausalLm;
use tch::{Device, Kind, Tensor};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

/// A saved GPT-2 to break.
fn victim() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model("gpt2").save(dir.path()).unwrap();
    dir
}

/// What loading says, with the directory's own path taken out.
fn complaint(dir: &Path) -> String {
    match CausalLm::load(dir, Device::Cpu, Kind::Float) {
        Ok(_) => panic!("loaded"),
        Err(error) => error
            .diagnostic()
            .to_string()
            .replace(&format!("{}/", dir.display()), "")
            .replace(&dir.display().to_string(), "DIR"),
    }
}

fn rewrite(dir: &Path, change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>)) {
    let path = dir.join("model.safetensors");
    let (mut tensors, metadata) = irepair_model::read_tensors(&path).unwrap();
    change(&mut tensors);
    let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
    irepair_model::write_tensors(&path, &tensors, metadata).unwrap();
}

const FETCH: &str = "\n help: get the file again, then compare its size";

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let dir = victim();
    rewrite(dir.path(), |tensors| {
        let transposed = tensors["transformer.h.1.attn.c_attn.weight"].tr().contiguous();
        tensors.insert("transformer.h.1.attn.c_attn.weight".into(), transposed);
    });
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint tensor has the wrong shape\n   at: model.safetensors, tensor \
         `transformer.h.1.attn.c_attn.weight`\n want: [16, 48]    got: [48, 16]\n help: config.json and the weights \
         belong to different models, or a projection was stored transposed"
    );
}

#[test]
fn missing_tensors_are_all_named() {
    let dir = victim();
    rewrite(dir.path(), |tensors| drop(tensors.remove("transformer.h.0.ln_2.bias")));
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint lacks a tensor\n   at: DIR, tensor `h.0.ln_2.bias`\n help: the files do not hold the model \
         that config.json describes: a shard or the right config is missing"
    );
    rewrite(dir.path(), |tensors| tensors.retain(|name, _| !name.contains(".h.1.") || name.ends_with("ln_1.bias")));
    let said = complaint(dir.path());
    let want = "error: checkpoint lacks 12 tensors\n   at: DIR, tensors `h.0.ln_2.bias`, `h.1.ln_1.weight`, \
                `h.1.ln_2.weight`, `h.1.ln_2.bias`, `h.1.attn.c_attn.weight`, `h.1.attn.c_attn.bias`, ";
    assert!(said.starts_with(want) && said.contains("`h.1.mlp.c_proj.bias`\n help:"), "{said}");
}

#[test]
fn a_tensor_stored_twice_is_refused() {
    let dir = victim();
    rewrite(dir.path(), |tensors| {
        let again = tensors["transformer.ln_f.bias"].copy();
        tensors.insert("ln_f.bias".to_owned(), again);
    });
    let said = complaint(dir.path());
    assert!(said.starts_with("error: file cannot be read: tensor `") && said.contains("ln_f.bias` is stored twice"));
}

#[test]
fn a_type_we_do_not_read_is_named() {
    let dir = victim();
    let path = dir.path().join("model.safetensors");
    let header = r#"{"transformer.ln_f.bias":{"dtype":"F64","shape":[16],"data_offsets":[0,128]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 128]);
    fs::write(path, bytes).unwrap();
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint tensor has an unsupported type\n   at: model.safetensors, tensor `transformer.ln_f.bias`\n \
         want: F32, F16 or BF16    got: F64\n help: re-save the checkpoint in one of those types"
    );
}

#[test]
fn what_is_no_weights_file_is_called_by_its_name() {
    let dir = victim();
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n".to_vec();
    let short = "its size is not what its header says: a copy or download was cut short";
    let page = "an HTML or XML page, not the file itself: the download failed";
    let pickle = "a pickle checkpoint under another name";
    for (bytes, reason) in [
        (lfs, "a git-lfs pointer, not the file itself: fetch the large file"),
        (b"<!DOCTYPE html><html>404</html>".to_vec(), page),
        (b"\n  <?xml version=\"1.0\"?>".to_vec(), page),
        (b"PK\x03\x04 archive/data.pkl".to_vec(), pickle),
        (b"\x80\x02}q\x00(X\x0a".to_vec(), pickle),
        (whole[..whole.len() - 1].to_vec(), short),
        (whole[..whole.len() / 2].to_vec(), short),
        (whole[..40].to_vec(), "not a safetensors file: invalid header length"),
        (whole[..5].to_vec(), "not a safetensors file: header too small"),
        (vec![], "the file is empty"),
        ([u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(), "not a safetensors file: header too large"),
    ] {
        fs::write(&path, bytes).unwrap();
        let want = format!("error: file cannot be read: {reason}\n   at: model.safetensors{FETCH}");
        assert_eq!(complaint(dir.path()), want);
    }
}

#[test]
fn a_pickle_alone_is_not_opened() {
    let dir = victim();
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin")).unwrap();
    assert_eq!(
        complaint(dir.path()),
        "error: pickle checkpoints can run code when opened and are not read\n   at: pytorch_model.bin\n help: where you \
         trust the file, write it as safetensors with transformers: \
         AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR); then copy the tokenizer's files"
    );
}

#[test]
fn a_missing_file_is_named_with_what_a_model_directory_holds() {
    let help = "\n help: give a Hugging Face model directory: config.json, model.safetensors (or shards with \
                model.safetensors.index.json) and tokenizer.json";
    let dir = victim();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(complaint(dir.path()), format!("error: file is missing\n   at: model.safetensors{help}"));
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_eq!(complaint(dir.path()), format!("error: file is missing\n   at: config.json{help}"));

    let dir = victim();
    shard(dir.path());
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let want = "error: 1 of 2 shards are missing\n   at: model.safetensors.index.json, model-00002-of-00002.safetensors\n help: \
                the download or copy was cut short: fetch the missing files";
    assert_eq!(complaint(dir.path()), want);
}

#[test]
fn an_index_cannot_reach_outside_its_directory() {
    let dir = victim();
    let outside = dir.path().parent().unwrap().join("x.safetensors");
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let at = format!("\n   at: model.safetensors.index.json{FETCH}");
    for name in ["../x.safetensors", "/etc/x.safetensors", "a/x.safetensors", "..", "", "x.bin"] {
        fs::write(&index, serde_json::json!({"weight_map": {"wte.weight": name}}).to_string()).unwrap();
        let reason = format!("shard name `{name}` is not a safetensors file of this directory");
        assert_eq!(complaint(dir.path()), format!("error: file cannot be read: {reason}{at}"));
        assert!(!outside.exists());
    }
    for (text, reason) in [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", "no `weight_map`"),
        (r#"{"weight_map": {}}"#, "`weight_map` is empty"),
        (r#"{"weight_map": {"wte.weight": 7}}"#, "shard name `` is not a safetensors file of this directory"),
    ] {
        fs::write(&index, text).unwrap();
        assert_eq!(complaint(dir.path()), format!("error: file cannot be read: {reason}{at}"));
    }
}

#[test]
fn a_shape_past_all_numbers_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    for shape in ["[0,18446744073709551615]", "[9223372036854775807,0,3]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
        let error = irepair_model::read_tensors(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            "file cannot be read: tensor `a` has no values and a shape past all numbers",
            "{shape}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_linked_shard_is_followed_and_must_be_a_weights_file() {
    use std::os::unix::fs::symlink;

    // Download caches hold their files elsewhere and link to them.
    let (dir, elsewhere) = (victim(), victim());
    let weights = dir.path().join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    symlink(elsewhere.path().join("model.safetensors"), &weights).unwrap();
    assert!(CausalLm::load(dir.path(), Device::Cpu, Kind::Float).is_ok());

    fs::remove_file(&weights).unwrap();
    fs::write(elsewhere.path().join("secret"), "user:password\n").unwrap();
    symlink(elsewhere.path().join("secret"), &weights).unwrap();
    let said = complaint(dir.path());
    assert!(said.starts_with("error: file cannot be read: not a safetensors file: "), "{said}");
    assert!(!said.contains("password"), "what lies elsewhere is not shown: {said}");
}

#[test]
fn other_things_in_the_place_of_the_config_are_named() {
    let dir = victim();
    for (text, reason) in [
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "a git-lfs pointer, not the file itself: fetch the large file",
        ),
        ("<!doctype html>", "an HTML or XML page, not the file itself: the download failed"),
        ("", "the file is empty"),
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
    ] {
        fs::write(dir.path().join("config.json"), text).unwrap();
        let want = format!("error: file cannot be read: {reason}\n   at: config.json{FETCH}");
        assert_eq!(complaint(dir.path()), want);
    }
    fs::write(dir.path().join("config.json"), "[".repeat(1_000_000)).unwrap();
    assert!(complaint(dir.path()).contains("not JSON: recursion limit exceeded"));
}

#[test]
fn a_config_we_cannot_compute_is_refused_by_key() {
    let dir = victim();
    let path = dir.path().join("config.json");
    let original: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut config = original.clone();
        config[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        complaint(dir.path())
    };
    let said = with("model_type", "t5".into());
    assert!(
        said.starts_with("error: unsupported model setting\n   at: config.json, key `model_type`\n want: one of gpt2,")
    );
    assert!(
        said.ends_with(
            "got: \"t5\"\n help: docs/FILES.md lists the model families and the settings that are supported"
        )
    );
    for (key, value, want) in [
        ("n_head", 3.into(), "want: a divisor of 16    got: 3"),
        (
            "n_layer",
            1_000_000_000_000_000_000_u64.into(),
            "a whole number of 1 to 16777216    got: 1000000000000000000",
        ),
        ("n_layer", 1e18.into(), "got: 1e+18"),
        ("n_layer", 10_001.into(), "want: at most 10000 blocks    got: 10001"),
        ("vocab_size", u64::MAX.into(), "got: 18446744073709551615"),
        ("n_embd", 0.into(), "want: a whole number of 1 to 16777216    got: 0"),
        ("n_positions", (1_u64 << 40).into(), "want: a whole number of 1 to 16777216    got: 1099511627776"),
        ("vocab_size", serde_json::Value::Null, "want: a whole number of 1 to 16777216    got: null"),
        ("activation_function", "mish".into(), "got: \"mish\""),
        ("tie_word_embeddings", "yes".into(), "want: true or false    got: \"yes\""),
        ("layer_norm_epsilon", (-1.0).into(), "want: a number of at least 0    got: -1.0"),
        // transformers lets these names win over its own, so two values are two models.
        ("hidden_size", 32.into(), "want: the value of `n_embd`, 16    got: 32"),
        ("num_hidden_layers", 3.into(), "want: the value of `n_layer`, 2    got: 3"),
        ("add_cross_attention", true.into(), "want: false    got: true"),
        (
            "quantization_config",
            serde_json::json!({"bits": 4}),
            "want: weights that are not quantised    got: {\"bits\":4}",
        ),
        ("pruned_heads", serde_json::json!({"0": [1]}), "want: no pruned attention heads"),
        ("per_layer_config", serde_json::json!({"0": {}}), "want: the same settings for every block"),
        ("auto_map", serde_json::json!({"AutoModel": "x.Y"}), "want: a model without code of its own"),
        // transformers reads the file that is named, and gives other logits.
        ("transformers_weights", "other.safetensors".into(), "want: model.safetensors or model.safetensors.index.json"),
        ("configuration_files", serde_json::json!(["config.4.0.0.json"]), "want: no other file of settings"),
    ] {
        let said = with(key, value);
        assert!(said.contains(&format!("key `{key}`")) && said.contains(want), "{said}");
    }
    fs::write(&path, "[1]").unwrap();
    assert!(complaint(dir.path()).starts_with("error: file cannot be read: not a JSON object\n   at: config.json"));
}

#[test]
fn a_broken_load_leaves_the_files_as_they_were() {
    let dir = victim();
    fs::write(dir.path().join("model.safetensors"), b"version https://git-lfs").unwrap();
    let before = files(dir.path());
    complaint(dir.path());
    assert!(files(dir.path()) == before);
}
