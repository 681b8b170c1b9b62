//! Scorers on the command line: trained, measured, and used side by side in an evaluation.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// A directory with labels, word lists, prompts, a tiny model and a scorer of each kind, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let text = |i: usize| {
            let place = ["mill", "barn", "river", "bridge"][i % 4];
            format!("{} at the {place}, said number {i}", ["you grubnik", "good day", "rain"][i % 3])
        };
        let labels = |range: std::ops::Range<usize>| -> String {
            let one = |i: usize| {
                let source = ["made", "up"][i % 2];
                serde_json::json!({"text": text(i), "toxic": usize::from(i.is_multiple_of(3)), "source": source})
                    .to_string()
                    + "\n"
            };
            range.map(one).collect()
        };
        fs::write(dir.join("train.jsonl"), labels(0..240)).unwrap();
        // Six texts of the training file come back in the other one.
        fs::write(dir.join("dev.jsonl"), labels(234..300)).unwrap();
        fs::write(dir.join("corpus.txt"), (0..60).map(text).collect::<Vec<_>>().join("\n<|endoftext|>\n")).unwrap();
        fs::write(dir.join("prompts.jsonl"), "{\"prompt\":\"you grubnik\"}\n{\"prompt\":\"good\"}\n").unwrap();
        fs::write(dir.join("words.txt"), "grubnik\n").unwrap();
        let flags = "--vocab-size 300 --n-layer 2 --n-embd 16 --n-head 2 --n-positions 48 --window 24 --steps 2";
        succeed(&irepair(&dir, &format!("pretrain --data corpus.txt --out base {flags} --batch-size 4")));
        succeed(&irepair(&dir, "scorer train --data train.jsonl --out linear.scorer"));
        let flags =
            "--n-layer 1 --n-embd 16 --n-head 2 --vocab-size 300 --n-positions 24 --epochs 4 --batch-size 8 --lr 1e-2";
        succeed(&irepair(
            &dir,
            &format!("scorer train --kind transformer --data train.jsonl --out classifier {flags}"),
        ));
        dir
    })
}

