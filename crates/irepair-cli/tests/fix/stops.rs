//! A fix that is killed, continued, and asked for another point: the same front, bit for bit.

#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::{command, fix, result, said, workshop};

const ARGS: &str = "--prompts help.jsonl --judge refuse.txt";

fn judge() {
    std::fs::write(workshop().join("refuse.txt"), "cannot\n").unwrap();
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn killed_anywhere_it_comes_to_the_same_end() {
    judge();
    let dir = workshop();
    let whole = fix(&format!("--out whole {ARGS}"));
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
    let args = format!("fix --model base --max-new-tokens 10 --utility neutral.txt --out killed {ARGS}");
    let mut n_kills = 0;
    // Killed at one point of writing after the other; irregular, so that all kinds of them are hit.
    for round in 0..120 {
        let at = format!("kill@{}", 20 + 37 * round % 90);
        let output = command(dir, &args).env("IREPAIR_FAULT", at).output().unwrap();
        if output.status.signal() != Some(9) {
            break;
        }
        n_kills += 1;
    }
    let last = fix(&format!("--out killed {ARGS}"));
    assert_eq!(last.status.code(), Some(0), "{}", said(&last));
    assert!((5..120).contains(&n_kills), "{n_kills}");
    // The patch names the file of settings, which names the directory.
    for name in ["result.json", "model/model.safetensors", "work/pairs.jsonl"] {
        let same = bytes(&dir.join("killed").join(name)) == bytes(&dir.join("whole").join(name));
        assert!(same, "{name} after {n_kills} kills");
    }
}

#[test]
fn another_point_is_taken_without_searching_again() {
    judge();
    let dir = workshop();
    let first = fix(&format!("--out choice {ARGS}"));
    assert_eq!(first.status.code(), Some(0), "{}", said(&first));
    let before = result("choice");
    let n = before["menu"].as_array().unwrap().len();
    let again = fix(&format!("--out choice {ARGS}"));
    assert!(said(&again).contains("made before from the same inputs"), "{}", said(&again));
    assert_eq!(result("choice"), before);
    let weights = dir.join("choice/model/model.safetensors");
    let was = bytes(&weights);
    std::fs::rename(dir.join("choice/model"), dir.join("deployed")).unwrap();
    let again = fix(&format!("--out choice {ARGS}"));
    assert!(!said(&again).contains("updates  "), "nothing is searched again: {}", said(&again));
    assert!(bytes(&weights) == was, "a model that was moved away is written again");
    assert_eq!(result("choice"), before);
    let too_far = fix(&format!("--out choice {ARGS} --choose {}", n + 1));
    assert_eq!(too_far.status.code(), Some(2), "{}", said(&too_far));
    let other = fix(&format!("--out choice {ARGS} --choose {n}"));
    assert!(!said(&other).contains("updates  "), "nothing is searched again: {}", said(&other));
    let after = result("choice");
    assert_eq!(
        (&after["points"], &after["menu"], after["chosen"].as_u64()),
        (&before["points"], &before["menu"], Some(n as u64 - 1))
    );
    let seed = fix(&format!("--out choice {ARGS} --seed 3"));
    assert_eq!(seed.status.code(), Some(2), "{}", said(&seed));
    assert!(said(&seed).contains("another `--seed`"), "{}", said(&seed));
    // Other prompts under the same name of a file are other prompts.
    let prompts = std::fs::read_to_string(dir.join("help.jsonl")).unwrap();
    let fewer: String = prompts.lines().skip(1).map(|line| format!("{line}\n")).collect();
    std::fs::write(dir.join("fewer.jsonl"), fewer).unwrap();
    let fewer = fix("--out choice --prompts fewer.jsonl --judge refuse.txt");
    assert_eq!(fewer.status.code(), Some(2), "{}", said(&fewer));
    assert!(said(&fewer).contains("another `--prompts`"), "{}", said(&fewer));
    // Nor does another judge continue from what is left where a stage was removed.
    std::fs::remove_file(dir.join("choice").join("work/before.json")).unwrap();
    std::fs::write(dir.join("refuse-more.txt"), "cannot\nwill\n").unwrap();
    let judge = fix("--out choice --prompts help.jsonl --judge refuse-more.txt");
    assert_eq!(judge.status.code(), Some(2), "{}", said(&judge));
    assert_eq!(result("choice"), after);
    assert!(dir.join("choice/model/config.json").exists() || after["verdict"] == "nothing_gained");
}
