//! What earlier commands left, and files that are in the way: nothing is lost, mixed or called made that is not there.

use std::fs;
use std::process::Command;

use crate::{REPAIR, irepair, refused, workshop};

#[test]
fn a_report_replaces_an_earlier_report_and_nothing_else() {
    let home = workshop();
    let dir = home.path();
    let check = |junit: &str| refused(&irepair(dir, &format!("check --model base --suite nosuch --junit {junit}")), 4);
    let refused_over = |path: &str| {
        let before = fs::read(dir.join(path)).unwrap();
        let said = refused(&irepair(dir, &format!("check --model base --suite nosuch --junit {path}")), 2);
        assert!(said.contains("output is there already") && !said.contains("--out"), "{said}");
        assert_eq!(fs::read(dir.join(path)).unwrap(), before, "{path}");
    };
    refused_over("pairs.jsonl");
    refused_over("base/model.safetensors");
    let begin = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"irepair check\" tests=\"1\">";
    fs::write(dir.join("report.xml"), begin).unwrap();
    check("report.xml");
    assert!(!dir.join("report.xml").exists(), "a report of an earlier model does not stand for a check that stopped");
    assert!(Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap().success());
    check("pipe");
    assert!(dir.join("pipe").exists(), "a pipe is written to, and never removed");
}

#[test]
fn what_one_command_has_begun_no_other_finishes() {
    let home = workshop();
    let dir = home.path();
    let plant = |model: &str| format!("plant --model {model} --units 0 --operator sign-flip --out out");
    fs::create_dir(dir.join("out")).unwrap();
    fs::write(dir.join("words.txt"), "grubnik\n").unwrap();
    fs::write(dir.join("prompts.jsonl"), "{\"prompt\":\"Anna met\"}\n".repeat(3)).unwrap();
    let mark = dir.join("out/.irepair-unfinished");
    let refuses = |args: &str, begun: &str| {
        fs::write(&mark, begun).unwrap();
        let said = refused(&irepair(dir, args), 2);
        assert!(said.contains("another command has begun") && said.contains(begun), "{said}");
    };
    let base = dir.join("base").canonicalize().unwrap();
    let of_plant = format!("a copy of {} with fault.toml", base.display());
    let repair = format!("{REPAIR} --steps 1 --out out");
    refuses(&repair, &of_plant);
    refuses("pairs --model base --prompts prompts.jsonl --judge words:words.txt --out out", "irepair repair");
    // Without --threads, which planting does not take.
    let without = |args: &str| crate::command(dir, args).output().unwrap();
    fs::write(&mark, "a copy of another with fault.toml").unwrap();
    assert!(refused(&without(&plant("base")), 2).contains("a copy of another"));
    fs::write(&mark, &of_plant).unwrap();
    assert!(without(&plant("base")).status.success(), "its own");
    assert!(!mark.exists());
    fs::remove_dir_all(dir.join("out")).unwrap();
    fs::create_dir(dir.join("out")).unwrap();
    fs::write(&mark, "").unwrap();
    assert!(irepair(dir, &repair).status.success(), "of a version whose mark names no maker");
}

#[test]
fn pairs_that_were_moved_away_are_not_said_to_be_made() {
    let home = workshop();
    let dir = home.path();
    let prompts: String = (0..12).map(|i| format!("{{\"prompt\":\"{i}. Anna met\"}}\n")).collect();
    fs::write(dir.join("prompts.jsonl"), prompts).unwrap();
    fs::write(dir.join("judge.regex"), "[a-m]\n").unwrap();
    let args = "pairs --model base --prompts prompts.jsonl --judge regex:judge.regex --out pairs --samples 4 --more-samples 0 --max-new-tokens 2";
    assert!(irepair(dir, args).status.success());
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said(&irepair(dir, args)).contains("made before"));
    let pairs = dir.join("pairs/pairs.jsonl");
    let before = fs::read_to_string(&pairs).unwrap();
    fs::write(&pairs, before.clone() + &before).unwrap();
    assert!(said(&irepair(dir, args)).contains("made before"), "pairs that were worked on stay");
    fs::rename(&pairs, dir.join("elsewhere.jsonl")).unwrap();
    assert!(refused(&irepair(dir, args), 2).contains("pairs/pairs.jsonl"));
    fs::rename(dir.join("elsewhere.jsonl"), &pairs).unwrap();
    let test = dir.join("pairs/prompts.test.jsonl");
    fs::write(&test, "").unwrap();
    assert!(refused(&irepair(dir, args), 2).contains("prompts.test.jsonl"));
}

#[test]
fn small_mistakes_are_refused_by_name() {
    let home = workshop();
    let dir = home.path();
    fs::write(dir.join("prompt.jsonl"), "{\"prompt\":\"They \\u001b[2J say\\rX\"}\n").unwrap();
    let shown = irepair(dir, "generate --model base --prompts prompt.jsonl --max-new-tokens 2").stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("They \\u{1b}[2J say\\rX") && !shown.contains('\u{1b}'), "{shown}");

    let copy = |name: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        for file in fs::read_dir(dir.join("base")).unwrap().flatten() {
            fs::copy(file.path(), dir.join(name).join(file.file_name())).unwrap();
        }
    };
    copy("marked");
    let config = fs::read_to_string(dir.join("marked/config.json")).unwrap();
    fs::write(dir.join("marked/config.json"), format!("\u{feff}{config}")).unwrap();
    let said = refused(&irepair(dir, "score --model marked --input texts.jsonl"), 4);
    assert!(said.contains("byte order mark"), "{said}");

    copy("changed");
    let create = "patch create --base base --repaired changed --out a.patch --blocks";
    let without = |args: &str| crate::command(dir, args).output().unwrap();
    let said = refused(&without(&format!("{create} 0,77")), 2);
    assert!(said.contains("no unit `77`") && said.contains("blocks 0 to 1"), "{said}");

    let said = refused(&irepair(dir, &format!("{REPAIR} --steps 1 --max-utility 1 --out o")), 2);
    assert!(said.contains("max_utility") && said.contains("at least 2"), "{said}");
    fs::write(dir.join("words.txt"), "grubnik\n").unwrap();
    let relearn = "relearn --model base --texts texts.jsonl --prompts prompt.jsonl --lexicon words.txt --counts 1 --max-tokens 1000";
    let said = refused(&irepair(dir, relearn), 2);
    assert!(said.contains("max_tokens") && said.contains("2 to 48 tokens"), "{said}");
    let said = refused(&irepair(dir, "score --model base/moved --input texts.jsonl"), 4);
    assert!(!said.contains("download"), "{said}");
}