fn irepair(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).args(["--threads", "1"]).output().unwrap()
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refuse(dir: &Path, args: &str) -> (i32, String) {
    let output = irepair(dir, args);
    assert!(!output.status.success() && output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_scorer_is_measured_on_texts_it_has_not_seen() {
    let dir = workshop();
    for (scorer, kind) in [("linear.scorer", "linear-"), ("classifier", "classifier-")] {
        let args = format!("scorer eval --scorer {scorer} --data dev.jsonl --identity-terms --json");
        let found: Value = serde_json::from_str(&succeed(&irepair(dir, &args))).unwrap();
        assert!(found["scorer"].as_str().unwrap().starts_with(kind));
        assert_eq!((&found["all"]["n"], &found["all"]["n_failed"]), (&60.into(), &6.into()), "{scorer}");
        assert_eq!(found["failures"]["the scorer was trained on this text"], 6);
        assert!(found["all"]["auc"].as_f64().unwrap() > 0.99, "{scorer}: {}", found["all"]);
        assert_eq!(found["all"]["bins"].as_array().unwrap().len(), 10);
        assert_eq!(found["by_source"]["made"]["n"], 30);
        assert_eq!(found["identity_terms"]["identity"]["n"], found["identity_terms"]["control"]["n"]);
    }
    let table = succeed(&irepair(dir, "scorer eval --scorer words.txt --data dev.jsonl"));
    assert!(table.starts_with("scorer `lexicon-") && table.contains("reliability"), "{table}");
}

#[test]
fn several_scorers_stand_side_by_side_and_the_first_one_is_the_main_one() {
    let dir = workshop();
    let scorers = "--scorer linear.scorer --scorer words.txt --scorer classifier";
    let eval = |flags: &str| -> Value {
        let args = format!("eval --model base --prompts prompts.jsonl --clean-prompts prompts.jsonl {flags} --json");
        serde_json::from_str(&succeed(&irepair(dir, &args))).unwrap()
    };
    let found = eval(scorers);
    let metrics = found["metrics"].as_object().unwrap();
    assert!(metrics["tox"]["definition"].as_str().unwrap().contains("scorer `linear-"));
    let other =
        |key: &str, kind: &str| metrics.keys().find(|k| k.starts_with(&format!("{key}@{kind}-"))).unwrap().clone();
    for kind in ["lexicon", "classifier"] {
        for key in ["tox", "toxfrac", "clean_tox"] {
            let name = other(key, kind);
            let named = format!("scorer `{}`", name.split('@').nth(1).unwrap());
            assert!(metrics[&name]["definition"].as_str().unwrap().contains(&named), "{name}");
        }
        let name = other("tox", kind).split('@').nth(1).unwrap().to_owned();
        assert_eq!(found["prompt_scores_by_scorer"][&name].as_array().unwrap().len(), 2);
    }
    assert_eq!(found["prompt_scores"].as_array().unwrap().len(), 2);

    // A lexicon given in the older way goes first, under the name it always had.
    let found = eval(&format!("--lexicon words.txt {scorers}"));
    assert!(found["metrics"]["tox"]["definition"].as_str().unwrap().contains("scorer `lexicon` version 1"));
    assert_eq!(found["prompt_scores_by_scorer"].as_object().unwrap().len(), 3);
    let found = eval("--lexicon words.txt");
    assert!(found.get("prompt_scores_by_scorer").is_none());
}

#[test]
fn what_is_no_scorer_is_refused() {
    let dir = workshop();
    let eval = "eval --model base --prompts prompts.jsonl";
    let (code, error) = refuse(dir, &format!("{eval} --scorer words.txt --scorer words.txt"));
    assert!(code == 2 && error.contains("two scorers have one name"), "{error}");
    fs::create_dir_all(dir.join("empty")).unwrap();
    let (code, error) = refuse(dir, &format!("{eval} --scorer empty"));
    assert!(code == 4 && error.contains("is not a word list, a linear scorer or a classifier directory"), "{error}");
    let (code, error) = refuse(dir, &format!("{eval} --scorer base"));
    assert!(
        code == 2 && error.contains("key `model_type`") && error.contains("bert, roberta or distilbert"),
        "{error}"
    );
    let (code, error) = refuse(dir, "scorer eval --scorer train.jsonl --data dev.jsonl");
    assert!(code == 4 && error.contains("not a scorer"), "{error}");
    let (code, error) = refuse(dir, "scorer train --data train.jsonl --out linear.scorer");
    assert!(code == 2 && error.contains("output is there already"), "{error}");
    fs::write(dir.join("few.jsonl"), "{\"text\":\"a b\",\"toxic\":1}\n{\"text\":\"c d\",\"toxic\":0}\n").unwrap();
    let (code, error) = refuse(dir, "scorer train --kind words --data few.jsonl --out few.txt");
    assert!(code == 4 && error.contains("few.jsonl") && !dir.join("few.txt").exists(), "{error}");
    let (code, error) = refuse(dir, "scorer eval --scorer classifier --data dev.jsonl --toxic-labels rude");
    assert!(code == 2 && error.contains("no label `rude`") && error.contains("non-toxic, toxic"), "{error}");
    fs::write(dir.join("odd.jsonl"), "{\"text\":\"a\",\"toxic\":\"yes\"}\n").unwrap();
    let (code, error) = refuse(dir, "scorer train --data odd.jsonl --out x");
    assert!(code == 4 && error.contains("key `toxic`") && error.contains("line 1"), "{error}");
    let (code, error) = refuse(dir, eval);
    assert!(code == 2 && error.contains("--scorer JUDGE"), "{error}");
}

#[test]
fn judges_of_every_kind_score_answers() {
    let dir = workshop();
    fs::write(dir.join("any.regex"), "# every letter\n(?i)[a-z]\n").unwrap();
    let script = "import json, sys\nfor line in sys.stdin:\n    print(json.dumps({'score': float('grubnik' in json.loads(line)['prompt'])}))\n";
    fs::write(dir.join("prompt.py"), script).unwrap();
    fs::write(dir.join("judges.toml"), "scorer = ['regex:any.regex', 'command:python3 prompt.py', 'words:words.txt', 'scorer:linear.scorer', 'classifier:classifier']\n").unwrap();
    let eval = "eval --config judges.toml --model base --prompts prompts.jsonl --json";
    let found: Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    let by = found["prompt_scores_by_scorer"].as_object().unwrap();
    let kinds: Vec<&str> = by.keys().map(|name| name.split(['-', ':']).next().unwrap()).collect();
    assert_eq!(kinds, ["classifier", "lexicon", "linear", "program"]);
    // It reads the prompts: the first of the two has the word. The first scorer says whether the answer is blank.
    let program = by.iter().find(|(name, _)| name.starts_with("program:")).unwrap().1;
    assert_eq!(program[0], found["prompt_scores"][0]);
    assert_eq!(program[1], 0.0);
    for (judge, code, said) in [
        ("regex:no.regex", 2, "words:FILE, regex:FILE"),
        ("lexicon:words.txt", 2, "is no kind of judge"),
        ("command:no-such-program-here", 2, "program of a judge is not there"),
        ("regex:train.jsonl", 4, "train.jsonl, line 1"),
    ] {
        let (got, error) = refuse(dir, &format!("scorer eval --data dev.jsonl --scorer {judge}"));
        assert!(got == code && error.contains(said), "{judge}: {got} {error}");
    }
}

#[test]
fn a_classifier_may_be_a_name_of_the_hub() {
    let dir = workshop();
    let snapshot = dir.join("hub/models--me--rude/snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    for file in fs::read_dir(dir.join("classifier")).unwrap().map(|file| file.unwrap().path()) {
        fs::copy(&file, snapshot.join(file.file_name().unwrap())).unwrap();
    }
    let run = |scorer: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
        let args = format!("scorer eval --data dev.jsonl --json --scorer {scorer}");
        command.current_dir(dir).args(args.split_whitespace()).env("HF_HUB_CACHE", dir.join("hub")).output().unwrap()
    };
    let scores = |scorer: &str| {
        let found: Value = serde_json::from_str(&succeed(&run(scorer))).unwrap();
        found["all"].clone()
    };
    let want = scores("classifier");
    assert!(!want.is_null());
    for name in ["me/rude", "me/rude@abc", "classifier:me/rude"] {
        assert_eq!(scores(name), want, "{name}");
    }
    let output = run("me/other");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(4) && said.contains("hf download me/other"), "{said}");
}

#[test]
fn texts_of_which_none_has_a_score_are_no_result() {
    let dir = workshop();
    let train = fs::read_to_string(dir.join("train.jsonl")).unwrap();
    let seen: String = train.lines().take(6).map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("seen.jsonl"), seen).unwrap();
    for args in ["scorer eval --data seen.jsonl", "scorer apply --input seen.jsonl"] {
        let output = irepair(dir, &format!("{args} --scorer linear.scorer"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(4) && !output.stdout.is_empty(), "what is known is printed: {said}");
        let words = ["no text has a score: the scorer was trained on this text", "seen.jsonl", "none of 6"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}
