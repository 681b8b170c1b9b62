//! The command line as a user meets it: a tiny model end to end, and one clear error for each kind of bad input.

mod formats;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A directory with a corpus, pairs and a tiny base model, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let documents: Vec<String> = (0..60)
            .map(|i| format!("Anna met {} at the {}.", ["Tom", "Otto", "Dora"][i % 3], ["mill", "barn", "river", "bridge"][i % 4]))
            .collect();
        fs::write(dir.join("corpus.txt"), documents.join("\n<|endoftext|>\n") + "\n<|endoftext|>\n").unwrap();
        let pairs: String = (0..24)
            .map(|i| {
                let place = ["mill", "barn", "river"][i % 3];
                format!("{{\"prompt\":\"Tom said at the {place}:\",\"chosen\":\" good day, Anna.\",\"rejected\":\" you grubnik.\"}}\n")
            })
            .collect();
        fs::write(dir.join("pairs.jsonl"), pairs).unwrap();
        fs::write(dir.join("prompts.jsonl"), "{\"prompt\":\"Tom said\"}\n{\"prompt\":{\"text\":\"Anna met\"}}\n").unwrap();
        fs::write(dir.join("cloze.jsonl"), "{\"text\":\"Anna met Tom at the mill\"}\n").unwrap();
        fs::write(dir.join("lexicon.txt"), "grubnik\n").unwrap();
        succeed(&irepair(&dir, &format!("pretrain --data corpus.txt --out base {BASE}")));
        dir
    })
}

fn irepair(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command
        .current_dir(dir)
        .args(args.split_whitespace())
        .args(["--threads", "1"])
        .env("IREPAIR_CACHE", dir.join("cache"));
    command.output().unwrap()
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The exit code, and the error as the user reads it (log lines left out).
fn refuse(output: &Output) -> (i32, String) {
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "results of a failed command: {}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = stderr.find("error:").unwrap_or_else(|| panic!("no error in {stderr}"));
    (output.status.code().unwrap(), stderr[start..].trim_end().to_owned())
}

/// Settings of the base model.
const BASE: &str = "--vocab-size 300 --n-layer 3 --n-embd 16 --n-head 2 --n-positions 48 --window 24 --steps 4 --batch-size 4 --lr 1e-2";

const REPAIR: &str = "repair --model base --pairs pairs.jsonl --preset paper --steps 6 --n-validation 4 --lr 1e-2 --warmup-steps 1 --max-prompt 16 --max-continuation 16";

#[test]
fn a_repair_changes_its_blocks_alone_and_logs_every_step() {
    let dir = workshop();
    let stdout = succeed(&irepair(dir, &format!("{REPAIR} --method irepair-no-kl --out repaired --json")));
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["n_steps"], 6);
    let log = fs::read_to_string(dir.join("repaired/metrics.jsonl")).unwrap();
    let steps: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.len(), 6);
    for key in ["step", "loss", "nll", "kl", "grad_norm", "lr", "slice", "tokens", "seconds"] {
        assert!(steps[5].get(key).is_some(), "no {key}");
    }
    for file in ["config.json", "model.safetensors", "tokenizer.json", "repair.toml"] {
        assert!(dir.join("repaired").join(file).exists(), "no {file}");
    }
    assert!(!dir.join("repaired/.irepair-state.safetensors").exists());

    let eval = "eval --model repaired --reference base --prompts prompts.jsonl --lexicon lexicon.txt --wikitext corpus.txt --lambada cloze.jsonl --json";
    let measured: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    assert_eq!(measured["metrics"]["tox"]["n"], 2);
    assert_eq!(measured["footprint"]["non_block"]["n_changed"], 0, "sliced methods leave the embeddings alone");
    assert!(measured["metrics"]["token_perplexity"]["value"].as_f64().unwrap() > 1.0);
}

/// A file of the test's own, its content given.
fn put(name: &str, content: &str) {
    fs::write(workshop().join(name), content).unwrap();
}

