//! `irepair import` and `irepair export` as a user meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn import(dir: &Path, args: &str) -> Output {
    run(dir, &format!("import {args}"))
}

#[test]
fn a_gguf_file_becomes_a_directory_once() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
    fs::copy(gguf, dir.path().join("model.gguf")).unwrap();

    let output = import(dir.path(), "model.gguf --out model");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let want = "name: tiny smollm\nlicence: not stated\nmodel: llama, 2 blocks, 0.0 million weights, tied head\n\
                tensors: 10 F32, 5 Q4_1, 5 Q8_0, written as F32\ntokenizer: 308 tokens, pre-tokenizer smollm\n\
                adds a begin-of-text token: no\nchat template: yes\nwritten to: model\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), want);
    let mut names: Vec<String> = fs::read_dir(dir.path().join("model"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let want =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names, want);

    let output = import(dir.path(), "model.gguf --out model");
    assert_eq!(output.status.code(), Some(2));
    let want = "error: output is there already\n   at: model\n help: give a new or empty path: existing files are never overwritten\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), want);

    let json = import(dir.path(), "model.gguf --out other --json").stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((json["model"].as_str(), json["n_tensors"].as_u64()), (Some("other"), Some(20)));

    fs::write(dir.path().join("page.gguf"), "<html>").unwrap();
    let output = import(dir.path(), "page.gguf --out page");
    assert_eq!((output.status.code(), dir.path().join("page").exists()), (Some(4), false));
}

#[test]
fn a_directory_becomes_a_gguf_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
    fs::copy(gguf, dir.path().join("model.gguf")).unwrap();
    assert!(import(dir.path(), "model.gguf --out model").status.success());

    let output = run(dir.path(), "export model --like model.gguf --out same.gguf");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let want = "tensors copied: 20\ntensors changed: none\nsize: 0.0 million bytes\nwritten to: same.gguf\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), want);
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("same.gguf") == read("model.gguf"), "nothing was repaired");

    // The same command again, after it had finished.
    assert!(run(dir.path(), "export model --like model.gguf --out same.gguf").status.success());
    // The last byte of the weights is the sign and the exponent of a value.
    let mut weights = read("model/model.safetensors");
    *weights.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("model/model.safetensors"), weights).unwrap();
    let json = run(dir.path(), "export model --like model.gguf --out new.gguf --json").stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((json["file"].as_str(), json["n_copied"].as_u64()), (Some("new.gguf"), Some(19)));
    assert!(import(dir.path(), "new.gguf --out again").status.success());
    for out in ["same.gguf", "model.gguf", "model"] {
        let output = run(dir.path(), &format!("export model --like model.gguf --out {out}"));
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains("output is there already"));
    }
}

#[test]
fn the_directory_of_an_export_may_be_a_name_of_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
    fs::copy(gguf, dir.path().join("model.gguf")).unwrap();
    assert!(import(dir.path(), "model.gguf --out hub/models--me--tiny/snapshots/abc").status.success());
    let export = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
        let args = format!("export {name} --like model.gguf --out new.gguf");
        command.current_dir(dir.path()).args(args.split_whitespace()).env("HF_HUB_CACHE", dir.path().join("hub"));
        command.output().unwrap()
    };
    let output = export("me/other");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stderr).unwrap().contains("hf download me/other"));
    for name in ["me/tiny", "me/tiny@abc"] {
        let output = export(name);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(dir.path().join("new.gguf")).unwrap() == fs::read(dir.path().join("model.gguf")).unwrap());
    }
}
