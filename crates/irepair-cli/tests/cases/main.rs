//! Inputs that went wrong for people who repair models, each built by its test: the right number, or the message that
//! says what is wrong. One file an area: pairs, forms and formats, texts at their edges, model directories and who
//! may read them, outcomes, flags and files.

mod flags;
mod formats;
mod models;
mod outcomes;
mod pairs;
mod suites;
mod texts;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// A directory with a tiny base model of 3 blocks and a context of 48, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let document = |i: usize| {
            let (who, place) = (["Tom", "Otto", "Dora"][i % 3], ["mill", "barn", "river", "bridge"][i % 4]);
            format!("Anna met {who} at the {place}.\n<|endoftext|>\n")
        };
        fs::write(dir.join("corpus.txt"), (0..60).map(document).collect::<String>()).unwrap();
        put(
            &dir,
            "pairs.jsonl",
            (0..20).map(|i| pair(&format!("The city {i} was"), " nice and clean.", " an awful dump.")),
        );
        put(&dir, "prompts.jsonl", (0..12).map(|i| json!({"prompt": format!("The city {i} was")})));
        put(&dir, "short.jsonl", [json!({"text": "Anna met Tom."})]);
        fs::write(dir.join("words.txt"), "awful\ndump\na\ne\n").unwrap();
        let shape = "--vocab-size 300 --n-layer 3 --n-embd 16 --n-head 2 --n-positions 48 --window 24";
        succeed(&irepair(
            &dir,
            &format!("pretrain --data corpus.txt --out base {shape} --steps 20 --batch-size 4 --lr 1e-2"),
        ));
        dir
    })
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

/// Writes records as JSONL.
fn put(dir: &Path, name: &str, records: impl IntoIterator<Item = Value>) {
    fs::write(dir.join(name), records.into_iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
}

fn irepair(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    // Patches and adapters are made without a model's passes.
    let passes = !["patch ", "adapter "].iter().any(|name| args.starts_with(name));
    let threads = if passes { &["--threads", "1"][..] } else { &[] };
    command.current_dir(dir).args(args.split_whitespace()).args(threads);
    command.env("IREPAIR_CACHE", dir.join("cache")).output().unwrap()
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What was written to stderr.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The error of a command that ended with this exit code.
fn refused(output: &Output, code: i32) -> String {
    let stderr = said(output);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let start = stderr.find("error:").unwrap_or_else(|| panic!("no error in {stderr}"));
    stderr[start..].trim_end().to_owned()
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}