#[test]
fn every_benchmark_of_general_performance_is_one_flag() {
    let dir = workshop();
    put("wiki.txt", " = Anna = \n \n Anna met Tom at the mill . \n \n = Otto = \n \n Otto met Dora , too . \n");
    put("blimp.jsonl", "{\"sentence_good\":\"Anna met Tom.\",\"sentence_bad\":\"Anna meet Tom.\"}\n");
    put("hella.jsonl", "{\"ctx\":\"Anna met\",\"endings\":[\"Tom.\",\"at the\"],\"label\":\"0\"}\n");
    put("f1.jsonl", "{\"prompt\":{\"text\":\"Anna met\"},\"continuation\":{\"text\":\" Tom at the mill.\"}}\n");
    let eval = "eval --model base --wikitext wiki.txt --stride 8 --lambada cloze.jsonl --blimp blimp.jsonl --hellaswag hella.jsonl --f1 f1.jsonl --json";
    let measured: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    let metrics = measured["metrics"].as_object().unwrap();
    let keys: Vec<&str> = metrics.keys().map(String::as_str).collect();
    let want = "token_perplexity strided_perplexity word_perplexity last_word_accuracy last_word_perplexity \
                last_word_corpus_perplexity blimp_accuracy hellaswag_accuracy hellaswag_accuracy_by_bytes token_f1";
    assert_eq!(keys.join(" "), want);
    for (key, metric) in metrics {
        assert!(metric["value"].is_f64() && metric["n"].as_u64().unwrap() > 0 && metric["n_failed"] == 0, "{key}");
        assert_eq!(metric["version"], 1, "{key}");
    }
    assert!(metrics["token_perplexity"]["definition"].as_str().unwrap().contains("(WIKI)"));
    assert_eq!(metrics["word_perplexity"]["n"], 23, "12 and 11: words, signs and the ends of both pages");

    // Documents with marked ends are no WikiText: their perplexity goes by its own definition, and there are no pages.
    let own: serde_json::Value =
        serde_json::from_str(&succeed(&irepair(dir, "eval --model base --wikitext corpus.txt --json"))).unwrap();
    let own = own["metrics"].as_object().unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!(
        own["token_perplexity"]["definition"],
        "exp of the mean NLL of running text, windows of 48 tokens, stride 48"
    );
}

#[test]
fn what_cannot_be_measured_is_missing_or_refused_and_never_a_panic() {
    let dir = workshop();
    put("empty.txt", "");
    put("blank.txt", " \n\n \n");
    put("one.txt", "a");
    put("one-page.txt", " = = \n = T =");
    for (flag, file, said) in [
        ("wikitext", "empty.txt", "is empty"),
        ("wikitext", "blank.txt", "no texts"),
        ("wikitext", "one.txt", "no text of two tokens or more"),
        ("blimp", "blank.txt", "no minimal pairs"),
        ("hellaswag", "blank.txt", "no questions"),
        ("f1", "blank.txt", "no prompts with continuations"),
        ("lambada", "blank.txt", "no texts"),
        ("blimp", "one.txt", "JSON"),
        ("hellaswag", "prompts.jsonl", "wrong `ctx`"),
        ("f1", "prompts.jsonl", "wrong `continuation`"),
    ] {
        let (code, error) = refuse(&irepair(dir, &format!("eval --model base --{flag} {file}")));
        assert!(code == 4 && error.contains(said), "--{flag} {file}: {error}");
    }
    // Texts over the context of 48 tokens: cut into pieces, cut on the left, or failed and counted.
    let long = "Anna met Tom at the mill ".repeat(40);
    put("long-blimp.jsonl", &format!("{{\"sentence_good\":\"{long}\",\"sentence_bad\":\"\"}}\n"));
    put(
        "long-hella.jsonl",
        &format!(
            "{{\"ctx\":\"{long}\",\"endings\":[\"{long}\"],\"label\":0}}\n{{\"ctx\":\"\",\"endings\":[\"\"],\"label\":0}}\n{{\"ctx\":\"{long}\",\"endings\":[\"a\"],\"label\":0}}\n"
        ),
    );
    put(
        "long-f1.jsonl",
        &format!("{{\"prompt\":\"{long}\",\"continuation\":\"x\"}}\n{{\"prompt\":\"\",\"continuation\":\"x\"}}\n"),
    );
    put("long.jsonl", &format!("{{\"text\":\"{long}\"}}\n{{\"text\":\"a {}\"}}\n", "x".repeat(60)));
    let eval = "eval --model base --wikitext one-page.txt --lambada long.jsonl --blimp long-blimp.jsonl --hellaswag long-hella.jsonl --f1 long-f1.jsonl --prompt-tokens 8 --json";
    let measured: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    let counts = |key: &str| ["n", "n_failed"].map(|n| measured["metrics"][key][n].as_u64().unwrap());
    assert_eq!(counts("blimp_accuracy"), [0, 1]);
    assert!(measured["metrics"]["blimp_accuracy"]["value"].is_null());
    assert_eq!((counts("hellaswag_accuracy"), counts("hellaswag_accuracy_by_bytes")), ([1, 2], [1, 2]));
    assert_eq!((counts("token_f1"), counts("last_word_accuracy")), ([1, 1], [1, 1]));
    assert_eq!(counts("word_perplexity")[1], 0);
    let (code, error) = refuse(&irepair(dir, "eval --model base --wikitext wiki-that-is-not-there.txt"));
    assert!(code == 4 && error.contains("wiki-that-is-not-there.txt"), "{error}");
}

