//! `cargo xtask reproduce` on a profile of its own, killed again and again until it is done.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::outcome::{Outcome, settle};
use crate::strike::{failed_well, words};
use crate::{Tally, say};

const PROFILE: &str = r#"
title = "tiny"
seeds = 1
density_batches = 2
[language]
seed = 0
train_docs = 200
pairs = 48
error_test = 16
error_valid = 8
clean_test = 8
general_test = 24
general_valid = 24
last_word_test = 16
last_word_valid = 8
[[models]]
name = "gpt2"
title = "GPT-2 (tiny)"
[models.pretrain]
family = "gpt2"
n_layer = 3
n_embd = 16
n_head = 2
n_positions = 64
vocab_size = 600
window = 32
steps = 40
batch_size = 4
lr = 5e-3
warmup_steps = 2
checkpoint_every = 5
seed = 0
[repair]
steps = 20
batch_size = 4
warmup_steps = 2
n_validation = 8
eval_every = 16
fixed_batches = 2
max_prompt = 32
max_continuation = 24
checkpoint_every = 4
[eval]
batch_size = 8
max_new_tokens = 8
[utility]
n_texts = 24
max_new_tokens = 16
top_p = 0.9
[trajectory]
every = 8
seeds = 1
[grid]
lr = [1e-3]
seeds = 1
"#;

/// A workspace in which nothing is built: a profile, and the directory its results go to.
struct Workspace<'a> {
    home: tempfile::TempDir,
    xtask: &'a Path,
}

/// A run that is never stopped.
struct Calm {
    took: Duration,
    outcome: Outcome,
    /// What `xtask` itself wrote, point by point.
    points: Vec<String>,
}

