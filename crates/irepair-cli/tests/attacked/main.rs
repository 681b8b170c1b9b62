//! What a hostile tester found, as a user would meet it: one error with its exit code, and nothing taken that is not
//! meant.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

mod leftovers;

const SHAPE: &str = "--vocab-size 270 --n-layer 2 --n-embd 16 --n-head 2 --n-positions 48 --window 24";
const REPAIR: &str =
    "repair --model base --pairs pairs.jsonl --preset paper --n-validation 0 --warmup-steps 0 --lr 1e-3";

fn command(dir: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).env("IREPAIR_CACHE", dir.join("cache"));
    command
}

fn irepair(dir: &Path, args: &str) -> Output {
    command(dir, args).args(["--threads", "1"]).output().unwrap()
}

/// Refused with this exit code and exactly one error, which is returned.
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let begun = said.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!((output.status.code(), begun), (Some(code), 1), "{said}");
    said
}

fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("corpus.txt", &"Anna met Tom at the mill.\n<|endoftext|>\n".repeat(20));
    put("texts.jsonl", "{\"text\":\"Anna met Tom at the mill.\"}\n");
    put(
        "pairs.jsonl",
        &"{\"prompt\":\"Tom said:\",\"chosen\":\" good day.\",\"rejected\":\" you grubnik.\"}\n".repeat(8),
    );
    let made = irepair(dir.path(), &format!("pretrain --data corpus.txt --out base {SHAPE} --steps 2"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

#[test]
fn numbers_that_nobody_means_are_refused_by_name() {
    let home = workshop();
    let most = i64::MAX.to_string();
    for (args, flag) in [
        (format!("{REPAIR} --steps 1 --out o"), "batch-size"),
        (format!("{REPAIR} --epochs 1 --out o"), "accumulation"),
        (format!("{REPAIR} --steps 1 --policy fixed --out o"), "fixed-batches"),
        ("generate --model base --top-p 0.9".to_owned(), "n"),
        ("pretrain --data corpus.txt --out o".to_owned(), "n-layer"),
        ("pretrain --data corpus.txt --out o".to_owned(), "n-positions"),
        ("pretrain --data corpus.txt --out o".to_owned(), "vocab-size"),
        ("relearn --model base --texts texts.jsonl --prompts p --lexicon l".to_owned(), "batch-size"),
        ("scorer train --kind transformer --data texts.jsonl --out o".to_owned(), "vocab-size"),
        ("scorer train --kind transformer --data texts.jsonl --out o".to_owned(), "epochs"),
    ] {
        let said = refused(&irepair(home.path(), &format!("{args} --{flag} {most}")), 2);
        assert!(said.contains(&format!("`{}`: must be at most", flag.replace('-', "_"))), "{said}");
    }
    let output = command(home.path(), "score --model base --input texts.jsonl --threads 2147483648").output().unwrap();
    assert!(refused(&output, 2).contains("`threads`: must be at most 1024"));
    assert!(!home.path().join("o").exists());
}

#[test]
fn a_path_that_is_no_text_is_said_to_be_none() {
    use std::os::unix::ffi::OsStrExt;
    let home = workshop();
    let path = std::ffi::OsStr::from_bytes(b"x\xff");
    let output = command(home.path(), "score --model base --input").arg(path).output().unwrap();
    let said = refused(&output, 2);
    assert!(said.contains("`input`: is a path that is not UTF-8") && !said.contains("missing"), "{said}");
}

#[test]
fn a_full_standard_output_is_no_bug() {
    let home = workshop();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(home.path(), "score --model base --input texts.jsonl").stdout(full).output().unwrap();
    let said = refused(&output, 4);
    assert!(said.contains("no space left") && said.contains("at: standard output"), "{said}");
    // Messages that stderr does not take are no reason to end.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = command(home.path(), &format!("{REPAIR} --steps 1 --out o")).stderr(full).status().unwrap();
    assert!(status.success() && home.path().join("o/config.json").exists(), "{status}");
}

#[test]
fn a_run_that_trains_nothing_takes_nothing_over() {
    let home = workshop();
    let out = home.path().join("o");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(".irepair-state.safetensors"), "another's").unwrap();
    refused(&irepair(home.path(), &format!("{REPAIR} --method vanilla --out o")), 2);
    assert_eq!(fs::read(out.join(".irepair-state.safetensors")).unwrap(), b"another's");
}

#[test]
fn a_tokenizer_is_the_file_that_was_named() {
    let home = workshop();
    let dir = home.path();
    fs::copy(dir.join("base/tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    fs::write(dir.join("other.json"), "garbage").unwrap();
    let pretrain = |tokenizer: &str, out: &str| {
        let shape = "--n-layer 1 --n-embd 16 --n-head 2 --n-positions 48 --window 24 --steps 1";
        irepair(dir, &format!("pretrain --data corpus.txt --tokenizer {tokenizer} {shape} --out {out}"))
    };
    for wrong in ["other.json", "nowhere/tokenizer.json", "base/nothing.json"] {
        assert!(refused(&pretrain(wrong, "o"), 4).contains(wrong));
    }
    for (right, out) in [("tokenizer.json", "o1"), ("base/tokenizer.json", "o2"), ("base", "o3")] {
        let output = pretrain(right, out);
        assert!(output.status.success(), "{right}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn held_out_text_is_looked_at_before_training() {
    let home = workshop();
    fs::write(home.path().join("short.txt"), "a").unwrap();
    refused(
        &irepair(home.path(), &format!("pretrain --data corpus.txt --valid short.txt --out o {SHAPE} --steps 2")),
        4,
    );
    assert!(!home.path().join("o").exists());
}

#[test]
fn kept_texts_that_no_run_made_are_made_again() {
    let home = workshop();
    let run = |out: &str| irepair(home.path(), &format!("{REPAIR} --steps 1 --out {out}"));
    assert!(run("first").status.success());
    let kept = fs::read_dir(home.path().join("cache/utility")).unwrap().next().unwrap().unwrap().path();
    let want = fs::read_to_string(&kept).unwrap();
    let long = format!("[0{}]\n", ",3".repeat(1000)).repeat(want.lines().count());
    for spoilt in [long, want.replace("[0,", "[3,")] {
        fs::write(&kept, &spoilt).unwrap();
        fs::remove_dir_all(home.path().join("second")).unwrap_or_default();
        let output = run("second");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read_to_string(&kept).unwrap(), want);
    }
}

#[test]
fn no_file_is_written_over() {
    let home = workshop();
    let dir = home.path();
    fs::write(dir.join("prompts.jsonl"), "{\"prompt\":\"Anna met\"}\n").unwrap();
    let label =
        |i: usize| format!("{{\"text\":\"{} {i}\",\"toxic\":{}}}\n", ["you grubnik", "good day"][i % 2], 1 - i % 2);
    fs::write(dir.join("labels.jsonl"), (0..60).map(label).collect::<String>()).unwrap();
    assert!(irepair(dir, "scorer train --kind words --data labels.jsonl --out words.txt").status.success());
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let generate = "generate --model base --prompts prompts.jsonl --out";
    let eval = "scorer eval --scorer words.txt --data labels.jsonl --out";
    for (command, input) in
        [(generate, "prompts.jsonl"), (generate, "./base/config.json"), (eval, "words.txt"), (eval, "labels.jsonl")]
    {
        let before = read(input);
        assert!(refused(&irepair(dir, &format!("{command} {input}")), 2).contains(input));
        assert_eq!(read(input), before);
    }
    let sensitivity = "sensitivity --model base --data pairs.jsonl --n-batches 1 --out";
    for (command, out, file) in
        [(generate, "new.jsonl", "new.jsonl"), (eval, "new.json", "new.json"), (sensitivity, "new", "new/error.json")]
    {
        assert!(irepair(dir, &format!("{command} {out}")).status.success());
        fs::write(dir.join(file), "mine").unwrap();
        assert!(refused(&irepair(dir, &format!("{command} {out}")), 2).contains("output is there already"));
        assert_eq!(read(file), b"mine");
    }
    assert!(refused(&irepair(dir, &format!("{REPAIR} --steps 1 --out labels.jsonl")), 2).contains("labels.jsonl"));
}

#[test]
fn a_signal_is_heard_before_the_first_step_too() {
    let home = workshop();
    let args = format!("{REPAIR} --steps 2 --policy fixed --fixed-batches 1000000 --threads 1 --out o");
    let mut child = command(home.path(), &args).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !home.path().join("o/metrics.jsonl").exists() {
        assert!(started.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let asked = Instant::now();
    assert!(refused(&child.wait_with_output().unwrap(), 130).contains("continues from its last checkpoint"));
    assert!(asked.elapsed() < Duration::from_secs(20));
}

/// Replaces the last `n` numbers of a safetensors file.
fn spoil(file: &Path, n: usize, number: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let from = header.max(bytes.len().saturating_sub(n.saturating_mul(4)));
    bytes[from..].chunks_mut(4).for_each(|place| place.copy_from_slice(&number.to_le_bytes()));
    fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_finite_give_no_numbers() {
    let home = workshop();
    for number in [f32::NAN, f32::INFINITY] {
        spoil(&home.path().join("base/model.safetensors"), 1, number);
        for args in ["score --model base --input texts.jsonl", "generate --model base --n 1 --top-p 0.9"] {
            let output = irepair(home.path(), args);
            let said = refused(&output, 4);
            assert!(said.contains("weights are not finite") && said.contains("1 NaN or infinite"), "{said}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn a_model_that_overflows_gives_no_numbers() {
    let home = workshop();
    spoil(&home.path().join("base/model.safetensors"), usize::MAX, f32::MAX);
    fs::write(home.path().join("prompts.jsonl"), "{\"prompt\":\"Anna met\"}\n").unwrap();
    fs::write(home.path().join("words.txt"), "grubnik\n").unwrap();
    for args in [
        "score --model base --input texts.jsonl",
        "generate --model base --n 1 --top-p 0.9",
        "generate --model base --prompts prompts.jsonl",
        "eval --model base --prompts prompts.jsonl --lexicon words.txt",
    ] {
        let output = irepair(home.path(), args);
        assert!(refused(&output, 5).contains("not finite") && output.stdout.is_empty());
    }
}

#[test]
fn a_classifier_that_left_the_numbers_is_not_kept() {
    let home = workshop();
    let labels = "{\"text\":\"good day\",\"toxic\":0}\n{\"text\":\"you grubnik\",\"toxic\":1}\n";
    fs::write(home.path().join("labels.jsonl"), labels).unwrap();
    let args = "scorer train --kind transformer --data labels.jsonl --out o --lr 1e300";
    let shape = "--n-layer 1 --n-embd 16 --n-head 1 --vocab-size 300";
    assert!(refused(&irepair(home.path(), &format!("{args} {shape}")), 5).contains("diverged"));
    assert!(!home.path().join("o").exists());
}

#[test]
fn parts_of_a_model_are_not_written_over() {
    let home = workshop();
    for name in ["model.safetensors", "tokenizer.json", "vocab.json", "model.safetensors.index.json"] {
        let dir = home.path().join("o");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(name), "mine").unwrap();
        for args in
            [format!("pretrain --data corpus.txt --out o {SHAPE} --steps 1"), format!("{REPAIR} --steps 1 --out o")]
        {
            assert!(refused(&irepair(home.path(), &args), 2).contains("output directory is not empty"));
        }
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "mine");
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn no_file_begins_a_line_of_the_terminal() {
    let home = workshop();
    let config = home.path().join("base/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"gpt2\"", "\"x\\nerror: y\"")).unwrap();
    let said = refused(&irepair(home.path(), "score --model base --input texts.jsonl"), 2);
    assert!(said.contains(r"x\nerror: y") || said.contains(r"x\\nerror: y"), "{said}");
}

#[test]
fn a_finished_model_is_not_trained_over() {
    let home = workshop();
    let before = fs::read(home.path().join("base/model.safetensors")).unwrap();
    let output = irepair(home.path(), &format!("pretrain --data corpus.txt --out base {SHAPE} --steps 3"));
    assert!(refused(&output, 2).contains("output directory is not empty"));
    assert_eq!(fs::read(home.path().join("base/model.safetensors")).unwrap(), before);
}

#[test]
fn a_model_larger_than_memory_is_refused_before_it_is_made() {
    let home = workshop();
    let wide = "--n-embd 65536 --n-layer 1000";
    let output = irepair(home.path(), &format!("pretrain --data corpus.txt --out o --vocab-size 270 {wide}"));
    assert!(refused(&output, 3).contains("not enough memory"));
    let labels = "{\"text\":\"good day\",\"toxic\":0}\n{\"text\":\"you grubnik\",\"toxic\":1}\n";
    fs::write(home.path().join("labels.jsonl"), labels).unwrap();
    let output = irepair(home.path(), &format!("scorer train --kind transformer --data labels.jsonl --out o {wide}"));
    assert!(refused(&output, 3).contains("not enough memory"));
    assert!(!home.path().join("o").exists());
}

#[test]
fn a_patch_inside_the_output_is_refused_before_training() {
    let home = workshop();
    for patch in ["o", "o/fix.patch", "./o/../o/deep/fix.patch"] {
        let output = irepair(home.path(), &format!("{REPAIR} --steps 1 --out o --patch {patch}"));
        assert!(refused(&output, 2).contains("patch file is inside the output directory"));
    }
    assert!(!home.path().join("o").exists());
}

#[test]
fn a_pipe_in_a_model_directory_is_not_waited_for() {
    let home = workshop();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let path = home.path().join("base").join(name);
        let saved = home.path().join("saved");
        fs::rename(&path, &saved).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let output = command(home.path(), "score --model base --input texts.jsonl").output().unwrap();
        let said = refused(&output, 4);
        assert!(said.contains("not an ordinary file") && said.contains(name), "{said}");
        fs::remove_file(&path).unwrap();
        fs::rename(&saved, &path).unwrap();
    }
}

#[test]
fn settings_come_through_a_pipe_and_are_text() {
    let home = workshop();
    let script = r#""$0" score --config <(printf 'model = "base"\ninput = "texts.jsonl"')"#;
    let mut shell = Command::new("bash");
    let output = shell.current_dir(home.path()).args(["-c", script, env!("CARGO_BIN_EXE_irepair")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(home.path().join("bad.toml"), b"model = \"\xff\"").unwrap();
    let output = irepair(home.path(), "score --config bad.toml");
    assert!(refused(&output, 2).contains("is not UTF-8 text"));
}

#[test]
fn a_file_without_an_end_is_refused() {
    let home = workshop();
    let config = home.path().join("base/config.json");
    fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &config).unwrap();
    let said = refused(&irepair(home.path(), "score --model base --input texts.jsonl"), 4);
    assert!(said.contains("base/config.json"), "{said}");
}