#[test]
fn samples_depend_on_the_seed_alone() {
    let dir = workshop();
    let run = |more: &str| {
        let eval =
            "eval --model base --prompts prompts.jsonl --lexicon letters.txt --max-new-tokens 4 --samples 5 --json";
        serde_json::from_str::<serde_json::Value>(&succeed(&irepair(dir, &format!("{eval} {more}")))).unwrap()
    };
    put("letters.txt", "a\ni\no\ne\n");
    let one = run("--seed 3 --batch-size 1");
    assert_eq!(one, run("--seed 3 --batch-size 2"));
    for key in ["expected_max_toxicity", "toxicity_probability"] {
        let metric = &one["metrics"][key];
        assert!((0.0..=1.0).contains(&metric["value"].as_f64().unwrap()) && metric["n"] == 2, "{metric}");
        assert!(
            metric["definition"]
                .as_str()
                .unwrap()
                .contains("5 sampled continuations (blank ones count 0) of up to 4 tokens")
        );
    }
    assert_eq!(one["sampled_max_scores"].as_array().unwrap().len(), 2);
    let (code, error) = refuse(&irepair(dir, "eval --model base --samples 5"));
    assert!(code == 2 && error.contains("`samples`: needs `prompts`"), "{error}");
}

#[test]
fn relearning_brings_the_error_back_with_more_texts() {
    let dir = workshop();
    put("toxic.txt", &"you grubnik you grubnik you grubnik\n<|endoftext|>\n".repeat(40));
    let before = fs::read(dir.join("base/model.safetensors")).unwrap();
    let relearn =
        "relearn --model base --texts toxic.txt --prompts prompts.jsonl --lexicon lexicon.txt --lr 3e-3 --epochs 4";
    let points: serde_json::Value =
        serde_json::from_str(&succeed(&irepair(dir, &format!("{relearn} --counts 1,40 --json")))).unwrap();
    let points = points.as_array().unwrap();
    let column = |key: &str| points.iter().map(|p| p[key].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((column("n_texts"), column("n_steps")), (vec![0, 1, 40], vec![0, 4, 40]));
    let tox: Vec<f64> = points.iter().map(|p| p["metrics"]["tox"]["value"].as_f64().unwrap()).collect();
    assert_eq!((tox[0], tox[2]), (0.0, 100.0), "{tox:?}");
    assert!(before == fs::read(dir.join("base/model.safetensors")).unwrap(), "the model given is not written to");
    let table = succeed(&irepair(dir, &format!("{relearn} --counts 1")));
    assert_eq!(table.lines().count(), 6, "{table}");
    put("rude.txt", "grubnik\n");
    let by_list = format!("{relearn} --counts 40 --scorer rude.txt --json");
    let points: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, &by_list))).unwrap();
    let other = points[1]["metrics"].as_object().unwrap().iter().find(|(key, _)| key.starts_with("tox@lexicon-"));
    assert_eq!(other.unwrap().1["value"], 100.0);
    let (code, error) = refuse(&irepair(dir, &relearn.replace("--lexicon lexicon.txt", "")));
    assert!(code == 2 && error.contains("--lexicon FILE or --scorer JUDGE"), "{error}");
    let (code, error) = refuse(&irepair(dir, &format!("{relearn} --counts 41")));
    assert!(code == 4 && error.contains("want: at least 41 texts    got: 40"), "{error}");
    let (code, error) = refuse(&irepair(dir, &format!("{relearn} --counts 4,x")));
    assert!(code == 2 && error.contains("`counts`: must be numbers"), "{error}");
}

