//! `cargo xtask fuzz`: hostile bytes for every reader, target by target, and a table of what that came to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind};

use crate::stop::Stop;
use crate::{paths, process, setup};

/// Settings of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One target instead of all of them; may be given again
    #[arg(long)]
    target: Vec<String>,
    /// Inputs to try, per target
    #[arg(long, conflicts_with = "seconds", value_name = "N")]
    executions: Option<u64>,
    /// Time to take, per target; 60 without `--executions`
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Then keep only the inputs that no other makes superfluous, in `fuzz/corpus`
    #[arg(long)]
    keep: bool,
}

/// One binary of `fuzz/Cargo.toml`.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    name: String,
    /// Links libtorch.
    torch: bool,
}

/// What a target came to.
struct Outcome {
    target: Target,
    executions: u64,
    corpus: (usize, u64),
    crashes: usize,
    seconds: f64,
}

/// Longest input tried, in bytes.
const MAX_LEN: u32 = 4096;
/// Seconds that one input may take.
const TIMEOUT_S: u32 = 10;
/// Resident memory that a target may take: a Rust process alone, and one with libtorch in it.
const RSS_MB: [u32; 2] = [512, 1536];

/// Runs every target in turn; what the run adds to a corpus lies under `target/` unless it is kept.
///
/// # Errors
/// When something cannot be built or run, and when any input broke a law.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let manifest = paths::root().join("fuzz/Cargo.toml");
    let known = targets(&fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?)?;
    let chosen = choose(&known, &args.target)?;
    needs(chosen.iter().any(|target| target.torch))?;
    let scratch =
        tempfile::Builder::new().prefix("irepair-fuzz-").tempdir_in(memory()).context("making a directory")?;
    let mut outcomes = Vec::new();
    for target in &chosen {
        outcomes.push(Fuzz { target, scratch: scratch.path(), args }.run()?);
        // After each target, so that a run that is stopped has said what it did.
        println!("{}", line(outcomes.last()));
    }
    println!("\n{}", table(&outcomes));
    let crashed: Vec<&str> = outcomes.iter().filter(|o| o.crashes > 0).map(|o| o.target.name.as_str()).collect();
    if crashed.is_empty() {
        return Ok(());
    }
    let what = format!("inputs broke a law: {}", crashed.join(", "));
    let help = "run the target's binary on a file of `at` to see it, mend the reader, and put the input into a test";
    Err(Stop(Diagnostic::new(ExitKind::Bug, what).at(artifacts("").display()).help(help)).into())
}

/// A nightly compiler, cargo-fuzz, and libtorch where it is linked.
fn needs(torch: bool) -> Result<()> {
    let missing = |what: &str, help: &str| Err(Stop(Diagnostic::new(ExitKind::Device, what).help(help)).into());
    if process::output(process::cargo_fuzz().arg("--version")).is_none() {
        return missing(
            "no nightly cargo with cargo-fuzz",
            "rustup toolchain install nightly; cargo install cargo-fuzz --locked",
        );
    }
    if torch { setup::run() } else { Ok(()) }
}

/// Where files cost no disk: Linux's memory file system, or else the usual place.
fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// One target's run.
struct Fuzz<'a> {
    target: &'a Target,
    scratch: &'a Path,
    args: &'a Args,
}

