//! Plans: what is printed is done, what cannot fit is refused before anything is done, and what no later choice needs
//! is not kept.

use std::fs;
use std::path::{Path, PathBuf};

use super::{fix, result, said, workshop};

/// Two numbers of the line that begins with `[2/7]` or follows it.
fn planned(said: &str) -> [usize; 2] {
    let line = said.lines().find(|line| line.contains("plan: ")).unwrap_or_else(|| panic!("{said}"));
    let number = |after: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.trim_end_matches([',', ';']) == after).unwrap();
        words[at - 1].parse().unwrap()
    };
    ["updates", "points"].map(number)
}

/// All files under a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn the_shortest_plan_is_followed_as_it_is_printed() {
    fs::write(workshop().join("short.txt"), "Zorbalux\n").unwrap();
    // No run is far over such a budget, so that none ends early.
    let output = fix("--out short --prompts sell.jsonl --judge short.txt --minutes 0.001 --budget-kl 9");
    let said = said(&output);
    assert!(matches!(output.status.code(), Some(0 | 6)), "{said}");
    assert!(said.contains("minutes are too few for the shortest plan"), "{said}");
    // 4 presets to 4 updates, 2 to 8, one to 16; a point every 4 updates and the one before the first.
    assert_eq!(planned(&said), [32, 9]);
    let found = result("short");
    assert_eq!(found["points"].as_array().unwrap().len(), 8, "the first one is not shown");
    let dir = workshop().join("short");
    let updates = |path: &PathBuf| -> usize {
        let track: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        track["selected"].as_array().unwrap().len()
    };
    let tracks: Vec<PathBuf> =
        files(&dir.join("work/runs")).into_iter().filter(|path| path.ends_with("track.json")).collect();
    assert_eq!(tracks.len(), 4);
    assert_eq!(tracks.iter().map(updates).sum::<usize>(), 32);
    assert!(fs::read_to_string(dir.join("report.html")).unwrap().contains("32 updates of all presets"));
    // Pairs: 3 samples of a prompt, the greedy answer where they gave none, and 6 more where that gave none.
    let n_own = found["n_prompts"][0].as_u64().unwrap();
    let n_samples = found["pairs"]["n_samples"].as_u64().unwrap();
    let n_by_greedy = found["pairs"]["n_made"][1].as_u64().unwrap();
    // Prompts without a pair of samples, seven times.
    let n_lacking = n_samples + 6 * n_by_greedy - 3 * n_own;
    assert!(n_lacking.is_multiple_of(7) && n_lacking <= 7 * n_own, "{n_samples} of {n_own}");
}

#[test]
fn what_does_not_fit_is_refused_before_it_begins() {
    fs::write(workshop().join("large.txt"), "Zorbalux\n").unwrap();
    let output = fix("--out large --prompts sell.jsonl --judge large.txt --memory-budget 0.01");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("0.01 GiB") && said.contains("a larger --memory-budget"), "{said}");
    assert!(!said.contains("[1/7]"), "{said}");
    assert!(!workshop().join("large/work").exists());
    let enough = fix("--out large --prompts read.jsonl --judge large.txt --memory-budget 1");
    assert_eq!(enough.status.code(), Some(7), "{}", super::said(&enough));
}

#[test]
fn no_state_is_left_and_the_model_is_the_chosen_one() {
    fs::write(workshop().join("states.txt"), "Zorbalux\n").unwrap();
    let args = "--out states --prompts sell.jsonl --judge states.txt";
    let output = fix(args);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let dir = workshop().join("states");
    let states = || files(&dir).into_iter().filter(|path| path.to_string_lossy().contains("irepair-state")).count();
    assert_eq!(states(), 0);
    let chosen = fs::read_dir(dir.join("work")).unwrap().map(|entry| entry.unwrap().path());
    let chosen: Vec<PathBuf> = chosen.filter(|path| path.is_dir() && !path.ends_with("runs")).collect();
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    let contents = |from: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let read = |path: PathBuf| (path.strip_prefix(from).unwrap().to_owned(), fs::read(&path).unwrap());
        files(from).into_iter().map(read).collect()
    };
    let model = contents(&dir.join("model"));
    assert!(model.len() > 3 && model == contents(&chosen[0]));
    // Another choice comes back, without a state.
    let n = result("states")["menu"].as_array().unwrap().len();
    let other = fix(&format!("{args} --choose {n}"));
    assert!(matches!(other.status.code(), Some(0 | 6)), "{}", said(&other));
    assert!(!said(&other).contains("updates  "), "nothing is searched again: {}", said(&other));
    assert_eq!(states(), 0);
}