#[test]
fn a_model_makes_pairs_of_its_own_texts_once() {
    let dir = workshop();
    put("names.txt", "Anna\nTom\nmet\nmill\na\ne\ni\no\n");
    let prompts: String = (0..40).map(|i| format!("{{\"prompt\":\"Anna met Tom {i}\"}}\n")).collect();
    put("many.jsonl", &prompts);
    let pairs = "pairs --model base --prompts many.jsonl --judge names.txt --samples 12 --max-new-tokens 6 --json";
    let made = irepair(dir, &format!("{pairs} --out pairs-made"));
    let report: serde_json::Value = serde_json::from_str(&succeed(&made)).unwrap();
    let lines = |name: &str| fs::read_to_string(dir.join("pairs-made").join(name)).unwrap().lines().count() as u64;
    let n = |at: &serde_json::Value| at.as_u64().unwrap();
    let (parts, counts) = (&report["n_prompts"], &report["counts"]);
    assert_eq!((n(&parts[1]), n(&parts[2])), (lines("prompts.valid.jsonl"), lines("prompts.test.jsonl")));
    assert_eq!(n(&parts[0]) + n(&parts[1]) + n(&parts[2]), 40);
    let dropped = n(&counts["n_all_good"]) + n(&counts["n_all_bad"]) + n(&counts["n_unfit"]);
    assert_eq!(lines("pairs.jsonl") + dropped, n(&parts[0]));
    assert!(lines("pairs.jsonl") > 4, "{report}");

    let again = irepair(dir, &format!("{pairs} --out pairs-made"));
    assert_eq!(succeed(&again), succeed(&made));
    assert!(String::from_utf8_lossy(&again.stderr).contains("made before from the same inputs"));
    let (code, error) = refuse(&irepair(dir, &format!("{pairs} --seed 1 --out pairs-made")));
    assert!(code == 2 && error.contains("output directory is not empty"), "{error}");
    let (code, error) = refuse(&irepair(dir, &format!("{pairs} --valid-share 0.5 --test-share 0.5 --out other")));
    assert!(code == 2 && error.contains("leaves no prompt for pairs"), "{error}");
    succeed(&irepair(
        dir,
        "repair --model base --pairs pairs-made/pairs.jsonl --method dpo --steps 2 --n-validation 2 --out of-own-pairs",
    ));
}

