//! What a directory says that versions of transformers, or other people on the machine, would take otherwise.

use super::models::with_keys;
use super::*;

#[test]
fn a_class_that_transformers_5_rebuilds_is_said() {
    let stderr = |keys: Value| {
        with_keys("classed", "tokenizer_config.json", keys);
        said(&irepair(
            workshop(),
            "generate --model classed --prompts prompts.jsonl --max-new-tokens 2 --prompt-tokens 8",
        ))
    };
    let plain = stderr(json!({"tokenizer_class": "GPT2Tokenizer"}));
    assert!(!plain.contains("transformers"), "{plain}");
    let other = stderr(json!({"tokenizer_class": "Qwen2Tokenizer", "clean_up_tokenization_spaces": true}));
    assert!(
        other.contains("tokenizer_config.json: transformers 5 rebuilds tokenizers of class `Qwen2Tokenizer`"),
        "{other}"
    );
    assert!(other.contains("clean_up_tokenization_spaces is true"), "{other}");
}

#[test]
#[cfg(unix)]
fn what_is_made_of_a_private_model_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let private = with_keys("private", "tokenizer_config.json", json!({}));
    let weights = private.join("model.safetensors");
    let made = |out: &str| {
        let args = "--pairs pairs.jsonl --method dapt --steps 1 --n-validation 0 --max-prompt 8 --max-continuation 8";
        succeed(&irepair(workshop(), &format!("repair --model private --out {out} {args}")));
        succeed(&irepair(workshop(), &format!("patch create --base private --repaired {out} --out {out}.patch")));
        let files = fs::read_dir(workshop().join(out)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.is_file() && !path.ends_with("run.lock")).collect();
        files.push(workshop().join(format!("{out}.patch")));
        files
    };
    fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&weights, fs::Permissions::from_mode(0o600)).unwrap();
    for path in made("private-out") {
        let has_weights = path.extension().is_some_and(|end| end == "safetensors" || end == "patch");
        assert!(!has_weights || mode(&path) == 0o600, "{} {:o}", path.display(), mode(&path));
    }
    fs::set_permissions(&weights, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(mode(&workshop().join("private-out/model.safetensors")), 0o600);
    let public = made("public-out").into_iter().find(|path| path.ends_with("model.safetensors")).unwrap();
    let ordinary = workshop().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    assert_eq!(mode(&public), mode(&ordinary));
}
