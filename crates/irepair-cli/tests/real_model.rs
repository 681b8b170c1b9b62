//! The figures of docs/recipes/real-model.md, measured again on the imported SmolLM2-135M-Instruct.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use irepair_data::Tokenizer;

fn directory(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("set {variable}")).into()
}

/// transformers 5.23 has a perplexity of 28.4322 and 68 of 200 last words on the same directory, texts and windows
/// (`parity/gguf/check.py`).
#[test]
#[ignore = "minutes: IREPAIR_SMOLLM2=DIR of the imported model, IREPAIR_TEXTS=DIR with wikitext2_raw.test.txt and lambada_test.jsonl"]
fn smollm2_has_the_perplexity_and_the_last_words_that_transformers_measures() {
    let (model, texts, dir) = (directory("IREPAIR_SMOLLM2"), directory("IREPAIR_TEXTS"), tempfile::tempdir().unwrap());
    let tokenizer = Tokenizer::load(&model).unwrap();
    let wikitext = fs::read_to_string(texts.join("wikitext2_raw.test.txt")).unwrap();
    // Ten windows of 1,024 tokens, as one text.
    let ids = tokenizer.encode(&wikitext).unwrap();
    let text = tokenizer.decode(&ids[..10_240]).unwrap();
    assert!(wikitext.starts_with(&text));
    fs::write(dir.path().join("wikitext.jsonl"), serde_json::json!({ "text": text }).to_string()).unwrap();
    let lambada = fs::read_to_string(texts.join("lambada_test.jsonl")).unwrap();
    let lambada: String = lambada.split_inclusive('\n').take(200).collect();
    fs::write(dir.path().join("lambada.jsonl"), lambada).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(&dir).args(["eval", "--wikitext", "wikitext.jsonl", "--lambada", "lambada.jsonl"]);
    command.args(["--window", "1024", "--batch-size", "2", "--json", "--model"]).arg(&model);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |key: &str| measured["metrics"][key]["value"].as_f64().unwrap();
    let perplexity = value("token_perplexity");
    assert!((perplexity - 28.4322).abs() < 0.005, "{perplexity}");
    assert_eq!(value("last_word_accuracy"), 34.0);
}
