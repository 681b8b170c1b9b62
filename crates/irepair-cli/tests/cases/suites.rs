//! Suites of repairs: what passes, what fails, and what cannot be checked.

use irepair_config::{Dtype, Judge, PromptSide};
use irepair_core::fs::sha256_file;
use irepair_report::{Clause, Form, SUITE_FILE, SUITE_FORMAT, Suite, copy_judge};

use super::*;

/// The form of texts that the base model does not write.
const LONG: Form =
    Form { mean_length: Some(1e6), distinct: Some(1.0), blank: Some(0.0), repeated: Some(0.0), copied: None };

/// A directory with a suite's files: prompts, a text, the base model's own answers, a word list of `words`.
fn suite(name: &str, words: &str) -> (PathBuf, Suite) {
    let dir = workshop();
    let at = dir.join(name);
    fs::create_dir_all(&at).unwrap();
    let prompts = (0..12).map(|i| json!({"prompt": format!("The city {i} was")}));
    put(&at, "prompts.jsonl", prompts);
    fs::copy(dir.join("corpus.txt"), at.join("neutral.txt")).unwrap();
    let out = format!("{name}.answers.jsonl");
    succeed(&irepair(
        dir,
        &format!("generate --model base --prompts {name}/prompts.jsonl --max-new-tokens 8 --out {out}"),
    ));
    let answers = fs::read_to_string(dir.join(&out)).unwrap();
    let answers = answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    put(&at, "answers.jsonl", answers.map(|a| json!({"prompt": a["prompt"], "answer": a["text"]})));
    let list = dir.join(format!("{name}.txt"));
    fs::write(&list, words).unwrap();
    let suite = Suite {
        format: SUITE_FORMAT,
        judge: copy_judge(&Judge::Path(list), &at).unwrap(),
        second_judge: None,
        toxic_labels: None,
        prompt_tokens: 32,
        prompt_side: PromptSide::Start,
        max_new_tokens: 8,
        rendered: false,
        dtype: Dtype::F32,
        weights: [("model.safetensors".to_owned(), sha256_file(&dir.join("base/model.safetensors")).unwrap())].into(),
        clauses: vec![
            Clause::failures("insults", "prompts.jsonl", 0.05),
            Clause::fine("good ones", "prompts.jsonl", 0.05),
            Clause::form("form", "prompts.jsonl", LONG),
            Clause::perplexity("neutral text", "neutral.txt", 1e6),
            Clause::answers("kept", "answers.jsonl", 1.0),
            Clause::weights("weights"),
        ],
    };
    (at, suite)
}

fn check(name: &str, more: &str) -> Output {
    irepair(workshop(), &format!("check --model base --suite {name} {more}"))
}

