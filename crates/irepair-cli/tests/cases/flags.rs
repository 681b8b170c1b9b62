//! Numbers, places and kinds that flags take, and what commands say of them before their work.

use super::*;

#[test]
fn a_number_that_a_flag_cannot_hold_is_refused_with_its_range() {
    for (flag, want) in [
        ("--steps -1", "`steps`: must be a whole number of at least 1, is -1"),
        ("--seed -1", "`seed`: must be a whole number of at least 0, is -1"),
        ("--lr -1", "`lr`: must be a number over 0, is -1"),
        ("--batch-size -4", "`batch_size`: must be a whole number of at least 1, is -4"),
        ("--steps 1.5", "`steps`: must be a whole number of at least 1, is 1.5"),
        ("--seed 9223372036854775808", "`seed`: must be at most 9223372036854775807, is 9223372036854775808"),
    ] {
        let error =
            refused(&irepair(workshop(), &format!("repair --model base --pairs pairs.jsonl --out x {flag}")), 2);
        assert_says(&error, &[want, "1 problem in the command line"]);
    }
}

#[test]
fn a_rank_out_of_range_is_refused_with_its_range() {
    for (rank, want) in
        [("0", "at least 1, is 0"), ("65537", "at most 65536, is 65537"), ("99999999999", "at most 65536")]
    {
        let args = format!("adapter --base base --repaired base --rank {rank} --out x");
        assert_says(&refused(&irepair(workshop(), &args), 2), &[&format!("`rank`: must be {want}")]);
    }
}

#[test]
fn the_plan_counts_the_blocks_that_a_step_may_change() {
    let dir = workshop();
    let plan = |flags: &str, out: &str| {
        let args =
            "repair --model base --pairs pairs.jsonl --method irepair-no-kl --steps 1 --lr 1e-2 --warmup-steps 0";
        let output = irepair(dir, &format!("{args} {flags} --out {out}"));
        succeed(&output);
        said(&output)
    };
    assert_says(&plan("--top-k 3", "percent"), &["policy dynamic (1 of 3 blocks a step)"]);
    let over = plan("--top-k 9b", "over");
    assert_says(&over, &["policy dynamic (3 of 3 blocks a step)", "--top-k 9b: only 3 blocks may be chosen"]);
    assert_says(
        &plan("--exclude 0 --top-k 2b", "excluded"),
        &["policy dynamic (2 of 2 that may be chosen blocks a step)"],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_place_that_cannot_be_written_is_refused_before_the_work() {
    let dir = workshop();
    for args in [
        "generate --model base --prompts prompts.jsonl --out /proc/nowhere/texts.jsonl",
        "repair --model base --pairs pairs.jsonl --method dpo --steps 1 --out unpatched --patch /proc/nowhere/fix.patch",
        "sensitivity --model base --data pairs.jsonl --out /proc/nowhere",
        "scorer apply --scorer words.txt --input pairs.jsonl --out /proc/nowhere/scores.jsonl",
    ] {
        let output = irepair(dir, args);
        let error = refused(&output, 4);
        assert_says(&error, &["/proc/nowhere"]);
        assert!(!said(&output).contains("INFO"), "nothing was read before: {}", said(&output));
    }
    assert!(!dir.join("unpatched").exists());
}

#[test]
fn a_difference_that_rounds_is_refused_when_it_is_made() {
    let dir = workshop();
    succeed(&irepair(
        dir,
        "repair --model base --pairs pairs.jsonl --method dpo --steps 6 --warmup-steps 0 --lr 1e-2 --out far",
    ));
    let create = "patch create --base base --repaired far --kind delta --out far.delta";
    let error = refused(&irepair(dir, create), 5);
    assert_says(&error, &["result differs by rounding", "--allow-lossy, or use a patch of kind xor"]);
    assert!(!dir.join("far.delta").exists(), "no patch that apply refuses is left");
    succeed(&irepair(dir, &format!("{create} --allow-lossy")));
    succeed(&irepair(dir, "patch apply --base base --patch far.delta --out near --allow-lossy"));
    succeed(&irepair(dir, "patch create --base base --repaired far --kind xor --out far.xor"));
    succeed(&irepair(dir, "patch apply --base base --patch far.xor --out again"));
}

#[test]
fn a_scorer_gives_its_scores_of_any_texts() {
    let dir = workshop();
    let words = dir.join("rude.txt");
    fs::write(&words, "grubnik\n").unwrap();
    put(dir, "given.jsonl", ["good day", "you grubnik", ""].map(|text| json!({"text": text})));
    let lines = succeed(&irepair(dir, "scorer apply --scorer rude.txt --input given.jsonl"));
    let scores: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scores[..2], [json!({"index": 0, "score": 0.0}), json!({"index": 1, "score": 1.0})]);
    assert_eq!((scores.len(), scores[2]["index"].clone()), (3, json!(2)), "every text has a line");
    succeed(&irepair(dir, "scorer apply --scorer rude.txt --input given.jsonl --out scores.jsonl"));
    assert_eq!(fs::read_to_string(dir.join("scores.jsonl")).unwrap(), lines);
    assert_says(
        &refused(&irepair(dir, "scorer apply --scorer rude.txt --input given.jsonl --out scores.jsonl"), 2),
        &["scores.jsonl"],
    );
}

#[test]
fn sensitivities_on_several_texts_end_with_a_conclusion() {
    let dir = workshop();
    let sensitivity = "sensitivity --model base --data pairs.jsonl --n-batches 3";
    let text = succeed(&irepair(dir, &format!("{sensitivity} --chosen --neutral corpus.txt")));
    assert_says(&text, &["rank correlation of the blocks on error text: ", " with chosen, ", " with neutral\n"]);
    let alone = irepair(dir, sensitivity);
    assert!(!succeed(&alone).contains("rank correlation"));
    assert_says(&said(&alone), &["--chosen and --neutral FILE measure text without the error too"]);
    let lines = succeed(&irepair(dir, &format!("{sensitivity} --chosen --json")));
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a line of JSON a text: {lines}");
}

#[test]
fn two_sets_of_prompts_of_one_name_are_refused() {
    let dir = workshop();
    for name in ["set.valid.jsonl", "set.test.jsonl"] {
        put(dir, name, [serde_json::json!({"prompt": "Tom said:"})]);
    }
    std::fs::write(dir.join("set-words.txt"), "bad\n").unwrap();
    let flags = "--more-prompts set.valid.jsonl --more-prompts set.test.jsonl --lexicon set-words.txt";
    let error = refused(&irepair(dir, &format!("eval --model base {flags}")), 2);
    assert_says(&error, &["two files of --more-prompts have one name up to the first dot", "at: set"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_whose_path_is_not_utf_8_runs_like_any_other() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    let output = command.arg0(OsStr::from_bytes(b"\xff/irepair")).current_dir(workshop());
    succeed(&output.args(["score", "--model", "base", "--input", "short.jsonl"]).output().unwrap());
}

#[test]
fn a_temperature_that_no_logit_can_be_divided_by_is_refused() {
    for temperature in ["1e-39", "1e300", "0"] {
        let args = format!("generate --model base --n 1 --top-p 0.9 --temperature {temperature}");
        let said = refused(&irepair(workshop(), &args), 2);
        assert_says(&said, &["`temperature`: must be at least 1e-6 and at most 1e6"]);
    }
}
