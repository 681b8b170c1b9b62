//! `irepair repair` as several processes: bits, ends and refusals.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use irepair_core::fs::sha256_file;

/// A directory with a small Llama and pairs.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
        fs::copy(gguf, dir.join("model.gguf")).unwrap();
        let line = |i: usize| {
            let who = ["Anna", "Tom", "the miller"][i % 3];
            let pair = serde_json::json!({
                "prompt": format!("{i}. They say"),
                "chosen": format!(" {who} was kind {i} times."),
                "rejected": format!(" {who} left the mill {i} times."),
            });
            pair.to_string() + "\n"
        };
        fs::write(dir.join("pairs.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
        fs::write(dir.join("others.jsonl"), (1..41).map(line).collect::<String>()).unwrap();
        let texts: String = (0..60).map(|i| format!("{{\"text\": \"Neutral words, {i} of them.\"}}\n")).collect();
        fs::write(dir.join("texts.jsonl"), texts).unwrap();
        let output = command("import model.gguf --out model", &dir).output().unwrap();
        assert!(output.status.success());
        dir
    })
}

fn command(args: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Those of a launcher that runs the tests themselves.
    for name in ["RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"] {
        command.env_remove(name);
    }
    command
}

const REPAIR: &str = "repair --model model --utility texts.jsonl --preset paper --lr 1e-3 --threads 1 --n-validation 8";

fn repair(more: &str) -> Command {
    command(&format!("{REPAIR} --pairs pairs.jsonl {more}"), workshop())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn weights(out: &str) -> String {
    sha256_file(&workshop().join(out).join("model.safetensors")).unwrap()
}

#[test]
fn ranks_give_the_bits_of_one_process() {
    let alone = repair("--steps 12 --accumulation 3 --out alone").output().unwrap();
    assert!(alone.status.success(), "{}", stderr(&alone));
    // A micro-batch for each rank, where nothing else is said.
    for (n, more) in [(3, ""), (2, "--accumulation 3")] {
        let out = format!("by-{n}");
        let together = repair(&format!("--steps 12 --ranks {n} {more} --out {out}")).output().unwrap();
        assert!(together.status.success(), "{}", stderr(&together));
        assert_eq!(weights(&out), weights("alone"), "{n} ranks");
        let said = String::from_utf8_lossy(&together.stdout).into_owned();
        assert_eq!(said.matches("repaired with irepair").count(), 1, "{said}");
        assert_eq!(stderr(&together).matches("plan: irepair").count(), 1);
        let shared = format!("free for each of {n} ranks on this machine");
        assert!(stderr(&together).contains(&shared), "{}", stderr(&together));
        let settings = |out: &str| fs::read_to_string(workshop().join(out).join("repair.toml")).unwrap();
        assert_eq!(settings(&out).replace(&out, "alone"), settings("alone"));
    }
}

/// Processes that a launcher such as torchrun starts, each with its own arguments.
fn under_a_launcher(args: [&str; 2]) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |(rank, args): (usize, &&str)| {
        let mut command = command(&format!("{REPAIR} {args}"), workshop());
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2");
        command
            .env("LOCAL_RANK", rank.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string());
        command.spawn().unwrap()
    };
    args.iter().enumerate().map(start).collect()
}

#[test]
fn a_launcher_starts_ranks_by_its_variables() {
    let alone = repair("--steps 6 --accumulation 2 --out launched-alone").output().unwrap();
    assert!(alone.status.success());
    let args = "--pairs pairs.jsonl --steps 6 --out launched";
    for child in under_a_launcher([args, args]) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(weights("launched"), weights("launched-alone"));
}

#[test]
fn a_rank_with_other_data_is_refused_with_one_message() {
    let [first, second] = ["pairs", "others"].map(|file| format!("--pairs {file}.jsonl --steps 6 --out refused"));
    let outputs: Vec<Output> =
        under_a_launcher([&first, &second]).into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let said = format!("{}{}", stderr(&outputs[0]), stderr(&outputs[1]));
    assert_eq!(said.matches("error: rank 1 differs from rank 0: the training pairs").count(), 1, "{said}");
    assert_eq!(outputs.iter().map(|o| o.status.code()).collect::<Vec<_>>(), [Some(2), Some(2)], "{said}");
    assert!(!workshop().join("refused").exists(), "nothing is written before all agree");
}

#[test]
fn the_error_of_one_rank_is_shown_once_with_its_number() {
    let (first, second) =
        ("--pairs pairs.jsonl --steps 6 --out one-fails", "--pairs none.jsonl --steps 6 --out one-fails");
    let outputs: Vec<Output> =
        under_a_launcher([first, second]).into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let said = format!("{}{}", stderr(&outputs[0]), stderr(&outputs[1]));
    assert_eq!((said.matches("error:").count(), said.matches("error: rank 1: ").count()), (1, 1), "{said}");
    // Where all fail alike, the first says it.
    let all = repair("--steps 6 --ranks 3 --only 99 --out all-fail").output().unwrap();
    assert_eq!(stderr(&all).matches("error:").count(), 1, "{}", stderr(&all));
    assert!(!stderr(&all).contains("error: rank"), "{}", stderr(&all));
}

#[test]
fn a_rank_that_is_killed_ends_all_and_the_run_is_resumed() {
    let whole = repair("--steps 300 --accumulation 2 --out whole").output().unwrap();
    assert!(whole.status.success());
    let args = "--pairs pairs.jsonl --steps 300 --checkpoint-every 1000 --out killed";
    let mut ranks = under_a_launcher([args, args]);
    let log = workshop().join("killed/metrics.jsonl");
    let started = Instant::now();
    while fs::metadata(&log).map_or(0, |log| log.len()) == 0 && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_millis(300));
    ranks[1].kill().unwrap();
    let (killed, started) = (ranks.pop().unwrap(), Instant::now());
    drop(killed.wait_with_output());
    let left = ranks.pop().unwrap().wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    if left.status.success() {
        // The run was faster than the kill.
        return;
    }
    assert_eq!(left.status.code(), Some(5), "{}", stderr(&left));
    assert!(stderr(&left).contains("error: rank 1 is gone: its connection was closed"), "{}", stderr(&left));
    // By another number of processes: the state is that of the run.
    let resumed = repair("--steps 300 --accumulation 2 --out killed --checkpoint-every 1000").output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("resuming at step"), "{}", stderr(&resumed));
    assert_eq!(weights("killed"), weights("whole"));
}

#[test]
fn what_cannot_be_is_refused_at_the_start() {
    let refused = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        stderr(&output)
    };
    let mut other = repair("--ranks 4 --out x");
    other.env("RANK", "0").env("WORLD_SIZE", "2").env("MASTER_PORT", "1");
    assert!(refused(other).contains("--ranks is not the number of ranks"));
    let mut bad = repair("--out x");
    bad.env("RANK", "7").env("WORLD_SIZE", "2").env("MASTER_PORT", "1");
    assert!(refused(bad).contains("`RANK` is wrong"));
    let mut pipe = command(&format!("{REPAIR} --pairs /dev/stdin --ranks 2 --out x"), workshop());
    pipe.stdin(Stdio::piped());
    assert!(refused(pipe).contains("several ranks cannot read a pipe"));
    let few = refused(repair("--ranks 3 --accumulation 2 --out x"));
    assert_eq!(few.matches("setting `accumulation` is out of range").count(), 1, "{few}");
    assert!(!workshop().join("x").exists());
}