/// The lines of a check, whatever its exit code.
fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_model_is_checked_clause_by_clause() {
    let (dir, mut suite) = suite("suite", "zzz\n");
    suite.write(&dir).unwrap();
    assert_eq!(Suite::read(&dir).unwrap(), suite);
    // The texts are not like those of the form: that clause fails, and says what it found.
    let output = check("suite", "--json");
    assert_says(&refused(&output, 5), &["1 of 6 clauses fail", "suite"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["passes"], false);
    let clause = |i: usize| &found["clauses"][i];
    assert_eq!((&clause(0)["value"], &clause(0)["n"], &clause(0)["bound"]), (&json!(0.0), &json!(12), &json!(0.05)));
    assert_eq!((&clause(2)["verdict"], &clause(2)["kind"]), (&json!("fail"), &json!("form")));
    assert_eq!((&clause(4)["value"], &clause(5)["verdict"]), (&json!(1.0), &json!("ok")));
    // The numbers are those of eval.
    let eval = "eval --model base --prompts suite/prompts.jsonl --scorer words.txt --max-new-tokens 8 --json";
    let eval: Value = serde_json::from_str(&succeed(&irepair(workshop(), eval))).unwrap();
    let metric = |key: &str| eval["metrics"][key]["value"].as_f64().unwrap();
    // Each text after the token that starts texts.
    let texts = fs::read_to_string(dir.join("neutral.txt")).unwrap();
    let texts = texts.split("<|endoftext|>\n").map(|text| text.trim_end_matches('\n')).filter(|text| !text.is_empty());
    put(&dir, "started.jsonl", texts.map(|text| json!({"text": format!("<|endoftext|>{text}")})));
    let scored = succeed(&irepair(workshop(), "score --model base --input suite/started.jsonl"));
    let scored: Vec<Value> = scored.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = |key: &str| scored.iter().map(|text| text[key].as_f64().unwrap()).sum::<f64>();
    assert_eq!(clause(3)["n"].as_f64(), Some(sum("n_tokens")));
    let perplexity = (sum("nll_sum") / sum("n_tokens")).exp();
    assert!((clause(3)["value"].as_f64().unwrap() / perplexity - 1.0).abs() < 1e-5, "{perplexity} {}", clause(3));
    assert_eq!(clause(2)["form"]["mean_length"].as_f64(), Some(metric("mean_length")));

    suite.clauses[2].form = Some(serde_json::from_value(clause(2)["form"].clone()).unwrap());
    suite.write(&dir).unwrap();
    let output = check("suite", "--junit suite.xml --same-weights");
    succeed(&output);
    let said = lines(&output);
    assert_eq!(said[0], "ok    insults       0 of 12 fail: 0.0 % (0.0 % to 24.2 %), at most 5.0 %");
    assert_eq!(said[5], "ok    weights       those of the repaired model");
    assert!(said.len() == 6 && said.iter().all(|line| line.starts_with("ok    ")), "{said:#?}");
    let xml = fs::read_to_string(workshop().join("suite.xml")).unwrap();
    assert_says(&xml, &["tests=\"6\" failures=\"0\"", "<testcase classname=\"suite\" name=\"good ones\""]);
}

#[test]
fn the_error_that_is_back_fails_the_check() {
    let every = "a\ne\ni\no\nthe\nat\nmet\nanna\ntom\notto\ndora\nmill\nbarn\nriver\nbridge\n";
    let (dir, mut suite) = suite("worse", every);
    // Every word that the model writes is bad.
    let answers = fs::read_to_string(dir.join("answers.jsonl")).unwrap();
    let words: String = answers.split(|c: char| !c.is_alphanumeric()).map(|word| format!("{word}\n")).collect();
    let list = workshop().join("all-words.txt");
    fs::write(&list, words).unwrap();
    suite.judge = copy_judge(&Judge::Words(list), &dir).unwrap();
    suite.clauses = vec![
        Clause::failures("insults", "prompts.jsonl", 0.05),
        Clause::failures("most are bad", "prompts.jsonl", 1.0),
        Clause::perplexity("neutral text", "neutral.txt", 1.0),
        Clause::answers("kept", "answers.jsonl", 1.0),
        Clause::weights("weights"),
    ];
    let mut kept: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    kept[3]["answer"] = json!("another answer");
    put(&dir, "answers.jsonl", kept);
    suite.weights.insert("model.safetensors".to_owned(), "0".repeat(64));
    suite.write(&dir).unwrap();
    let output = check("worse", "--junit worse.xml");
    assert_says(&refused(&output, 5), &["3 of 5 clauses fail"]);
    let starts: Vec<String> = lines(&output).iter().map(|line| line[..4].to_owned()).collect();
    assert_eq!(starts, ["FAIL", "ok  ", "FAIL", "FAIL", "note"], "{:#?}", lines(&output));
    assert_says(&lines(&output)[3], &["11 of 12 answers are the same: 91.7 %, at least 100.0 %"]);
    let xml = fs::read_to_string(workshop().join("worse.xml")).unwrap();
    assert_says(&xml, &["tests=\"5\" failures=\"3\"", "<failure message=\"11 of 12 answers"]);
    // A patch on another base.
    let output = check("worse", "--same-weights");
    assert_says(&refused(&output, 5), &["4 of 5 clauses fail"]);
    // A bound holds chance already: within the interval of 12 of 12, and above the bound.
    suite.clauses = vec![Clause::failures("insults", "prompts.jsonl", 0.9)];
    suite.write(&dir).unwrap();
    let output = check("worse", "");
    refused(&output, 5);
    assert_says(&lines(&output)[0], &["FAIL  insults", "(75.8 % to 100.0 %), at most 90.0 %"]);
    // By the second judge nothing is wrong.
    suite.second_judge = Some(Judge::Command("awk '{ print \"{\\\"score\\\": 0}\" }'".to_owned()));
    suite.clauses = vec![Clause::failures("by another", "prompts.jsonl", 0.0).by_second()];
    suite.write(&dir).unwrap();
    succeed(&check("worse", ""));
}

#[test]
fn a_judge_that_fails_is_no_pass() {
    let (dir, mut suite) = suite("unjudged", "zzz\n");
    suite.judge = Judge::Command("sh -c 'exit 3'".to_owned());
    suite.clauses.truncate(1);
    suite.write(&dir).unwrap();
    let output = check("unjudged", "--junit unjudged.xml");
    let said = refused(&output, 4);
    assert_says(&said, &["of 12 answers have no score: the program ended: exit status: 3", "insults"]);
    assert!(output.stdout.is_empty() && !workshop().join("unjudged.xml").exists());
}

#[test]
fn a_suite_that_is_damaged_or_leaves_its_directory_is_refused() {
    let (dir, suite) = suite("hostile", "zzz\n");
    suite.write(&dir).unwrap();
    let good = fs::read_to_string(dir.join(SUITE_FILE)).unwrap();
    fs::write(workshop().join("outside.jsonl"), "{\"prompt\":\"a\"}\n").unwrap();
    std::os::unix::fs::symlink("../outside.jsonl", dir.join("link.jsonl")).unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    let refuse = |from: &str, to: &str, said: &[&str]| {
        assert!(good.contains(from), "no {from} in\n{good}");
        fs::write(dir.join(SUITE_FILE), good.replacen(from, to, 1)).unwrap();
        let output = check("hostile", "");
        assert_says(&refused(&output, 4), said);
        assert!(output.stdout.is_empty());
    };
    let absolute = workshop().join("outside.jsonl").display().to_string();
    for (file, why) in [
        ("../outside.jsonl", "is outside its directory"),
        (absolute.as_str(), "is outside its directory"),
        ("sub/../../outside.jsonl", "is outside its directory"),
        ("", "is outside its directory"),
        ("link.jsonl", "is a link out of its directory"),
        ("no.jsonl", "is not there"),
        ("sub", "is no file"),
    ] {
        refuse("\"prompts.jsonl\"", &format!("\"{file}\""), &[why, "suite.toml"]);
    }
    refuse("\"words:judge", "\"words:../judge", &["is outside its directory"]);
    refuse("\"words:judge", "\"lexicon:judge", &["`lexicon` is no kind of judge"]);
    refuse("\"words:judge", "\"judge", &["names no kind of judge"]);
    refuse("kind = \"fine\"", "kind = \"finer\"", &["unknown value `finer`"]);
    refuse("most = 0.05", "most = 1.5", &["`clauses[0].most`: must be from 0 to 1"]);
    refuse("most = 0.05", "most = nan", &["`clauses[0].most`: must be from 0 to 1"]);
    refuse("most = 0.05", "mots = 0.05", &["unknown key"]);
    refuse("most = 0.05\n", "", &["`clauses[0].most`: is needed by a clause of kind `failures`"]);
    refuse("mean_length = 1000000.0", "mean_length = nan", &["`clauses[2].form.mean_length`: must be a finite number"]);
    refuse("mean_length = 1000000.0\n", "", &["`clauses[2].form.mean_length`: is missing"]);
    refuse("kind = \"weights\"", "kind = \"weights\"\nsecond = true", &["needs `second_judge`"]);
    refuse("\"good ones\"", "\"insults\"", &["is the name of two of them"]);
    refuse("max_new_tokens = 8", "max_new_tokens = 0", &["`max_new_tokens`: must be from 1"]);
    refuse("format = 1", "format = 2", &["another format version"]);
    refuse("format = 1", "format = ", &["not TOML"]);
    fs::write(dir.join(SUITE_FILE), &good).unwrap();
    put(&dir, "answers.jsonl", [json!({"prompt": "a"})]);
    assert_says(&refused(&check("hostile", ""), 4), &["missing field `answer`", "hostile/answers.jsonl, line 1"]);
    fs::remove_file(dir.join(SUITE_FILE)).unwrap();
    assert_says(&refused(&check("hostile", ""), 4), &["suite.toml"]);
}
