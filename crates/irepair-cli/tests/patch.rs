//! Patch files as a user meets them: a tiny model is repaired with `--patch`, and the patch alone does and undoes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// A directory with a tiny base model, a repair of it and the patch, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let documents: Vec<String> =
            (0..60).map(|i| format!("Anna met {} at the mill.", ["Tom", "Otto", "Dora"][i % 3])).collect();
        fs::write(dir.join("corpus.txt"), documents.join("\n<|endoftext|>\n") + "\n<|endoftext|>\n").unwrap();
        let pair = "{\"prompt\":\"Tom said:\",\"chosen\":\" good day, Anna.\",\"rejected\":\" you grubnik.\"}\n";
        fs::write(dir.join("pairs.jsonl"), pair.repeat(24)).unwrap();
        let shape = "--vocab-size 300 --n-layer 3 --n-embd 16 --n-head 2 --n-positions 48 --window 24";
        let flags = format!("{shape} --steps 2 --batch-size 4 --lr 1e-2 --threads 1");
        succeed(&irepair(&dir, &format!("pretrain --data corpus.txt --out base {flags}")));
        succeed(&irepair(&dir, &format!("{REPAIR} --out repaired --patch fix.safetensors")));
        dir
    })
}

const REPAIR: &str = "repair --model base --pairs pairs.jsonl --method irepair-no-kl --policy cyclic --policy-every 2 \
                      --steps 4 --n-validation 4 --lr 1e-2 --warmup-steps 1 --max-prompt 16 --max-continuation 16 \
                      --seed 5 --threads 1";

fn irepair(dir: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_irepair")).current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&succeed(output)).unwrap()
}

/// The exit code and the error of a command that failed.
fn refuse(output: &Output) -> (i32, String) {
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = stderr.find("error:").unwrap_or_else(|| panic!("no error in {stderr}"));
    (output.status.code().unwrap(), stderr[start..].trim_end().to_owned())
}

/// Every file of a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_repairs_patch_makes_the_repaired_weights_and_gives_the_base_back() {
    let dir = workshop();
    let weights = |of: &str| fs::read(dir.join(of).join("model.safetensors")).unwrap();
    succeed(&irepair(dir, "patch apply --base base --patch fix.safetensors --out patched"));
    assert!(weights("patched") == weights("repaired"), "apply gives what --out holds, byte for byte");
    assert!(weights("patched") != weights("base"), "the repair changed something");

    let report = json(&irepair(dir, "patch revert --model patched --patch fix.safetensors --out restored --json"));
    assert_eq!(report["model"], "base");
    assert!(files(&dir.join("restored")) == files(&dir.join("base")), "revert gives every file back");

    // Weights written by `repair --out` itself go back as well.
    succeed(&irepair(dir, "patch revert --model repaired --patch fix.safetensors --out restored-2"));
    assert!(weights("restored-2") == weights("base"));
    // The patched model is a model.
    succeed(&irepair(dir, "score --model patched --input corpus.txt --threads 1"));
}

#[test]
fn a_repairs_patch_says_how_it_was_made() {
    let dir = workshop();
    let shown = json(&irepair(dir, "patch show --patch fix.safetensors --json"));
    let made = &shown["provenance"];
    assert_eq!(
        (&made["method"], &made["policy"], &made["seed"]),
        (&"irepair-no-kl".into(), &"cyclic".into(), &5.into())
    );
    assert_eq!(shown["kind"], "xor");
    let settings = irepair_core::fs::sha256_file(&dir.join("repaired/repair.toml")).unwrap();
    assert_eq!(made["config_sha256"], settings);
    // Blocks as the step log has them, and no tensor of another block.
    let log = fs::read_to_string(dir.join("repaired/metrics.jsonl")).unwrap();
    let slices = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["slice"].clone());
    let mut blocks: Vec<u64> =
        slices.flat_map(|s| s.as_array().unwrap().iter().map(|b| b.as_u64().unwrap()).collect::<Vec<_>>()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(made["blocks"], serde_json::json!(blocks));
    assert!(blocks.len() == 2, "four steps of which every two keep their block: {blocks:?}");
    let changed = shown["changed"].as_array().unwrap();
    assert!(!changed.is_empty());
    for tensor in changed {
        let name = tensor.as_str().unwrap();
        assert!(blocks.iter().any(|b| name.contains(&format!("h.{b}."))), "{name} is in none of {blocks:?}");
    }
    let text = succeed(&irepair(dir, "patch show --patch fix.safetensors"));
    assert!(text.contains("method: irepair-no-kl\npolicy: cyclic\nconfig sha256: "), "{text}");
    assert!(text.contains("\nseed: 5\n"), "{text}");
}

