//! `cargo xtask fuzz`: cargo-fuzz on every reader of files from others, one target after the other, and a table of
//! outcomes.

mod corpus;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind};
use irepair_workspace::{paths, process};

/// Settings of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One target instead of all; may be given several times
    #[arg(long)]
    target: Vec<String>,
    /// Inputs to try, per target
    #[arg(long, conflicts_with = "seconds", value_name = "N")]
    executions: Option<u64>,
    /// Seconds per target; 60 without `--executions`
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Then pack the fewest inputs with the same code coverage into `fuzz/corpus.tar.gz`
    #[arg(long)]
    keep: bool,
    /// Run no target: add the files of `fuzz/corpus/` to `fuzz/corpus.tar.gz`
    #[arg(long, conflicts_with_all = ["target", "executions", "seconds", "keep"])]
    pack: bool,
}

/// Limits for libFuzzer: bytes of an input, seconds of an execution, MiB of a target with libtorch in it (Rust's own
/// allocations are limited in `fuzz/src/lib.rs`).
const LIMITS: [&str; 4] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1536", "-print_final_stats=1"];

/// The archive of the corpus, from the root.
const ARCHIVE: &str = "fuzz/corpus.tar.gz";

/// The outcome of one target.
struct Outcome {
    target: String,
    executions: u64,
    /// Files in the corpus and their bytes.
    corpus: (usize, u64),
    /// True when an input broke a law.
    crashed: bool,
    seconds: f64,
}

/// Runs every target. New inputs go to `fuzz/corpus/`, which git ignores; `--keep` packs them.
///
/// # Errors
/// When something cannot be built or run, and when any input broke a law.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let archive = paths::root().join(ARCHIVE);
    corpus::unpack(&archive, &corpus_of(""))?;
    if args.pack {
        return corpus::pack(&corpus_of(""), &archive);
    }
    let Some(known) = process::output(process::cargo_fuzz().args(["list", "--fuzz-dir", "fuzz"])) else {
        let missing = Diagnostic::new(ExitKind::Device, "no nightly cargo with cargo-fuzz");
        let help = "rustup toolchain install nightly; cargo install cargo-fuzz --locked";
        return Err(missing.help(help).into());
    };
    let chosen = choose(&known, &args.target)?;
    process::set_up()?;
    let scratch = tempfile::Builder::new().prefix("irepair-fuzz-").tempdir_in(memory())?;
    let mut outcomes = Vec::new();
    for target in chosen {
        outcomes.push(fuzz(target, args, scratch.path())?);
        // After each target, so that an interrupted run has printed its results.
        println!("{}", outcomes.last().map(line).unwrap_or_default());
    }
    println!("\n{}", table(&outcomes));
    let crashed: Vec<&str> = outcomes.iter().filter(|o| o.crashed).map(|o| o.target.as_str()).collect();
    if !crashed.is_empty() {
        let what = format!("inputs broke a law: {}", crashed.join(", "));
        let help =
            "`cargo +nightly fuzz run TARGET FILE` reproduces it; correct the reader, and put the input into a test";
        let at = format!("fuzz/artifacts/, {}", log_of("TARGET").display());
        return Err(Diagnostic::new(ExitKind::Bug, what).at(at).help(help).into());
    }
    if args.keep {
        corpus::pack(&corpus_of(""), &archive)?;
    }
    Ok(())
}

/// Builds and runs one target, then minimises its corpus with `--keep`.
fn fuzz(target: &str, args: &Args, scratch: &Path) -> Result<Outcome> {
    process::run_quietly(&mut cargo("build", target, scratch))?;
    let limit = match (args.executions, args.seconds) {
        (Some(n), _) => format!("-runs={n}"),
        (None, seconds) => format!("-max_total_time={}", seconds.unwrap_or(60)),
    };
    let (log, start) = (log_of(target), Instant::now());
    let mut run = cargo("run", target, scratch);
    let status = run.arg("--").args(LIMITS).arg(limit).stderr(fs::File::create(&log)?).status();
    let status = status.context("starting cargo fuzz")?;
    let seconds = start.elapsed().as_secs_f64();
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if args.keep && status.success() {
        process::run_quietly(cargo("cmin", target, scratch).args(["--", "-rss_limit_mb=4096"]))?;
    }
    let (target, corpus) = (target.to_owned(), count(&corpus_of(target)));
    Ok(Outcome { target, executions: executions(&output), corpus, crashed: !status.success(), seconds })
}

