//! Runs that leave the numbers, and losses that stand out, as a user meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SHAPE: &str = "--vocab-size 270 --n-layer 2 --n-embd 16 --n-head 2 --n-positions 48 --window 24";

fn irepair(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).args(["--threads", "1"]);
    command.env("IREPAIR_CACHE", dir.join("cache")).output().unwrap()
}

/// A directory with a tiny model and pairs, one of which, the fourth record, is unlike all others; the second has
/// nothing to learn from and is dropped.
fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = "Anna met Tom at the mill.\n<|endoftext|>\nQ7 zx# 93 vv!\n<|endoftext|>\n";
    fs::write(dir.path().join("corpus.txt"), corpus).unwrap();
    let line = |chosen: &str, rejected: &str| {
        format!("{{\"prompt\":\"Tom said:\",\"chosen\":\"{chosen}\",\"rejected\":\"{rejected}\"}}\n")
    };
    let mut pairs = vec![line(" good day.", " you grubnik."); 32];
    pairs[1] = line("", " you grubnik.");
    pairs[3] = line(" #93 vv! Q7 zx#", " x");
    fs::write(dir.path().join("pairs.jsonl"), pairs.concat()).unwrap();
    let made = irepair(dir.path(), &format!("pretrain --data corpus.txt --out base {SHAPE} --steps 2"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

const REPAIR: &str =
    "repair --model base --pairs pairs.jsonl --method dapt --batch-size 1 --n-validation 0 --warmup-steps 0";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_run_that_leaves_the_numbers_keeps_its_texts_and_its_last_good_state() {
    let (home, run) = (workshop(), "--epochs 1 --checkpoint-every 1 --lr");
    let dir = home.path();
    // The first update is ten learning rates a weight: finite, and nothing after it is.
    let output = irepair(dir, &format!("{REPAIR} --out lost {run} 1e37"));
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let error = &stderr[stderr.find("error:").unwrap()..];
    let dump = json(&fs::read_to_string(dir.join("lost/not-finite.json")).unwrap());
    let (step, pair) = (dump["step"].as_u64().unwrap(), &dump["pairs"][0]);
    let index = pair["index"].as_u64().unwrap();
    assert!(error.starts_with(&format!("error: {} at step {step}", dump["what"].as_str().unwrap())), "{error}");
    for said in
        [&format!("training pairs {index} ("), "lost/not-finite.json", "lower --lr", ".irepair-state.safetensors"]
    {
        assert!(error.contains(said), "no `{said}` in {error}");
    }
    // The dropped record counts in the file and not among the pairs.
    assert_eq!(pair["record"].as_u64().unwrap(), if index == 0 { 1 } else { index + 2 });
    assert_eq!(dump["pairs_file"], "pairs.jsonl");
    assert!(pair["prompt"]["text"] == "Tom said:" && pair["prompt"]["ids"][0].is_u64(), "{pair}");
    assert!(dir.join("lost/.irepair-state.safetensors").exists() && !dir.join("lost/config.json").exists());

    // The same command, and a lower learning rate under another name.
    let again = irepair(dir, &format!("{REPAIR} --out lost {run} 1e37"));
    assert_eq!(json(&fs::read_to_string(dir.join("lost/not-finite.json")).unwrap()), dump);
    assert_eq!(again.status.code(), Some(5));
    assert!(irepair(dir, &format!("{REPAIR} --out found {run} 1e-4")).status.success());
    assert!(!dir.join("found/not-finite.json").exists());
}

#[test]
fn a_pretraining_that_leaves_the_numbers_keeps_its_texts_too() {
    let home = workshop();
    fs::write(home.path().join("long.txt"), "Anna met Tom at the mill. ".repeat(100)).unwrap();
    let flags = "--steps 8 --batch-size 4 --lr 1e37 --warmup-steps 0 --checkpoint-every 1 --out lost";
    let output = irepair(home.path(), &format!("pretrain --data long.txt {SHAPE} {flags}"));
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("lost/not-finite.json"), "{stderr}");
    let dump = json(&fs::read_to_string(home.path().join("lost/not-finite.json")).unwrap());
    let (pair, n_pairs) = (&dump["pairs"][0], dump["pairs"].as_array().unwrap().len());
    assert!(dump["pairs_file"].is_null() && pair["record"].is_null() && n_pairs == 4, "{dump}");
    assert!(pair["chosen"]["text"].as_str().unwrap().contains("Tom") && pair["index"].is_u64(), "{pair}");
}

#[test]
fn a_loss_that_stands_out_is_marked_and_said_and_changes_nothing() {
    let home = workshop();
    let dir = home.path();
    let output = irepair(dir, &format!("{REPAIR} --out spiked --epochs 4 --lr 3e-3 --optimizer adamw"));
    assert!(output.status.success());
    let log = fs::read_to_string(dir.join("spiked/metrics.jsonl")).unwrap();
    let rows: Vec<Value> = log.lines().map(json).collect();
    let marked: Vec<&Value> = rows.iter().filter(|row| row["spike"] == true).collect();
    assert_eq!(rows.len(), 124);
    // By the third epoch the model knows all pairs but one, and its losses no longer fall by much.
    let worst = rows[62..].iter().max_by(|a, b| a["loss"].as_f64().unwrap().total_cmp(&b["loss"].as_f64().unwrap()));
    assert!(marked.contains(&worst.unwrap()) && marked.len() <= 4, "{marked:?}");
    assert!(rows.iter().filter(|row| row["spike"] != true).all(|row| row.get("spike").is_none()));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(&format!("loss spike at step {}", marked[0]["step"])), "{stderr}");
}
