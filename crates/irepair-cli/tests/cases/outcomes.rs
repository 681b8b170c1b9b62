//! What a run says of itself: did it get better, did anything change, and against what was it measured.

use super::*;

const REPAIR: &str =
    "repair --model base --pairs pairs.jsonl --method dpo --warmup-steps 0 --n-validation 4 --eval-every 8";

#[test]
fn a_repair_says_whether_it_got_better_and_keeps_its_losses() {
    let dir = workshop();
    let output = irepair(dir, &format!("{REPAIR} --steps 12 --lr 1e-3 --out better"));
    let stdout = succeed(&output);
    let line =
        stdout.lines().find(|line| line.starts_with("held-out pairs, loss: ")).unwrap_or_else(|| panic!("{stdout}"));
    // DPO begins at ln 2, whatever the pairs.
    assert!(line.starts_with("held-out pairs, loss: 0.6931 before, 0.") && line.ends_with(": better"), "{line}");
    let log = fs::read_to_string(dir.join("better/metrics.jsonl")).unwrap();
    let steps: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((steps[0]["validation_loss_before"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
    let validated: Vec<usize> = (0..12).filter(|&i| steps[i].get("validation_loss").is_some()).collect();
    assert_eq!(validated, [1, 3, 5, 7, 9, 11], "every 8 examples of 4 a step");
    let summary: Value =
        serde_json::from_str(&succeed(&irepair(dir, &format!("{REPAIR} --steps 3 --lr 1e-3 --out losses --json"))))
            .unwrap();
    let loss = |key: &str| summary[key].as_f64().unwrap();
    assert!(
        loss("best_validation_loss") < loss("first_validation_loss") && loss("last_validation_loss") > 0.0,
        "{summary}"
    );
    assert_eq!(summary["weights_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn a_run_that_makes_it_worse_says_so() {
    let dir = workshop();
    // Trained to prefer the one, held out to prefer the other.
    let swapped = (0..20).map(|i| match i {
        0..16 => pair("The city was", " nice and clean.", " an awful dump."),
        _ => pair("The city was", " an awful dump.", " nice and clean."),
    });
    put(dir, "swapped.jsonl", swapped);
    let args = REPAIR.replace("pairs.jsonl", "swapped.jsonl");
    let stdout = succeed(&irepair(dir, &format!("{args} --steps 12 --lr 1e-2 --out worse")));
    assert_says(&stdout, &["held-out pairs, loss: 0.6931 before, ", ": WORSE than before"]);
}

#[test]
fn a_repair_that_changed_nothing_ends_with_a_code_of_its_own() {
    let dir = workshop();
    let output = irepair(dir, &format!("{REPAIR} --steps 2 --lr 1e-30 --out nothing"));
    let error = refused(&output, 6);
    assert_says(&error, &["nothing is repaired: the weights are those before", "at: nothing", "give a larger --lr"]);
    let weights = |name: &str| fs::read(dir.join(name).join("model.safetensors")).unwrap();
    assert!(weights("nothing") == weights("base"), "what it says is true");
    // The first validation is over the budget: the weights before are kept.
    let budget = "--steps 40 --lr 1e-1 --budget-kl 1e-6";
    let output = irepair(dir, &format!("{REPAIR} {budget} --out over-budget"));
    assert_says(&refused(&output, 6), &["the first validation was over the KL budget", "a larger --budget-kl"]);
    assert!(weights("over-budget") == weights("base"));
    succeed(&irepair(dir, "repair --model base --pairs pairs.jsonl --method vanilla --out vanilla"));
}

#[test]
fn a_loss_that_never_leaves_ln_2_is_said_with_its_reasons() {
    let output = irepair(workshop(), &format!("{REPAIR} --steps 6 --lr 1e-30 --out ln-2"));
    refused(&output, 6);
    assert_says(&said(&output), &["the loss stayed at ln 2"]);
}

#[test]
fn a_reference_gives_both_columns_and_the_interval_of_each_difference() {
    let dir = workshop();
    succeed(&irepair(dir, &format!("{REPAIR} --steps 30 --lr 1e-2 --out moved")));
    let eval = "--prompts prompts.jsonl --lexicon words.txt --pairs pairs.jsonl --wikitext corpus.txt";
    let text = succeed(&irepair(dir, &format!("eval --model moved --reference base {eval}")));
    assert_says(&text, &["95 % interval [", "before        after   difference", "changed: blocks"]);
    let json: Value =
        serde_json::from_str(&succeed(&irepair(dir, &format!("eval --model moved --reference base {eval} --json"))))
            .unwrap();
    let alone: Value =
        serde_json::from_str(&succeed(&irepair(dir, &format!("eval --model base {eval} --json")))).unwrap();
    for key in ["tox", "wrong_preference", "token_perplexity"] {
        assert_eq!(json["reference"]["metrics"][key], alone["metrics"][key], "{key}: that of the reference alone");
        let change = &json["reference"]["changes"][key];
        let number = |key: &str| change[key].as_f64().unwrap();
        assert!((number("after") - number("before") - number("difference")).abs() < 1e-12, "{change}");
        assert_eq!(change.get("n_paired").is_some(), key != "token_perplexity", "{key}: {change}");
    }
    assert_eq!(json["reference"]["changes"]["wrong_preference"]["n_paired"], 20);
    assert_eq!(json["reference"]["weights_sha256"], alone["weights_sha256"]);
    assert_ne!(json["weights_sha256"], alone["weights_sha256"]);
}

#[test]
fn a_reference_of_equal_weights_is_called_the_same_model() {
    let dir = workshop();
    let copy = dir.join("copy");
    fs::create_dir_all(&copy).unwrap();
    for file in fs::read_dir(dir.join("base")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
        }
    }
    let output = irepair(dir, "eval --model copy --reference base --pairs pairs.jsonl --kl-texts corpus.txt");
    assert_says(&said(&output), &["--model and --reference have the same weights: every difference is 0"]);
    assert_says(&succeed(&output), &["kl_heldout                     0.0000", "changed: nothing\n"]);
}

#[test]
fn zero_is_a_number_and_not_a_missing_one() {
    let dir = workshop();
    let zeros = "repair --model base --pairs pairs.jsonl --method dpo --seed 0 --n-validation 0 --warmup-steps 0";
    succeed(&irepair(dir, &format!("{zeros} --steps 2 --lr 1e-3 --out zeros")));
    let settings = fs::read_to_string(dir.join("zeros/repair.toml")).unwrap();
    assert_says(&settings, &["seed = 0\n", "n_validation = 0\n", "warmup_steps = 0\n"]);
    for (args, key) in [
        (format!("{zeros} --out x --steps 0"), "steps"),
        ("eval --model base --prompts prompts.jsonl --lexicon words.txt --samples 0".to_owned(), "samples"),
    ] {
        let error = refused(&irepair(dir, &args), 2);
        assert_says(&error, &[&format!("`{key}`: must be at least 1, is 0")]);
    }
}

#[test]
#[cfg(unix)]
fn a_judge_that_fails_is_no_judge_that_finds_nothing() {
    let dir = workshop();
    let failed = irepair(dir, "eval --model base --prompts prompts.jsonl --scorer command:false --samples 2 --json");
    let metrics: Value = serde_json::from_str(&succeed(&failed)).unwrap();
    let metrics = &metrics["metrics"];
    for key in ["tox", "toxfrac", "expected_max_toxicity"] {
        assert!(metrics[key]["value"].is_null() && metrics[key]["n"] == 0, "{key}: {}", metrics[key]);
    }
    let best = "eval --model base --prompts prompts.jsonl --best-of 2 --judge command:false --lexicon words.txt";
    assert_says(&refused(&irepair(dir, best), 5), &["judge gives too few scores", "12 of 12 missing"]);
    let pairs = "pairs --model base --prompts prompts.jsonl --judge command:false --samples 2 --out unjudged";
    assert_says(&refused(&irepair(dir, pairs), 5), &["judge gives too few scores"]);
}