/// A command of cargo-fuzz. The only unsafe code is libtorch's, which is not built with a sanitizer, so that a
/// sanitizer here would only cost executions.
fn cargo(verb: &str, target: &str, scratch: &Path) -> Command {
    let mut cargo = process::cargo_fuzz();
    cargo.args([verb, "--fuzz-dir", "fuzz", "--sanitizer", "none", "--all-features", target]);
    let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let all = std::iter::once(paths::libtorch().join("lib")).chain(std::env::split_paths(&libraries));
    cargo.env("LD_LIBRARY_PATH", std::env::join_paths(all).unwrap_or_default());
    cargo.env("CARGO_TARGET_DIR", paths::target().join("fuzz"));
    cargo.env("TMPDIR", scratch).env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
    cargo
}

/// Linux's file system in memory, or else the usual directory for temporary files.
fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

fn corpus_of(target: &str) -> PathBuf {
    paths::root().join("fuzz/corpus").join(target)
}

/// The log of a target's stderr.
fn log_of(target: &str) -> PathBuf {
    paths::target().join("fuzz").join(format!("{target}.log"))
}

/// The targets named by the user, or all that cargo-fuzz lists.
fn choose<'a>(known: &'a str, names: &[String]) -> Result<Vec<&'a str>> {
    let known: Vec<&str> = known.lines().collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let what = Diagnostic::new(ExitKind::Usage, "unknown fuzz target").want_got(known.join(", "), unknown);
        return Err(what.into());
    }
    Ok(known.into_iter().filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name)).collect())
}

/// libFuzzer's own count, from its statistics at the end or from its last line of progress.
fn executions(output: &str) -> u64 {
    let last = |line: &str| line.strip_prefix("stat::number_of_executed_units:").and_then(|n| n.trim().parse().ok());
    let progress = |line: &str| line.strip_prefix('#').and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    output.lines().rev().find_map(last).or_else(|| output.lines().rev().find_map(progress)).unwrap_or(0)
}

/// Files of a directory and their bytes.
fn count(dir: &Path) -> (usize, u64) {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(fs::Metadata::is_file).fold((0, 0), |(n, bytes), file| (n + 1, bytes + file.len()))
}

fn line(outcome: &Outcome) -> String {
    let Outcome { target, executions, corpus: (n, bytes), crashed, seconds } = outcome;
    let (rate, crashes) = (*executions as f64 / seconds.max(1e-9), u8::from(*crashed));
    format!("| {target} | {executions} | {rate:.0} | {n} files, {} KiB | {crashes} |", bytes.div_ceil(1024))
}

fn table(outcomes: &[Outcome]) -> String {
    let head = ["| target | executions | per second | corpus | crashes |", "|---|---|---|---|---|"].map(str::to_owned);
    let n: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    let crashes = outcomes.iter().filter(|outcome| outcome.crashed).count();
    let all = format!("| all | {n} | | | {crashes} |");
    head.into_iter().chain(outcomes.iter().map(line)).chain([all]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let known = "patch\nstate\ntexts";
        assert_eq!(choose(known, &[]).unwrap(), ["patch", "state", "texts"]);
        assert_eq!(choose(known, &["texts".to_owned()]).unwrap(), ["texts"]);
        assert!(choose(known, &["nothing".to_owned()]).is_err());
    }

    #[test]
    fn the_packed_corpus_is_small_and_has_every_target() {
        let archive = paths::root().join(ARCHIVE);
        assert!(fs::metadata(&archive).unwrap().len() < 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        corpus::unpack(&archive, dir.path()).unwrap();
        for target in fs::read_dir(paths::root().join("fuzz/fuzz_targets")).unwrap() {
            let target = target.unwrap().path().with_extension("");
            let name = target.file_name().unwrap();
            assert!(count(&dir.path().join(name)).0 > 0, "{} has no corpus", name.display());
        }
    }

    #[test]
    fn executions_are_read_from_the_last_statistics() {
        let output = "#2\tINITED cov: 3\n#4096\tpulse  cov: 9\nDone 5000 runs\nstat::number_of_executed_units: 5000\n";
        assert_eq!((executions(output), executions("#2\tINITED\n#77\tNEW cov"), executions("no")), (5000, 77, 0));
    }
}
