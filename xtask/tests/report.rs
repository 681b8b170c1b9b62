//! `cargo xtask report` in a workspace in which nothing was run.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Nothing of it is run.
const PROFILE: &str = r#"
title = "tiny"
seeds = 1
keep_models = false
[[data]]
file = "corpus/train.txt"
what = "what the model learns"
get = "nothing reads it here"
[[models]]
name = "gpt2"
title = "GPT-2 (tiny)"
[models.pretrain]
vocab_size = 600
[repair]
[grid]
lr = [1e-3]
seeds = 1
"#;

fn put(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A workspace of one profile of one row.
fn workspace() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), "xtask/here", "");
    put(home.path(), "experiments/tiny/profile.toml", PROFILE);
    put(
        home.path(),
        "experiments/tiny/vanilla.toml",
        "title = \"Vanilla\"\ntables = [\"rq1\"]\n[repair]\nmethod = \"vanilla\"\n",
    );
    home
}

fn report(home: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["report", "--profile", "tiny"]).current_dir(home).env("CARGO_MANIFEST_DIR", home.join("xtask"));
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn without_kept_results_the_command_that_makes_them_is_named() {
    let home = workspace();
    let (code, said) = report(home.path());
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("no result of these settings is kept"), "{said}");
    assert!(said.contains("cargo xtask reproduce --profile tiny makes them"), "{said}");
    assert!(!home.path().join("runs").exists());
}

#[test]
fn a_broken_kept_file_is_named() {
    for broken in ["vanilla-gpt2.0.json", "report.json"] {
        let home = workspace();
        put(home.path(), &format!("experiments/tiny/results/{broken}"), "{\"settings\":");
        let (code, said) = report(home.path());
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("no kept result") && said.contains(broken), "{said}");
        assert!(said.contains("take the file back from version control, or remove it"), "{said}");
    }
}