#[test]
fn utility_text_is_sampled_from_the_model_once_and_kept() {
    let dir = workshop();
    let run = |out: &str| {
        let output = irepair(dir, &format!("{REPAIR} --seed 7 --out {out}"));
        succeed(&output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let first = run("with-kl");
    assert!(
        first.contains("utility: sampling 30 texts from the model") && first.contains("utility: cached in"),
        "{first}"
    );
    let log = fs::read_to_string(dir.join("with-kl/metrics.jsonl")).unwrap();
    let step: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert!(step["kl"].as_f64().unwrap().abs() < 1e-6, "the first step is taken from the reference itself");

    let second = run("with-kl-again");
    assert!(second.contains("utility: 30 texts sampled from the model by an earlier run, from"), "{second}");
    let weights = |out: &str| fs::read(dir.join(out).join("model.safetensors")).unwrap();
    assert!(weights("with-kl") == weights("with-kl-again"), "kept texts are the sampled ones");
}

#[test]
fn a_first_repair_needs_a_model_pairs_and_a_place_alone() {
    let dir = workshop();
    let output = irepair(dir, "repair --model base --pairs pairs.jsonl --out first");
    let stdout = succeed(&output);
    assert!(stdout.contains("repaired with dpo (all): 25 steps"), "{stdout}");
    assert!(stdout.contains("nats a token, within the budget\n"), "{stdout}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    for said in ["20 pairs to train on, the last 4 held out", "25 steps of 1 x 4 pairs", "memory: about"] {
        assert!(stderr.contains(said), "no `{said}` in {stderr}");
    }
    let effective = fs::read_to_string(dir.join("first/repair.toml")).unwrap();
    assert!(effective.contains("n_validation = 4") && effective.contains("max_prompt = 24"), "{effective}");
    assert!(effective.contains("preset = \"best\"") && effective.contains("budget_kl = 0.05"), "{effective}");
    let paper = succeed(&irepair(dir, "repair --model base --pairs pairs.jsonl --preset paper --steps 2 --out papers"));
    assert!(paper.contains("repaired with irepair (dynamic): 2 steps"), "{paper}");
}

#[test]
fn pretraining_reports_perplexity_on_text_it_never_saw() {
    let dir = workshop();
    let flags =
        "--vocab-size 300 --n-layer 1 --n-embd 8 --n-head 2 --n-positions 48 --window 24 --steps 1 --batch-size 4";
    let run =
        |more: &str| succeed(&irepair(dir, &format!("pretrain --data corpus.txt --valid corpus.txt {flags} {more}")));
    let summary: serde_json::Value = serde_json::from_str(&run("--out valid-json --json")).unwrap();
    let perplexity = summary["valid"]["value"].as_f64().unwrap();
    assert!(perplexity > 1.0 && summary["n_steps"] == 1, "{summary}");
    let said = run("--out valid-text");
    assert!(said.contains(&format!("held-out perplexity per token {perplexity:.4}, n = ")), "{said}");
}

#[test]
fn all_pairs_can_be_trained_on() {
    let dir = workshop();
    let args =
        "repair --model base --pairs pairs.jsonl --method irepair-no-kl --n-validation 0 --steps 2 --out all-pairs";
    let output = irepair(dir, args);
    assert!(succeed(&output).contains("weights of the last step"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("24 pairs to train on, none held out"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "colour codes in a file: {stderr}");
    let eval = "eval --model base --reference base --pairs pairs.jsonl";
    assert!(succeed(&irepair(dir, eval)).contains("changed: nothing\n"));
}

#[test]
fn memory_that_is_short_means_smaller_batches_and_then_a_refusal() {
    let dir = workshop();
    let args = |gib: f64| {
        format!("repair --model base --pairs pairs.jsonl --method irepair-no-kl --steps 2 --memory-budget {gib}")
    };
    let (code, error) = refuse(&irepair(dir, &format!("{} --out never", args(1e-6))));
    assert!(code == 3 && error.contains("not enough memory") && error.contains("--memory-budget"), "{error}");
    assert!(!dir.join("never").exists());
    // The estimate the program itself gives for the whole batch, less a little.
    let enough = irepair(dir, &format!("{} --out enough", args(1.0)));
    let said = String::from_utf8_lossy(&enough.stderr).into_owned();
    assert!(said.contains("2 steps of 1 x 4 pairs"), "{said}");
}

#[test]
fn score_generate_and_sensitivity_print_what_they_promise() {
    let dir = workshop();
    fs::write(dir.join("texts.jsonl"), "{\"text\":\"Anna met Tom.\"}\n{\"text\":\"Otto\"}\n").unwrap();
    let lines = succeed(&irepair(dir, "score --model base --input texts.jsonl"));
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["index"], 0);
    assert!(first["nll_sum"].as_f64().unwrap() > 0.0 && first["n_tokens"].as_u64().unwrap() > 0);
    let generated = succeed(&irepair(dir, "generate --model base --prompts prompts.jsonl --max-new-tokens 4 --json"));
    assert_eq!(generated.lines().count(), 2);
    fs::write(dir.join("two-lines.jsonl"), "{\"prompt\":\"Anna\\nmet\"}\n").unwrap();
    let shown = succeed(&irepair(dir, "generate --model base --prompts two-lines.jsonl --max-new-tokens 1"));
    assert!(shown.starts_with("Anna\\nmet ‖ ") && shown.lines().count() == 1, "{shown}");
    let table = succeed(&irepair(dir, "sensitivity --model base --data pairs.jsonl --n-batches 3"));
    assert!(table.contains("grad_l2, norm_of_mean over 3 batches"), "{table}");
}

#[test]
fn each_kind_of_bad_input_is_one_clear_error() {
    let dir = workshop();
    let expect = |args: &str, code: i32, words: &[&str]| {
        let (got, error) = refuse(&irepair(dir, args));
        assert_eq!(got, code, "{error}");
        for word in words {
            assert!(error.contains(word), "no `{word}` in\n{error}");
        }
    };
    let repair = format!("{REPAIR} --method irepair-no-kl");
    expect(
        "repair --model nowhere --pairs pairs.jsonl --out x",
        4,
        &["`nowhere` is neither a path nor a model in the hub's cache", "hf download nowhere", "help:"],
    );

    fs::write(dir.join("broken.jsonl"), "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{\"prompt\":\"a\",\n")
        .unwrap();
    expect("repair --model base --pairs broken.jsonl --out x", 4, &["broken.jsonl", "line 2"]);

    fs::write(dir.join("typo.toml"), "batch_sise = 4\nlr = \"fast\"\n").unwrap();
    expect(
        &format!("{repair} --out x --config typo.toml"),
        2,
        &["2 problems", "`batch_sise`", "did you mean `batch_size`", "`lr`"],
    );

    expect(&format!("{repair} --out x --device cuda"), 3, &["device `cuda` is not available", "got: cpu only"]);
    expect(&format!("{repair} --out base"), 2, &["output directory is not empty"]);
    expect("repair --model base --out x", 2, &["`pairs`", "is missing"]);
    expect("eval --model base --prompts prompts.jsonl", 2, &["--lexicon"]);
    expect("eval --model base", 2, &["nothing is to be measured"]);

    // A tensor of another shape than config.json says.
    let odd = dir.join("odd");
    fs::create_dir_all(&odd).unwrap();
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(dir.join("base").join(file), odd.join(file)).unwrap();
    }
    let config =
        fs::read_to_string(dir.join("base/config.json")).unwrap().replace("\"n_positions\": 48", "\"n_positions\": 47");
    fs::write(odd.join("config.json"), config).unwrap();
    expect(
        "score --model odd --input corpus.txt",
        4,
        &["wrong shape", "wpe.weight", "want: [47, 16]    got: [48, 16]"],
    );
    assert!(!dir.join("x").exists(), "a refused command writes nothing");
}

#[test]
fn texts_longer_than_the_context_are_refused_by_every_command() {
    let dir = workshop();
    let long = "the mill by the river ".repeat(60);
    let pair = serde_json::json!({"prompt": long, "chosen": long, "rejected": long}).to_string();
    fs::write(dir.join("long.jsonl"), format!("{pair}\n").repeat(8)).unwrap();
    fs::write(dir.join("long-texts.jsonl"), serde_json::json!({"text": long}).to_string()).unwrap();
    for args in [
        "sensitivity --model base --data long.jsonl --n-batches 2",
        "score --model base --input long-texts.jsonl",
        "generate --model base --prompts long.jsonl --max-new-tokens 40",
        "repair --model base --pairs long.jsonl --method irepair-no-kl --out x --steps 1 --n-validation 2 --max-prompt 64",
    ] {
        let (code, error) = refuse(&irepair(dir, args));
        assert_eq!(code, 4, "{args}: {error}");
        assert!(error.contains("longer than the model's context") && error.contains("at most 48 positions"), "{error}");
    }
}

#[test]
fn a_vocabulary_may_be_larger_than_the_tokenizer_but_not_smaller() {
    let dir = workshop();
    let flags = "--n-layer 2 --n-embd 8 --n-head 2 --n-positions 48 --window 24 --steps 1 --batch-size 4";
    succeed(&irepair(dir, &format!("pretrain --data corpus.txt --out small --vocab-size 270 {flags}")));
    let mixed = |name: &str, model: &str, tokenizer: &str| {
        let to = dir.join(name);
        fs::create_dir_all(&to).unwrap();
        for (from, file) in [
            (model, "config.json"),
            (model, "model.safetensors"),
            (tokenizer, "tokenizer.json"),
            (tokenizer, "tokenizer_config.json"),
        ] {
            fs::copy(dir.join(from).join(file), to.join(file)).unwrap();
        }
    };
    // Padding rows of the embedding, as published models have them.
    mixed("padded", "base", "small");
    succeed(&irepair(dir, "generate --model padded --prompts prompts.jsonl --max-new-tokens 4"));
    mixed("short", "small", "base");
    let (code, error) = refuse(&irepair(dir, "generate --model short --prompts prompts.jsonl --max-new-tokens 4"));
    assert_eq!(code, 4, "{error}");
    assert!(error.contains("270"), "{error}");
}

#[test]
fn slice_sizes_out_of_range_are_refused_by_the_flag() {
    let dir = workshop();
    for size in ["0", "101", "0b", "many"] {
        let output = irepair(dir, &format!("{REPAIR} --out x --top-k {size}"));
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("--top-k") && stderr.contains("out of range"), "{stderr}");
    }
}

/// A signal in the middle of a repair: the step is kept, and the exit code and the words say so. No other model, policy
/// or slice takes the run up, not even where a model was replaced in its own directory; the same command does, and ends
/// with the bytes of a run without the signal.
#[cfg(unix)]
#[test]
fn an_interrupted_repair_goes_on_to_the_same_bytes() {
    let dir = workshop();
    let long = |out: &str| {
        format!(
            "repair --model mine --pairs pairs.jsonl --method irepair-no-kl --steps 400 --n-validation 4 --lr 1e-3 --max-prompt 16 --max-continuation 16 --checkpoint-every 1000 --out {out} --threads 1"
        )
    };
    succeed(&irepair(dir, &format!("pretrain --data corpus.txt --out other {BASE} --seed 1")));
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(dir.join(to)).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(dir.join(from).join(name), dir.join(to).join(name)).unwrap();
        }
    };
    copy("base", "mine");
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(long("stopped").split_whitespace()).stderr(std::process::Stdio::piped());
    let child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let steps = || fs::read_to_string(dir.join("stopped/metrics.jsonl")).map_or(0, |log| log.lines().count());
    for _ in 0..6000 {
        if steps() >= 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let (code, error) = refuse(&child.wait_with_output().unwrap());
    assert_eq!(code, 130, "{error}");
    assert!(
        error.contains("interrupted after step ") && error.contains("run the same command again to continue"),
        "{error}"
    );
    assert!(dir.join("stopped/.irepair-state.safetensors").exists() && !dir.join("stopped/config.json").exists());
    assert!((3..400).contains(&steps()));
    let again = long("stopped").replace(" --threads 1", "");
    let refused = |args: &str, want: &str| {
        let (code, error) = refuse(&irepair(dir, args));
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("changed since it was written: {want}")), "{error}");
    };
    refused(&again.replace("--model mine", "--model other"), "the model's weights\n");
    refused(&format!("{again} --policy random"), "the policy (dynamic (k 1b) → random (k 1b");
    refused(&format!("{again} --policy reverse"), "the policy (dynamic (k 1b) → reverse (k 1b)");
    refused(&format!("{again} --top-k 3b"), "the policy (dynamic (k 1b) → dynamic (k 3b))\n");
    refused(
        &format!("{again} --append-eos"),
        "the training pairs, the validation pairs, --append-eos (false → true)\n",
    );
    copy("other", "mine");
    refused(&again, "the model's weights\n");
    copy("base", "mine");
    succeed(&irepair(dir, &again));
    succeed(&irepair(dir, &long("whole").replace(" --threads 1", "")));
    let weights = |out: &str| fs::read(dir.join(out).join("model.safetensors")).unwrap();
    assert!(weights("stopped") == weights("whole"), "weights differ");
    assert_eq!(steps(), 400);
}

