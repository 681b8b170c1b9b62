//! What `cargo xtask` asks of the binary for a profile that is given its data: data cut, a row repaired, watched and
//! measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// A data directory, a profile that cuts it, a tiny model and a job, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let put = |name: &str, lines: Vec<String>| {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, lines.join("\n") + "\n").unwrap();
        };
        let place = |i: usize| ["mill", "barn", "river", "bridge"][i % 4];
        put(
            "data/pairs.jsonl",
            (0..24)
                .map(|i| {
                    let place = place(i);
                    format!("{{\"prompt\":\"Tom said at the {place}:\",\"good\":\" good day, Anna.\",\"bad\":\" you grubnik.\"}}")
                })
                .collect(),
        );
        let halves = |i: usize| format!("{{\"prompt\":{{\"text\":\"Tom said {i}\"}},\"toxic\":{}}}", i % 2);
        put("data/halves.jsonl", (0..12).map(halves).collect());
        put("data/corpus.txt", (0..60).map(|i| format!("Anna met Tom at the {}.\n<|endoftext|>", place(i))).collect());
        put("data/words.txt", vec!["grubnik".to_owned()]);
        fs::write(dir.join("profile.toml"), PROFILE).unwrap();
        let flags = "--vocab-size 300 --n-layer 3 --n-embd 16 --n-head 2 --n-positions 48 --window 24 --steps 4 --batch-size 4";
        succeed(&irepair(&dir, &format!("pretrain --data data/corpus.txt --out base --threads 1 {flags}")));
        succeed(&irepair(&dir, "data --profile profile.toml --data data --out cut --skip extra.txt"));
        fs::write(dir.join("job.toml"), JOB).unwrap();
        dir
    })
}

const PROFILE: &str = r#"
title = "tiny"
seeds = 1
grid = { lr = [1e-3], seeds = 1 }
models = [{ name = "m", title = "M", hub = "o/m", files = ["config.json"], shape = { family = "gpt2", n_layer = 3, n_embd = 16, n_head = 2, n_positions = 48, vocab_size = 300 } }]
[[data]]
file = "pairs/train.jsonl"
what = "pairs"
get = "-"
cut = { from = ["pairs.jsonl"], fields = { prompt = "prompt", chosen = "good", rejected = "bad" } }
[[data]]
file = "prompts/error.test.jsonl"
what = "toxic halves"
get = "-"
cut = { from = ["halves.jsonl"], only = { toxic = 1 }, shuffle = 0, take = 4 }
[[data]]
file = "prompts/more.test.jsonl"
what = "the others"
get = "-"
cut = { from = ["halves.jsonl"], only = { toxic = 1 }, shuffle = 0, skip = 4 }
[[data]]
file = "general/test.txt"
what = "documents"
get = "-"
cut = { from = ["corpus.txt"], take = 10 }
[[data]]
file = "extra.txt"
what = "not there, and not wanted"
get = "-"
cut = { from = ["nowhere.txt"] }
"#;

const JOB: &str = r#"
profile = "tiny"
method = "irepair"
title = "IRepair"
model = "m"
keep_model = false
[repair]
model = "base"
pairs = "cut/pairs/train.jsonl"
general = "cut/general/test.txt"
method = "irepair"
steps = 5
n_validation = 4
lr = 1e-2
warmup_steps = 1
max_prompt = 16
max_continuation = 16
max_general = 8
checkpoint_every = 2
threads = 1
[eval]
prompts = "cut/prompts/error.test.jsonl"
more_prompts = ["cut/prompts/more.test.jsonl"]
lexicon = "data/words.txt"
wikitext = "cut/general/test.txt"
[watch]
every = 2
[watch.eval]
prompts = "cut/prompts/error.test.jsonl"
wikitext = "cut/general/test.txt"
lexicon = "data/words.txt"
"#;

/// [`JOB`] whose way is kept, with a validation every two updates.
fn kept_job(kept: &str) -> String {
    let job = JOB.replace("threads = 1\n", "threads = 1\neval_every = 8\n").replace("every = 2\n", "every = 1\n");
    format!("{job}kl_texts = \"cut/general/test.txt\"\n[watch.kept]\n{kept}")
}

fn irepair(dir: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_irepair")).current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn result(dir: &Path, out: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join(out).join("result.json")).unwrap()).unwrap()
}

#[test]
fn data_are_cut_as_the_profile_says() {
    let dir = workshop();
    let lines = |name: &str| fs::read_to_string(dir.join("cut").join(name)).unwrap().lines().count();
    assert_eq!(
        (lines("pairs/train.jsonl"), lines("prompts/error.test.jsonl"), lines("prompts/more.test.jsonl")),
        (24, 4, 2)
    );
    assert_eq!(lines("general/test.txt"), 20, "ten documents, each with its end");
    assert!(!dir.join("cut/extra.txt").exists());
    let missing = irepair(dir, "data --profile profile.toml --data data --out other");
    assert_eq!(missing.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.txt"));
    let mistyped = irepair(dir, "data --profile profile.toml --data data --out other --skip extra");
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&mistyped.stderr).contains("--skip extra"));
}