impl Fuzz<'_> {
    fn run(&self) -> Result<Outcome> {
        let Target { name, torch } = self.target;
        process::run_quietly(&mut self.cargo("build"))?;
        let kept = paths::root().join("fuzz/corpus").join(name);
        let [found, crashes] = [paths::target().join("fuzz/corpus").join(name), artifacts(name)];
        for dir in [&kept, &found, &crashes] {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let (before, start) = (count(&crashes).0, Instant::now());
        let log = self.scratch.join("log");
        let limit = match (self.args.executions, self.args.seconds) {
            (Some(n), _) => format!("-runs={n}"),
            (None, seconds) => format!("-max_total_time={}", seconds.unwrap_or(60)),
        };
        let mut fuzz = self.binary();
        fuzz.args([&found, &kept]).arg(limit).arg(format!("-artifact_prefix={}/", crashes.display()));
        fuzz.args([format!("-max_len={MAX_LEN}"), format!("-timeout={TIMEOUT_S}"), "-print_final_stats=1".into()]);
        let rss = RSS_MB[usize::from(*torch)];
        // The second is of use where a sanitizer hears of allocations; Rust's are limited in `fuzz/src/lib.rs`.
        fuzz.args([format!("-rss_limit_mb={rss}"), format!("-malloc_limit_mb={rss}")]);
        let status = fuzz.stderr(fs::File::create(&log)?).status().context("starting the target")?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let crashes = count(&artifacts(name)).0.saturating_sub(before) + usize::from(!status.success());
        if !status.success() {
            fs::write(paths::target().join("fuzz").join(format!("{name}.log")), &said)?;
        }
        if self.args.keep && status.success() {
            self.keep(&found, &kept)?;
        }
        let corpus = if self.args.keep { count(&kept) } else { count(&found) };
        let seconds = start.elapsed().as_secs_f64();
        Ok(Outcome {
            target: self.target.clone(),
            executions: executions(&said),
            corpus,
            crashes: crashes.min(1),
            seconds,
        })
    }

    /// The kept corpus anew: what people put there, and the fewest inputs that reach all code that any of them reaches.
    fn keep(&self, found: &Path, kept: &Path) -> Result<()> {
        let [fresh, old] = ["kept", "old"].map(|name| self.scratch.join(name).join(&self.target.name));
        fs::create_dir_all(&fresh)?;
        copy_files(kept, &old, |_| true)?;
        copy_files(kept, &fresh, |name| !is_hash(name))?;
        let mut merge = self.binary();
        merge.args(["-set_cover_merge=1", "-use_counters=0", "-rss_limit_mb=4096"]);
        process::run_quietly(merge.arg(&fresh).args([&old, found]))?;
        fs::remove_dir_all(kept)?;
        copy_files(&fresh, kept, |_| true)
    }

    fn cargo(&self, verb: &str) -> std::process::Command {
        let mut cargo = process::cargo_fuzz();
        // Nothing here is unsafe but libtorch's, which is not built with a sanitizer: without one, more inputs are tried.
        cargo.args([verb, "--fuzz-dir", "fuzz", "--sanitizer", "none", &self.target.name]);
        cargo.env("CARGO_TARGET_DIR", paths::target().join("fuzz"));
        if self.target.torch {
            cargo.args(["--features", "torch"]);
        }
        cargo
    }

    /// The built target, at work in memory.
    fn binary(&self) -> std::process::Command {
        let built = paths::target().join("fuzz");
        let triple = fs::read_dir(&built).into_iter().flatten().flatten().map(|entry| entry.path());
        let program = triple.map(|dir| dir.join("release").join(&self.target.name)).find(|path| path.is_file());
        let mut binary = process::command(program.unwrap_or_default());
        let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let all = std::iter::once(paths::libtorch().join("lib")).chain(std::env::split_paths(&libraries));
        binary.env("LD_LIBRARY_PATH", std::env::join_paths(all).unwrap_or_default());
        binary.env("TMPDIR", self.scratch).env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
        binary
    }
}

/// True of the names that libFuzzer gives.
fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Copies the files with such names into a directory, made where it is not there.
fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Where inputs that broke a law are put.
fn artifacts(target: &str) -> PathBuf {
    paths::target().join("fuzz/artifacts").join(target)
}

/// The binaries of the manifest.
fn targets(manifest: &str) -> Result<Vec<Target>> {
    let manifest: toml::Table = manifest.parse().context("reading fuzz/Cargo.toml")?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    let target = |binary: &toml::Value| {
        let name = binary.get("name")?.as_str()?.to_owned();
        Some(Target { name, torch: binary.get("required-features").is_some() })
    };
    Ok(binaries.filter_map(target).collect())
}

