//! What a fix says when there is nothing to repair, nothing to gain, or something else in its way.

use super::{fix, result, said, workshop};

#[test]
fn a_healthy_model_fails_on_nothing() {
    let output = fix("--out healthy --prompts read.jsonl --judge brand.txt");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(said(&output).contains("nothing fails: the judge objects to none of 72 answers"), "{}", said(&output));
    assert_eq!(result("healthy")["verdict"], "nothing_fails");
    assert!(!workshop().join("healthy/model").exists());
}

#[test]
fn an_error_in_every_answer_makes_no_pair() {
    std::fs::write(
        workshop().join("all.txt"),
        "she\nis\nat\nhome\nnow\nwrite\nto\nann\ntake\na\ngo\ni\nhelp\nyou\nон\nу\nмоста\n",
    )
    .unwrap();
    let output = fix("--out hopeless --prompts read.jsonl --judge all.txt");
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("no pair could be made"), "{}", said(&output));
    assert!(!workshop().join("hopeless/model").exists());
}

#[test]
fn a_budget_that_nothing_keeps_gains_nothing_and_writes_no_model() {
    let output = fix("--out tight --prompts mail.jsonl --judge tight.txt --budget-kl 1e-9");
    assert_eq!(output.status.code(), Some(2), "no such judge: {}", said(&output));
    std::fs::write(workshop().join("tight.txt"), "post\norg\n").unwrap();
    let output = fix("--out tight --prompts mail.jsonl --judge tight.txt --budget-kl 1e-9");
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    let result = result("tight");
    assert_eq!(result["verdict"], "nothing_gained");
    let mut presets: Vec<&str> =
        result["points"].as_array().unwrap().iter().map(|point| point["preset"].as_str().unwrap()).collect();
    presets.dedup();
    assert_eq!(presets.len(), 6, "everything that was tried is in the report");
    assert_eq!(result["points"].as_array().unwrap().len(), 6, "a run ends at a point far over the budget");
    assert!(!workshop().join("tight/model").exists() && workshop().join("tight/report.html").exists());
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = workshop().join("taken");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    let output = fix("--out taken --prompts sell.jsonl --judge brand.txt");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("output directory is not empty"), "{}", said(&output));
}

#[test]
fn a_handful_of_prompts_is_too_few() {
    let dir = workshop();
    std::fs::write(dir.join("one.jsonl"), "{\"prompt\":\"Sell Tom at the mill:\"}\n").unwrap();
    let output = fix("--out few --prompts one.jsonl --judge brand.txt");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("too few prompts"), "{}", said(&output));
}

#[test]
fn a_judge_that_fails_stops_the_run_and_may_be_corrected() {
    let output = fix("--out judged --prompts sell.jsonl --judge command:cat");
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("judge gives too few scores"), "{}", said(&output));
    let output = fix("--out judged --prompts read.jsonl --judge brand.txt");
    assert_eq!(output.status.code(), Some(7), "nothing was made that another judge could not use: {}", said(&output));
}