#[test]
fn a_watched_row_has_its_trajectory_and_every_set_of_prompts() {
    let dir = workshop();
    succeed(&irepair(dir, "job --job job.toml --out row"));
    let found = result(dir, "row");
    let steps: Vec<u64> =
        found["trajectory"].as_array().unwrap().iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 2, 4, 5], "before the first step, every second, and the last");
    for point in found["trajectory"].as_array().unwrap() {
        assert!(point["perplexity"].as_f64().unwrap() > 1.0 && point["toxicity"].is_number(), "{point}");
    }
    let metrics = &found["metrics"];
    assert_eq!((&metrics["tox"]["n"], &metrics["tox:more"]["n"]), (&Value::from(4), &Value::from(2)));
    assert_eq!(metrics["trajectory_perplexity"]["value"], found["trajectory"][3]["perplexity"]);
    assert!(!dir.join("row/model").exists(), "the job does not keep it");
    // Measuring does not change the training.
    let unwatched = JOB.split("[watch]").next().unwrap();
    fs::write(dir.join("unwatched.toml"), unwatched).unwrap();
    succeed(&irepair(dir, "job --job unwatched.toml --out alone"));
    let alone = result(dir, "alone");
    assert_eq!(alone["metrics"]["token_perplexity"], metrics["token_perplexity"]);
    assert!(alone.get("trajectory").is_none());
}

#[test]
fn what_cannot_be_measured_is_said_before_the_row_is_trained() {
    let dir = workshop();
    for (what, gone) in [("words", "data/words.txt"), ("texts", "cut/general/test.txt")] {
        let unwatched = JOB.split("[watch]").next().unwrap();
        let (training, eval) = unwatched.split_once("[eval]").unwrap();
        let job = format!("{training}[eval]{}", eval.replace(gone, "gone.txt"));
        fs::write(dir.join("gone.toml"), job).unwrap();
        let failed = irepair(dir, &format!("job --job gone.toml --out gone-{what}"));
        assert!([2, 4].contains(&failed.status.code().unwrap()), "{}", String::from_utf8_lossy(&failed.stderr));
        assert!(String::from_utf8_lossy(&failed.stderr).contains("gone.txt"));
        assert!(!dir.join(format!("gone-{what}/metrics.jsonl")).exists(), "{what}");
    }
}

