//! One try: a command cut short, the same command again, and what came of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::scene::{Scene, Victim};

const SIGKILL: i32 = 9;

/// How a command is cut short.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    /// Killed at its N-th point of writing.
    Point(usize),
    /// Killed after a time.
    After(Duration),
    /// From its N-th point of writing on, the system fails it like this.
    Fail(&'static str, usize),
}

/// A command that is never stopped.
pub(crate) struct Calm {
    pub(crate) outcome: Outcome,
    pub(crate) n_points: usize,
    pub(crate) took: Duration,
}

/// Runs a command to its end, counting its points.
pub(crate) fn calm(scene: &Scene, victim: &Victim) -> Calm {
    let (stage, log) = (scene.stage(), scene.stage().join("points"));
    let started = Instant::now();
    let output = victim.command(&stage).env("IREPAIR_FAULT_LOG", &log).output().unwrap();
    assert!(output.status.success(), "{}: {}", victim.name, words(&output));
    let n_points = fs::read_to_string(&log).unwrap().lines().count();
    assert!(n_points > 4, "{}: built without points of writing?", victim.name);
    let calm = Calm { outcome: Outcome::of(&stage), n_points, took: started.elapsed() };
    fs::remove_dir_all(stage).unwrap();
    calm
}

/// Cuts the command short, then runs it again; true when it was cut short before its end.
pub(crate) fn strike(scene: &Scene, victim: &Victim, calm: &Calm, how: Strike) -> Result<bool, String> {
    let stage = scene.stage();
    let struck = cut_short(victim, &stage, how)
        .and_then(|struck| finish(victim, &stage, &calm.outcome).map(|()| struck))
        .and_then(|struck| scene.check_inputs().map(|()| struck))
        .map_err(|why| format!("{}, {how:?}: {why}", victim.name));
    fs::remove_dir_all(stage).unwrap();
    struck
}

/// True when the command did not get to its end.
fn cut_short(victim: &Victim, stage: &Path, how: Strike) -> Result<bool, String> {
    let mut command = victim.command(stage);
    let output = match how {
        Strike::Point(n) => command.env("IREPAIR_FAULT", format!("kill@{n}")).output().unwrap(),
        Strike::Fail(fault, n) => command.env("IREPAIR_FAULT", format!("{fault}@{n}")).output().unwrap(),
        Strike::After(time) => {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(time);
            child.kill().unwrap();
            child.wait_with_output().unwrap()
        }
    };
    if output.status.success() {
        return Ok(false);
    }
    if let Strike::Fail(fault, _) = how {
        return failed_well(&output, fault, stage).map(|()| true);
    }
    match output.status.signal() {
        Some(SIGKILL) => Ok(true),
        _ => Err(format!("not killed but {}: {}", output.status, words(&output))),
    }
}

/// Faults in the end of a command that a system error stopped: it must report it once and leave no other file.
pub(crate) fn failed_well(output: &Output, fault: &str, dir: &Path) -> Result<(), String> {
    let said = words(output);
    let want = if fault == "enospc" { "no space left" } else { " failed: " };
    if output.status.code() != Some(4) || said.matches("error:").count() != 1 || !said.contains(want) {
        return Err(format!("exit {:?}, {said}", output.status.code()));
    }
    let litter = Outcome::of(dir);
    if litter.litter().is_empty() { Ok(()) } else { Err(format!("left behind: {:?}", litter.litter())) }
}

/// Runs the command until it is done; what it leaves must be what `want` is.
pub(crate) fn finish(victim: &Victim, stage: &Path, want: &Outcome) -> Result<(), String> {
    let output = victim.command(stage).output().unwrap();
    // It may have been cut short after its last step: then what it left is whole, and is not written over.
    let refused = ["directory is not empty", "output is there already"].iter().any(|why| words(&output).contains(why));
    let was_done = output.status.code() == Some(2) && refused;
    if !output.status.success() && !was_done {
        return Err(format!("not continued: {}", words(&output)));
    }
    Outcome::of(stage).check(want)
}

/// What a command said on stderr.
pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}