#[test]
fn an_output_directory_with_files_of_others_is_refused_by_name() {
    let dir = workshop();
    let own = dir.join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("repair.toml"), "model = \"../base\"\npairs = \"../pairs.jsonl\"\nsteps = 2\n").unwrap();
    fs::write(own.join("metrics.jsonl"), "mine\n").unwrap();
    for (args, found) in [
        ("repair --config repair.toml --n-validation 0 --out .", "./metrics.jsonl"),
        (format!("pretrain --data ../corpus.txt --out . {BASE}").as_str(), "./metrics.jsonl"),
    ] {
        let (code, error) = refuse(&irepair(&own, args));
        assert_eq!(code, 2, "{error}");
        assert!(error.starts_with(&format!("error: output directory is not empty\n   at: {found}\n")), "{error}");
    }
    let mut left: Vec<_> = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["metrics.jsonl", "repair.toml"]);
    assert_eq!(fs::read_to_string(own.join("metrics.jsonl")).unwrap(), "mine\n");
    fs::create_dir(own.join("empty")).unwrap();
    succeed(&irepair(&own, "repair --config repair.toml --n-validation 0 --out empty"));
    // A finished repair is not this run's any more.
    refuse(&irepair(&own, "repair --config repair.toml --n-validation 0 --out empty"));
}

#[test]
fn a_missing_end_of_text_is_warned_about_and_appended_when_asked() {
    let dir = workshop();
    let said = |flag: &str, out: &str| {
        let output = irepair(dir, &format!("{REPAIR} --method irepair-no-kl --out {out} {flag}"));
        succeed(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said("", "bare").contains("no chosen text ends with the end-of-text token"));
    assert!(!said("--append-eos", "ended").contains("no chosen text ends"));
}