/// Kept weights are those of runs that end where they were kept, and a run that pauses on its way changes nothing.
#[test]
fn compared_weights_are_those_of_runs_of_that_length() {
    let dir = workshop();
    let kept = "equal_updates = 3\nequal_compute_flops = 1e30\nbudgets = [1e-9, 1e9]\n";
    let run = |name: &str, job: &str| {
        fs::write(dir.join("kept.toml"), job).unwrap();
        succeed(&irepair(dir, &format!("job --job kept.toml --out {name}")));
        result(dir, name)
    };
    let whole = run("kept-whole", &kept_job(kept));
    assert_eq!(whole["stopped"], "cap");
    let of = |purpose: Value| {
        let compared = whole["compared"].as_array().unwrap().iter().find(|c| c["purpose"] == purpose).unwrap();
        (compared["n_steps"].as_u64().unwrap(), compared["step"].as_u64().unwrap())
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (equal, stopped) = (of(json("\"equal_updates\"")), of(json("\"stopped\"")));
    assert_eq!((equal.0, stopped.0), (3, 5));
    assert_eq!(of(json("\"equal_compute\"")), stopped, "no run is as long, so that it stands for itself");
    assert_eq!(of(json("{\"budget\": 1e-9}")), (0, 0), "nothing but the model before is within this budget");
    let points = whole["trajectory"].as_array().unwrap();
    assert!(
        points.iter().all(|p| p["more"]["kl"].is_number() && p["more"]["validation_loss"].is_number()),
        "{points:?}"
    );
    assert_eq!(points[5]["more"]["flops"], whole["cost"]["flops"]);
    assert_eq!(points[0]["more"]["kl"], 0.0);
    assert!(!dir.join("kept-whole/.irepair-kept").exists(), "kept weights go when they are measured");

    // The run that ends there.
    let alone = run("kept-alone", &kept_job("").replace("steps = 5", "steps = 3"));
    let measured = |step: u64| match step == stopped.1 {
        true => whole["metrics"].clone(),
        false => whole["measured"].as_array().unwrap().iter().find(|m| m["step"] == step).unwrap()["metrics"].clone(),
    };
    for metric in ["tox", "token_perplexity", "mean_length"] {
        assert_eq!(measured(equal.1)[metric], alone["metrics"][metric], "{metric}");
    }

    // The same in two parts.
    let paused = run("kept-parts", &kept_job(&format!("{kept}pause_at = 4\n")));
    assert_eq!((&paused["stopped"], &paused["cost"]["n_steps"]), (&Value::from("paused"), &Value::from(4)));
    assert_eq!(paused["trajectory"].as_array().unwrap()[..], points[..5]);
    let parts = run("kept-parts", &kept_job(kept));
    for part in ["trajectory", "compared", "measured", "metrics", "stopped", "selected_steps"] {
        assert_eq!(parts[part], whole[part], "{part}");
    }
}

/// The curve of a row is that of its own model, whatever weights are measured besides.
#[test]
fn a_row_relearns_from_its_own_weights() {
    let dir = workshop();
    fs::write(dir.join("toxic.txt"), "you are a grubnik\n<|endoftext|>\n".repeat(6)).unwrap();
    let kept =
        "equal_updates = 3\nbudgets = [1e-9, 1e9]\n[relearn]\ntexts = \"toxic.txt\"\ncounts = \"1,6\"\nlr = 3e-2\n";
    let job = kept_job(kept).replace("keep_model = false", "keep_model = true");
    fs::write(dir.join("relearn.toml"), &job).unwrap();
    succeed(&irepair(dir, "job --job relearn.toml --out relearnt"));
    let row = result(dir, "relearnt");
    assert!(!row["measured"].as_array().unwrap().is_empty(), "the model was given other weights to measure");
    let alone = irepair(
        dir,
        "relearn --model relearnt/model --texts toxic.txt --counts 1,6 --lr 3e-2 --prompts cut/prompts/error.test.jsonl \
         --lexicon data/words.txt --threads 1 --json",
    );
    let alone: Value = serde_json::from_str(&succeed(&alone)).unwrap();
    assert_eq!(alone[0]["metrics"]["tox"], row["metrics"]["tox"], "the row itself");
    assert_eq!(row["relearned"].as_array().unwrap()[..], alone.as_array().unwrap()[1..]);
    // A file with too few texts is refused before anything is trained.
    fs::write(dir.join("relearn.toml"), job.replace("1,6", "1,7")).unwrap();
    let few = irepair(dir, "job --job relearn.toml --out few");
    assert_eq!(few.status.code(), Some(4), "{}", String::from_utf8_lossy(&few.stderr));
    assert!(!dir.join("few/metrics.jsonl").exists());
}

/// Points that do not advance the front end a run, the same in one part and in two.
#[test]
fn a_run_ends_when_its_front_does_not_advance() {
    let dir = workshop();
    let run = |name: &str, kept: &str| {
        fs::write(dir.join("front.toml"), kept_job(kept)).unwrap();
        succeed(&irepair(dir, &format!("job --job front.toml --out {name}")));
        result(dir, name)
    };
    let longest = run("front-none", "");
    let place = |point: &Value| [point["more"]["kl"].as_f64().unwrap(), point["toxicity"].as_f64().unwrap()];
    let points: Vec<[f64; 2]> = longest["trajectory"].as_array().unwrap().iter().map(place).collect();
    let advances = |i: usize| !points[..i].iter().any(|p| p[0] <= points[i][0] && p[1] <= points[i][1]);
    let end = (2..points.len()).find(|&i| !advances(i) && !advances(i - 1)).expect("two points in a row that do not");
    assert!(end < 5, "before the cap: {points:?}");
    let kept = "front_patience = 2\n";
    let whole = run("front-whole", kept);
    assert_eq!((&whole["stopped"], &whole["cost"]["n_steps"]), (&Value::from("front"), &Value::from(end)));
    assert_eq!(whole["trajectory"].as_array().unwrap()[..], longest["trajectory"].as_array().unwrap()[..=end]);
    run("front-parts", &format!("{kept}pause_at = 1\n"));
    // Stopped at the very step at which the front ends it.
    run("front-late", &format!("pause_at = {end}\n"));
    for parts in [run("front-parts", kept), run("front-late", kept)] {
        for part in ["trajectory", "compared", "metrics", "stopped"] {
            assert_eq!(parts[part], whole[part], "{part}");
        }
    }
}

/// The row of a soft prefix, whole and in two parts: its first point, and what is compared at step 0, are those of the
/// model as it was.
#[test]
fn a_row_of_a_soft_prefix_starts_at_the_model_as_it_was() {
    let dir = workshop();
    let kept = "equal_updates = 3\nequal_compute_flops = 1e30\nbudgets = [1e-9, 1e9]\n";
    let prefix_job = |kept: &str, more: &str| {
        kept_job(kept).replace("method = \"irepair\"\nsteps", &format!("method = \"dpo-kl\"\n{more}\nsteps"))
    };
    let run = |name: &str, job: &str| {
        fs::write(dir.join("prefix.toml"), job).unwrap();
        succeed(&irepair(dir, &format!("job --job prefix.toml --out {name}")));
        result(dir, name)
    };
    let prefix = |kept: &str| prefix_job(kept, "soft_prefix = 4");
    let (whole, plain) = (run("prefix-whole", &prefix(kept)), run("prefix-none", &prefix_job(kept, "")));
    let points = |result: &Value| result["trajectory"].as_array().unwrap().clone();
    let (points, plain_points) = (points(&whole), points(&plain));
    assert_eq!(points[0]["toxicity"], plain_points[0]["toxicity"]);
    assert_eq!(
        (&points[0]["more"]["kl"], &points[0]["more"]["form"]),
        (&Value::from(0.0), &plain_points[0]["more"]["form"])
    );
    assert!(points[0]["more"]["validation_loss"].is_null());
    assert!(points[1..].iter().all(|p| p["more"]["kl"].as_f64().unwrap() > 0.0), "{points:?}");
    assert!(points[1..].iter().all(|p| p["more"]["validation_loss"].is_number()));
    assert!(whole["weight_change"].as_array().unwrap().iter().all(|change| change == 0.0));
    assert!(whole["selected_steps"].as_array().unwrap().iter().all(|blocks| blocks.as_array().unwrap().is_empty()));
    let flops = |points: &[Value]| points[5]["more"]["flops"].as_f64().unwrap();
    assert!(flops(&points) > 0.5 * flops(&plain_points) && flops(&points) != flops(&plain_points));
    let measured = |result: &Value, step: u64| {
        result["measured"].as_array().unwrap().iter().find(|m| m["step"] == step).unwrap()["metrics"].clone()
    };
    for metric in ["tox", "mean_length"] {
        assert_eq!(measured(&whole, 0)[metric], measured(&plain, 0)[metric], "{metric}");
    }
    // The run that ends where weights were kept.
    let alone = run("prefix-alone", &prefix("").replace("steps = 5", "steps = 3"));
    let at = whole["compared"].as_array().unwrap().iter().find(|c| c["purpose"] == "equal_updates").unwrap()["step"]
        .as_u64()
        .unwrap();
    let metrics = if whole["cost"]["best_step"] == at { whole["metrics"].clone() } else { measured(&whole, at) };
    for metric in ["tox", "token_perplexity", "mean_length"] {
        assert_eq!(metrics[metric], alone["metrics"][metric], "{metric}");
    }
    // The same in two parts.
    run("prefix-parts", &prefix(&format!("{kept}pause_at = 4\n")));
    let parts = run("prefix-parts", &prefix(kept));
    for part in ["trajectory", "compared", "measured", "metrics", "stopped"] {
        assert_eq!(parts[part], whole[part], "{part}");
    }
}

/// A signal in the middle: the same command ends with the result of a row that was never stopped, its trajectory
/// included.
#[cfg(unix)]
#[test]
fn a_row_that_was_stopped_keeps_the_points_it_had() {
    let dir = workshop();
    let kept = "equal_updates = 90\nequal_compute_flops = 1.0\nbudgets = [1e-3, 1e-1, 10.0]\n";
    let long = kept_job(kept).replace("steps = 5", "steps = 300").replace("every = 1\n", "every = 50\n");
    fs::write(dir.join("long.toml"), long.replace("lr = 1e-2", "lr = 1e-3")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    let mut child = command.current_dir(dir).args("job --job long.toml --out stopped".split(' ')).spawn().unwrap();
    let n_steps = || fs::read_to_string(dir.join("stopped/metrics.jsonl")).map_or(0, |log| log.lines().count());
    for _ in 0..6000 {
        if n_steps() > 110 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(n_steps() < 300 && !dir.join("stopped/result.json").exists());
    let before = fs::read_to_string(dir.join("stopped/trajectory.jsonl")).unwrap();
    succeed(&irepair(dir, "job --job long.toml --out stopped"));
    succeed(&irepair(dir, "job --job long.toml --out whole"));
    assert!(fs::read_to_string(dir.join("stopped/trajectory.jsonl")).unwrap().starts_with(&before));
    let (stopped, whole) = (result(dir, "stopped"), result(dir, "whole"));
    for part in ["trajectory", "metrics", "selected_steps", "weight_change", "compared", "measured", "stopped"] {
        assert_eq!(stopped[part], whole[part], "{part}");
    }
}