fn choose(known: &[Target], names: &[String]) -> Result<Vec<Target>> {
    if names.is_empty() {
        return Ok(known.to_vec());
    }
    let find = |name: &String| {
        let listed = || known.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || Stop(Diagnostic::new(ExitKind::Usage, "unknown fuzz target").want_got(listed(), name));
        Ok(known.iter().find(|target| target.name == *name).cloned().ok_or_else(unknown)?)
    };
    names.iter().map(find).collect()
}

/// libFuzzer's own count, from its last words or from the last line of its progress.
fn executions(said: &str) -> u64 {
    let last = |line: &str| line.strip_prefix("stat::number_of_executed_units:").and_then(|n| n.trim().parse().ok());
    let progress = |line: &str| line.strip_prefix('#').and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    said.lines().rev().find_map(last).or_else(|| said.lines().rev().find_map(progress)).unwrap_or(0)
}

/// Files of a directory and their bytes.
fn count(dir: &Path) -> (usize, u64) {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(fs::Metadata::is_file).fold((0, 0), |(n, bytes), file| (n + 1, bytes + file.len()))
}

fn line(outcome: Option<&Outcome>) -> String {
    let Some(Outcome { target, executions, corpus: (n, bytes), crashes, seconds }) = outcome else {
        return String::new();
    };
    let rate = *executions as f64 / seconds.max(1e-9);
    format!("| {} | {executions} | {rate:.0} | {n} files, {} KiB | {crashes} |", target.name, bytes.div_ceil(1024))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec!["| target | executions | per second | corpus | crashes |".to_owned()];
    lines.push("|---|---|---|---|---|".to_owned());
    lines.extend(outcomes.iter().map(|outcome| line(Some(outcome))));
    let n: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    let crashes: usize = outcomes.iter().map(|outcome| outcome.crashes).sum();
    lines.push(format!("| all | {n} | | | {crashes} |"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_its_targets() {
        let known = targets(&fs::read_to_string(paths::root().join("fuzz/Cargo.toml")).unwrap()).unwrap();
        let target = |name: &str, torch| Target { name: name.to_owned(), torch };
        assert!(known.contains(&target("patch", false)) && known.contains(&target("checkpoint", true)));
        for target in &known {
            assert!(paths::root().join(format!("fuzz/fuzz_targets/{}.rs", target.name)).is_file(), "{target:?}");
            assert!(count(&paths::root().join("fuzz/corpus").join(&target.name)).0 > 0, "{target:?} has no corpus");
        }
        assert_eq!(choose(&known, &[]).unwrap(), known);
        assert!(choose(&known, &["nothing".to_owned()]).is_err());
    }

    #[test]
    fn what_people_put_into_a_corpus_is_told_from_what_was_found() {
        let home = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| home.path().join(name));
        fs::create_dir(&from).unwrap();
        for name in ["seed-gpt2", "0123456789abcdef0123456789abcdef01234567"] {
            fs::write(from.join(name), name).unwrap();
        }
        copy_files(&from, &to, |name| !is_hash(name)).unwrap();
        assert_eq!(count(&to), (1, 9));
        assert_eq!(fs::read_to_string(to.join("seed-gpt2")).unwrap(), "seed-gpt2");
    }

    #[test]
    fn the_kept_corpus_is_small() {
        let corpus = paths::root().join("fuzz/corpus");
        let bytes: u64 = fs::read_dir(corpus).unwrap().map(|dir| count(&dir.unwrap().path()).1).sum();
        assert!(bytes < 3 << 19, "{bytes} bytes");
    }

    #[test]
    fn executions_are_read_from_the_last_words() {
        let said = "#2\tINITED cov: 3\n#4096\tpulse  cov: 9\nDone 5000 runs\nstat::number_of_executed_units: 5000\n";
        assert_eq!((executions(said), executions("#2\tINITED\n#77\tNEW cov"), executions("no")), (5000, 77, 0));
    }
}