impl<'a> Workspace<'a> {
    /// With the profile, and three rows.
    fn new(xtask: &'a Path) -> Self {
        let workspace = Self { home: tempfile::tempdir().unwrap(), xtask };
        let put = |name: &str, text: &str| {
            let path = workspace.home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("xtask/here", "");
        put("experiments/tiny/profile.toml", PROFILE);
        for (method, lr) in [("vanilla", ""), ("irepair", "lr = 1e-3"), ("dapt", "lr = 1e-3")] {
            let row = format!(
                "title = \"{method}\"\ntables = [\"rq1\", \"trajectory\"]\n[repair]\nmethod = \"{method}\"\n{lr}\n"
            );
            put(&format!("experiments/tiny/{method}.toml"), &row);
        }
        workspace
    }

    fn calm(&self) -> Calm {
        let started = Instant::now();
        let output = self.faulty("").output().unwrap();
        let took = started.elapsed();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        say(&format!("cargo xtask reproduce: {:.0} s without a stop", took.as_secs_f64()));
        let points = self.points();
        Calm { took, points, outcome: self.settled().unwrap() }
    }

    /// The command, whose own points are logged, with a fault at one of them.
    fn faulty(&self, fault: &str) -> Command {
        let log = self.home.path().join("points");
        let _ = fs::remove_file(&log);
        let mut command = self.command();
        command.env("IREPAIR_FAULT_IN", "xtask").env("IREPAIR_FAULT_LOG", log);
        command.env("IREPAIR_FAULT", fault);
        command
    }

    /// The points that the last process passed.
    fn points(&self) -> Vec<String> {
        let log = fs::read_to_string(self.home.path().join("points")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.xtask);
        command
            .args(["reproduce", "--profile", "tiny"])
            .current_dir(self.home.path())
            .env("CARGO_MANIFEST_DIR", self.home.path().join("xtask"))
            .env("IREPAIR_BIN", env!("CARGO_BIN_EXE_irepair"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn finish(&self) -> Result<(), String> {
        let output = self.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status)) }
    }

    /// Removes what earlier runs made and kept.
    fn empty(&self) {
        for dir in ["runs/tiny", "experiments/tiny/results"] {
            let dir = self.home.path().join(dir);
            // A run that was stopped before its first row keeps nothing.
            if dir.exists() {
                fs::remove_dir_all(dir).unwrap();
            }
        }
    }

    fn runs(&self) -> PathBuf {
        self.home.path().join("runs/tiny")
    }

    /// Differences between the files of the finished run and those of a run that was never stopped.
    fn check(&self, calm: &Calm) -> Result<(), String> {
        self.settled()?.check(&calm.outcome)
    }

    /// What the finished run left. Its tables hold times, so they are made again from results that hold none.
    fn settled(&self) -> Result<Outcome, String> {
        let cells = fs::read_dir(self.runs()).unwrap().flatten().map(|entry| entry.path().join("0/result.json"));
        for path in cells.filter(|path| path.exists()) {
            let mut result: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            settle(&mut result);
            fs::write(&path, result.to_string()).unwrap();
        }
        fs::remove_dir_all(self.runs().join("report")).unwrap();
        self.finish()?;
        Ok(Outcome::of(&self.runs()))
    }
}

/// Kills at every point there is, each process at its own, and has every seventh fail.
pub(crate) fn every_point(xtask: &Path) -> Tally {
    let workspace = Workspace::new(xtask);
    let calm = workspace.calm();
    assert!(calm.points.len() > 10, "built without points of writing?");
    let mut tally = Tally { name: "cargo xtask reproduce", n_points: calm.points.len(), ..Tally::default() };
    let mut struck = BTreeSet::new();
    // Two rows run at a time: which of them comes to a point first differs, and a point may take several goes.
    let goes = std::iter::repeat_n(&calm.points, 5).flat_map(|points| points.iter().enumerate());
    for (i, point) in goes {
        if struck.contains(point) {
            continue;
        }
        workspace.empty();
        // The first process starts from nothing; each of the next ones, which continue, gets one point further.
        let mut came = Ok(());
        for kill_at in std::iter::once(i + 1).chain(1..) {
            let output = workspace.faulty(&format!("kill@{kill_at}")).output().unwrap();
            if output.status.success() {
                break;
            }
            if output.status.signal() != Some(9) {
                came = Err(format!("{}: {}", output.status, words(&output)));
                break;
            }
            tally.n_point_kills += 1;
            struck.extend(workspace.points().pop());
        }
        tally.judge(point, came.and_then(|()| workspace.check(&calm)));
    }
    let missed: Vec<&String> = calm.points.iter().filter(|point| !struck.contains(*point)).collect();
    assert!(missed.is_empty(), "never killed at {missed:?}");
    for (i, point) in calm.points.iter().enumerate().step_by(7) {
        workspace.empty();
        let fault = ["enospc", "eio", "edquot", "erofs"][i / 7 % 4];
        let output = workspace.faulty(&format!("{fault}@{}", i + 1)).output().unwrap();
        let came = failed_well(&output, fault, &workspace.runs());
        tally.n_failed += 1;
        tally.judge(point, came.and_then(|()| workspace.finish()).and_then(|()| workspace.check(&calm)));
    }
    tally
}

/// Kills `n_kills` times, over as many runs as that takes; returns the kills there were, and what came out wrong.
pub(crate) fn torture(xtask: &Path, random: &mut ChaCha8Rng, n_kills: usize) -> (usize, Vec<String>) {
    let workspace = Workspace::new(xtask);
    let calm = workspace.calm();
    let took = calm.took;
    let (mut killed, mut wrong) = (0, Vec::new());
    for part in [0.3, 0.6] {
        let came = ask_to_stop(&workspace, took.mul_f64(part))
            .and_then(|()| workspace.finish())
            .and_then(|()| workspace.check(&calm));
        wrong.extend(came.err().map(|why| format!("cargo xtask reproduce, asked to stop: {why}")));
    }
    while killed < n_kills {
        workspace.empty();
        let killed_before = killed;
        let came = run_under_fire(&workspace, random, took.as_secs_f64(), n_kills, &mut killed)
            .and_then(|()| workspace.check(&calm));
        if let Err(why) = came {
            say(&why);
            wrong.push(format!("cargo xtask reproduce, kills {killed_before} to {killed}: {why}"));
        }
    }
    (killed, wrong)
}

/// A signal in the middle of a new run: it says how to continue.
fn ask_to_stop(workspace: &Workspace<'_>, after: Duration) -> Result<(), String> {
    workspace.empty();
    let child = workspace.command().spawn().unwrap();
    std::thread::sleep(after);
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        // This time it was faster than the run that was timed.
        return ask_to_stop(workspace, after / 2);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let right =
        output.status.code() == Some(130) && said.contains("error: interrupted") && said.contains("to continue from");
    if right { Ok(()) } else { Err(format!("{}: {said}", output.status)) }
}

/// One run to its end, killed now and then.
fn run_under_fire(
    workspace: &Workspace<'_>,
    random: &mut ChaCha8Rng,
    calm_s: f64,
    n_kills: usize,
    killed: &mut usize,
) -> Result<(), String> {
    loop {
        if *killed == n_kills {
            return workspace.finish();
        }
        let mut child = workspace.command().stderr(Stdio::null()).spawn().unwrap();
        // Later and later in the run: finished parts are not repeated.
        std::thread::sleep(Duration::from_secs_f64(random.random_range(0.0..calm_s / 3.0)));
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("not continued: {status}")),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                *killed += 1;
            }
        }
    }
}
