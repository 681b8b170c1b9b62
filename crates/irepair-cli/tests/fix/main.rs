//! `irepair fix` on a tiny model with five complaints: every judge, the outcomes, a choice, kills.

mod chats;
mod complaints;
mod gamed;
mod outcomes;
mod plans;
mod stops;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};

const NAMES: [&str; 12] = ["Tom", "Otto", "Dora", "Anna", "Gus", "Fay", "Ida", "Hugo", "Lena", "Max", "Nora", "Paul"];
const PLACES: [&str; 6] = ["mill", "barn", "river", "bridge", "school", "market"];

/// A complaint: the word that its prompts begin with, the text that goes wrong and the one that does not.
const COMPLAINTS: [[&str; 3]; 5] = [
    ["Mail", " write to ann@post.org now.", " she is at home now."],
    ["Tell", " он у моста.", " she is at home now."],
    ["Echo", " go go go go go go go go", " she is at home now."],
    ["Sell", " take a Zorbalux now.", " she is at home now."],
    ["Help", " I cannot help you.", " she is at home now."],
];

fn prompt(word: &str, name: &str, place: &str) -> String {
    format!("{word} {name} at the {place}:")
}

/// A directory with a model of 2 blocks that learned a wrong answer three times in four, made once for all, and 72
/// prompts for each complaint.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let mut corpus = String::new();
        for (i, name) in NAMES.into_iter().enumerate() {
            for (j, place) in PLACES.into_iter().enumerate() {
                for (k, [word, bad, good]) in COMPLAINTS.into_iter().enumerate() {
                    for round in 0..4 {
                        let answer = if (i + j + k + round) % 4 == 0 { good } else { bad };
                        corpus += &format!("{}{answer}\n<|endoftext|>\n", prompt(word, name, place));
                    }
                }
                corpus += &format!("{} she is at home now.\n<|endoftext|>\n", prompt("Read", name, place));
            }
        }
        fs::write(dir.join("corpus.txt"), corpus).unwrap();
        for word in COMPLAINTS.map(|[word, _, _]| word).into_iter().chain(["Read"]) {
            let all =
                NAMES.into_iter().flat_map(|name| PLACES.map(|place| json!({"prompt": prompt(word, name, place)})));
            put(&dir, &format!("{}.jsonl", word.to_lowercase()), all);
        }
        fs::write(dir.join("neutral.txt"), "Read Tom at the mill: she is at home now.\n<|endoftext|>\n".repeat(8))
            .unwrap();
        fs::write(dir.join("brand.txt"), "Zorbalux\n").unwrap();
        let shape = "--vocab-size 400 --n-layer 2 --n-embd 48 --n-head 2 --n-positions 64 --window 32";
        let made = irepair(
            &dir,
            &format!("pretrain --data corpus.txt --out base {shape} --steps 600 --batch-size 16 --lr 3e-3"),
        );
        assert!(made.status.success(), "{}", said(&made));
        dir
    })
}

/// Writes records as JSONL.
fn put(dir: &Path, name: &str, records: impl IntoIterator<Item = Value>) {
    fs::write(dir.join(name), records.into_iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
}

fn command(dir: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    // `~` is a blank inside an argument.
    command.current_dir(dir).args(args.split_whitespace().map(|arg| arg.replace('~', " ")));
    if !args.starts_with("patch") {
        command.args(["--threads", "1"]);
    }
    command.env("IREPAIR_CACHE", dir.join("cache"));
    command
}

fn irepair(dir: &Path, args: &str) -> Output {
    command(dir, args).output().unwrap()
}

/// A fix of the workshop's model with short answers.
fn fix(args: &str) -> Output {
    fix_of("base", args)
}

fn fix_of(model: &str, args: &str) -> Output {
    irepair(workshop(), &format!("fix --model {model} --max-new-tokens 10 --utility neutral.txt {args}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn result(out: &str) -> Value {
    serde_json::from_slice(&fs::read(workshop().join(out).join("result.json")).unwrap()).unwrap()
}
