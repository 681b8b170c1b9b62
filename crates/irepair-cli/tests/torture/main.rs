//! Commands killed and failed wherever they write, run again, and compared with ones that were never stopped.
//!
//! The short form is part of every test run; `cargo xtask torture` runs the long one.
#![cfg(unix)]

mod disk;
mod outcome;
mod reproduce;
mod scene;
mod stop;
mod strike;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use outcome::Outcome;
use scene::{Scene, Victim, apply, export, fix, import, plant, pretrain, repair, scene};
use strike::{Calm, Strike, calm, finish, strike};

/// What came of cutting one command short.
#[derive(Default)]
struct Tally {
    name: &'static str,
    n_points: usize,
    n_point_kills: usize,
    n_kills: usize,
    n_failed: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, how: Strike, came: Result<bool, String>) {
        let count = match how {
            Strike::Point(_) => &mut self.n_point_kills,
            Strike::After(_) => &mut self.n_kills,
            Strike::Fail(..) => &mut self.n_failed,
        };
        match came {
            Ok(struck) => *count += usize::from(struck),
            Err(why) => {
                *count += 1;
                say(&why);
                self.wrong.push(why);
            }
        }
    }

    /// Notes what came of a try that is counted already.
    fn judge(&mut self, at: &str, came: Result<(), String>) {
        if let Err(why) = came {
            let why = format!("{}, {at}: {why}", self.name);
            say(&why);
            self.wrong.push(why);
        }
    }

    fn line(&self) -> String {
        let (n, n_wrong) = (self.n_point_kills + self.n_kills + self.n_failed, self.wrong.len());
        format!(
            "{:<24}{:>8}{:>12}{:>12}{:>12}{:>12}",
            self.name,
            self.n_points,
            self.n_point_kills,
            self.n_kills,
            self.n_failed,
            format!("{}/{n}", n - n_wrong)
        )
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A number that `cargo xtask torture` was given.
fn given(name: &str, default: usize) -> usize {
    std::env::var(format!("IREPAIR_TORTURE_{name}")).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn generator() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(given("SEED", 0) as u64)
}

/// Kills and fails at every `stride`-th point, each time at another one, and kills at `n_kills` instants. Of the points
/// only those from `IREPAIR_TORTURE_FROM` to `IREPAIR_TORTURE_TO`, so that a long form can be run in parts.
fn torture(scene: &Scene, victim: &Victim, stride: usize, n_kills: usize) -> Tally {
    let mut random = generator();
    let Calm { outcome, n_points, took } = calm(scene, victim);
    let calm = Calm { outcome, n_points, took };
    let mut tally = Tally { name: victim.name, n_points, ..Tally::default() };
    // Files removed at the end come last: those points are always tried.
    let first = 1 + random.random_range(0..stride);
    let part = given("FROM", 1)..=given("TO", usize::MAX);
    let all = (first..=n_points).step_by(stride).chain(n_points - 3..=n_points);
    let points: BTreeSet<usize> = all.filter(|n| part.contains(n)).collect();
    for n in points {
        if n % 100 == 0 {
            say(&format!("{}: point {n} of {n_points}", victim.name));
        }
        tally.add(Strike::Point(n), strike(scene, victim, &calm, Strike::Point(n)));
    }
    let failing = (1 + random.random_range(0..stride)..=n_points).step_by(stride * 2);
    for (i, n) in failing.filter(|n| part.contains(n)).enumerate() {
        let fail = Strike::Fail(["enospc", "eio", "edquot", "erofs"][i % 4], n);
        tally.add(fail, strike(scene, victim, &calm, fail));
    }
    // A kill that comes after the end is none.
    let mut n_tries = 0;
    while tally.n_kills < n_kills && n_tries < 4 * n_kills {
        n_tries += 1;
        let after = Strike::After(took.mul_f64(random.random_range(0.0..1.0)));
        tally.add(after, strike(scene, victim, &calm, after));
    }
    tally
}

fn head() -> String {
    let columns = format!("{:<24}{:>8}{:>12}{:>12}{:>12}", "command", "points", "killed at", "killed at", "failed at");
    let below =
        format!("{:<24}{:>8}{:>12}{:>12}{:>12}{:>12}", "", "", "a point", "an instant", "a point", "same bytes");
    format!("{columns}\n{below}")
}

fn refuse_wrong(tallies: &[Tally]) {
    let wrong: Vec<&String> = tallies.iter().flat_map(|tally| &tally.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn whatever_is_killed_or_failed_goes_on_to_the_same_bytes() {
    let victims = [
        (pretrain(4, 2), 9, 1),
        (repair(4, 2), 19, 1),
        (apply(), 5, 2),
        (import(), 5, 1),
        (plant(), 5, 1),
        (export(), 1, 1),
        (fix(), 149, 1),
    ];
    let tallies = victims.map(|(victim, stride, n_kills)| torture(scene(), &victim, stride, n_kills));
    refuse_wrong(&tallies);
    for tally in &tallies {
        assert!(tally.n_point_kills >= 4 && tally.n_failed >= 2 && tally.n_kills >= 1, "{}", tally.line());
    }
}

/// The long form: every point, and a share of the kills that were asked for, in percent.
fn every_point(victim: &Victim, share: usize) {
    let started = Instant::now();
    let tally = torture(scene(), victim, 1, given("KILLS", 200) * share / 100);
    say(&format!("{}\n{}{:>8.0} s", head(), tally.line(), started.elapsed().as_secs_f64()));
    refuse_wrong(&[tally]);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_pretrain() {
    every_point(&pretrain(6, 2), 30);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_repair() {
    every_point(&repair(6, 2), 30);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_patch_apply() {
    every_point(&apply(), 20);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_import() {
    every_point(&import(), 20);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_export() {
    every_point(&export(), 20);
}

#[test]
#[ignore = "minutes: cargo xtask torture"]
fn every_point_of_fix() {
    every_point(&fix(), 30);
}

#[test]
#[ignore = "minutes, and a built xtask: cargo xtask torture"]
fn every_point_of_reproduce() {
    let (started, xtask) = (Instant::now(), std::env::var_os("IREPAIR_TORTURE_XTASK").expect("the path of xtask"));
    let tally = reproduce::every_point(xtask.as_ref());
    say(&format!("{}\n{}{:>8.0} s", head(), tally.line(), started.elapsed().as_secs_f64()));
    refuse_wrong(&[tally]);
}

#[test]
#[ignore = "minutes, and a built xtask: cargo xtask torture"]
fn many_instants_of_reproduce() {
    let (started, xtask) = (Instant::now(), std::env::var_os("IREPAIR_TORTURE_XTASK").expect("the path of xtask"));
    let (n_kills, wrong) = reproduce::torture(xtask.as_ref(), &mut generator(), given("KILLS", 200) / 5);
    let tally = Tally { name: "cargo xtask reproduce", n_kills, wrong, ..Tally::default() };
    say(&format!("{}\n{}{:>8.0} s", head(), tally.line(), started.elapsed().as_secs_f64()));
    refuse_wrong(&[tally]);
}

/// One run that is interrupted until it has been so often enough: by turns at a point of writing, and at some instant.
#[test]
#[ignore = "minutes: cargo xtask torture --resumes N"]
fn one_run_interrupted_again_and_again() {
    let (scene, n_wanted, started, mut random) = (scene(), given("RESUMES", 1000), Instant::now(), generator());
    // A life ends, on average, after some seven steps.
    let victim = pretrain(8 * n_wanted.max(1), 3);
    let calm = calm(scene, &victim);
    say(&format!("{} steps in {:.1} s without a stop", 8 * n_wanted, calm.took.as_secs_f64()));
    let life = {
        let started = Instant::now();
        assert!(pretrain(1, 1).command(&scene.stage()).output().unwrap().status.success());
        started.elapsed()
    };
    let stage = scene.stage();
    let mut n_interrupted = 0;
    while n_interrupted < n_wanted {
        let mut command = victim.command(&stage);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let status = if random.random_bool(0.8) {
            child.env("IREPAIR_FAULT", format!("kill@{}", random.random_range(1..60))).status().unwrap()
        } else {
            let mut child = child.spawn().unwrap();
            std::thread::sleep(life.mul_f64(random.random_range(0.0..1.5)));
            child.kill().unwrap();
            child.wait().unwrap()
        };
        if status.success() {
            break;
        }
        n_interrupted += 1;
        if n_interrupted % 100 == 0 {
            say(&format!("{n_interrupted} interruptions, {:.0} s", started.elapsed().as_secs_f64()));
        }
    }
    finish(&victim, &stage, &calm.outcome).unwrap();
    scene.check_inputs().unwrap();
    say(&format!(
        "one run, interrupted {n_interrupted} times of {n_wanted}, ended with the same bytes: {} files, {:.0} s",
        fs::read_dir(stage.join("out")).unwrap().count(),
        started.elapsed().as_secs_f64()
    ));
    assert!(n_interrupted * 10 >= n_wanted * 9, "it ended after {n_interrupted} interruptions");
}

/// Waits until a file holds at least `n` lines.
fn wait_for_lines(path: &std::path::Path, n: usize) {
    let lines = || fs::read_to_string(path).map_or(0, |text| text.lines().count());
    for _ in 0..6000 {
        if lines() >= n {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} has {} lines after a minute", path.display(), lines());
}

#[test]
fn a_difference_is_named_and_measured_numbers_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let tree = |name: &str, files: &[(&str, &str)]| {
        let here = dir.path().join(name);
        for (file, text) in files {
            let path = here.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Outcome::of(&here)
    };
    let want = tree("want", &[("a/m.jsonl", "{\"loss\":1,\"seconds\":2}\n"), ("b", "x"), ("c", "y"), ("log.txt", "1")]);
    let same = tree("same", &[("a/m.jsonl", "{\"loss\":1,\"seconds\":3}\n"), ("b", "x"), ("c", "y"), ("log.txt", "2")]);
    assert_eq!(same.check(&want), Ok(()));
    let other = tree("other", &[("a/m.jsonl", "{\"loss\":2,\"seconds\":2}\n"), ("b", "x"), ("a/.irepair-1.tmp", "")]);
    let why = other.check(&want).unwrap_err();
    assert_eq!(why, "a/.irepair-1.tmp is left over, a/m.jsonl differs, c is missing");
    assert_eq!(other.litter(), ["a/.irepair-1.tmp"]);
}