#[test]
fn verify_tells_the_base_from_the_result_and_fails_on_others() {
    let dir = workshop();
    let verify = |model: &str| irepair(dir, &format!("patch verify --model {model} --patch fix.safetensors"));
    assert_eq!(succeed(&verify("base")), "base is the base of fix.safetensors\n");
    assert_eq!(succeed(&verify("repaired")), "repaired is the result of fix.safetensors\n");

    let other = dir.join("other");
    fs::create_dir_all(&other).unwrap();
    for (name, mut bytes) in files(&dir.join("base")) {
        if name == "model.safetensors" {
            *bytes.last_mut().unwrap() ^= 1;
        }
        fs::write(other.join(name), bytes).unwrap();
    }
    let (code, error) = refuse(&verify("other"));
    assert_eq!(code, 5, "{error}");
    assert!(error.starts_with("error: model is neither the base nor the result of this patch\n   at: other, tensor `"));
    let output = irepair(dir, "patch verify --model other --patch fix.safetensors --json");
    assert_eq!(output.status.code(), Some(5));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["model"], "neither");

    let (code, error) = refuse(&irepair(dir, "patch apply --base other --patch fix.safetensors --out never"));
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("not the base of this patch") && error.contains("want: sha256") && error.contains("help:"));
    assert!(!dir.join("never").exists(), "a refused command writes nothing");
}

#[test]
fn patches_are_created_and_composed_from_the_command_line() {
    let dir = workshop();
    succeed(&irepair(dir, &format!("{} --out again", REPAIR.replace("--model base", "--model repaired"))));
    fs::write(dir.join("before.json"), "{\"tox\": 0.5}").unwrap();
    let create = "patch create --base repaired --repaired again --out second.safetensors --parent fix.safetensors \
                  --method irepair-no-kl --blocks 2,0,2 --metrics-before before.json --settings again/repair.toml";
    let made = json(&irepair(dir, &format!("{create} --json")));
    let first = json(&irepair(dir, "patch show --patch fix.safetensors --json"));
    assert_eq!(made["provenance"]["parent"], first["id"]);
    assert_eq!(made["provenance"]["blocks"], serde_json::json!([0, 2]));
    assert_eq!(made["provenance"]["metrics_before"]["tox"], 0.5);
    assert_eq!(made["base_id"], first["result_id"]);

    succeed(&irepair(dir, "patch compose --first fix.safetensors --second second.safetensors --out both.safetensors"));
    succeed(&irepair(dir, "patch apply --base base --patch both.safetensors --out far"));
    let weights = |of: &str| fs::read(dir.join(of).join("model.safetensors")).unwrap();
    assert!(weights("far") == weights("again"));

    let (code, error) =
        refuse(&irepair(dir, "patch compose --first second.safetensors --second fix.safetensors --out no"));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("the other way round"), "{error}");
    let (code, error) =
        refuse(&irepair(dir, "patch create --base base --repaired again --out no --parent fix.safetensors"));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("parent patch does not lead to the base model"), "{error}");
    assert!(!dir.join("no").exists());
}

#[test]
fn each_kind_of_bad_input_is_one_clear_error() {
    let dir = workshop();
    fs::write(dir.join("cut.safetensors"), &fs::read(dir.join("fix.safetensors")).unwrap()[..900]).unwrap();
    let replaced = "patch create --base base --repaired repaired --kind replace --out replace.safetensors";
    succeed(&irepair(dir, replaced));
    for (args, code, words) in [
        ("patch show --patch none", 4, "file is missing"),
        ("patch show --patch cut.safetensors", 4, "cut short"),
        ("patch show --patch base/model.safetensors", 4, "file is not a patch"),
        ("patch apply --base base --patch fix.safetensors --out repaired", 2, "output is there already"),
        ("patch apply --base base --patch fix.safetensors --out base", 2, "output is there already"),
        ("patch apply --base repaired --patch fix.safetensors --out x", 4, "the patch is applied here already"),
        ("patch revert --model repaired --patch replace.safetensors --out x", 2, "--base DIR"),
        ("patch create --base base --repaired repaired --out fix.safetensors", 2, "output is there already"),
        ("patch create --base base --repaired repaired --kind zip --out x", 2, "`zip` is not replace, xor or delta"),
    ] {
        let (got, error) = refuse(&irepair(dir, args));
        assert_eq!(got, code, "{args}: {error}");
        assert!(error.contains(words), "no `{words}` in\n{error}");
    }
    assert!(!dir.join("x").exists(), "a refused command writes nothing");

    // A patch is refused before the run it would come from, not after.
    let (code, error) = refuse(&irepair(dir, &format!("{REPAIR} --out late --patch fix.safetensors")));
    assert_eq!(code, 2, "{error}");
    assert!(!dir.join("late").exists());
}
