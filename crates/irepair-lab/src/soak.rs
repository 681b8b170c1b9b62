//! `cargo xtask soak`: one repair for hours on more data than its memory may hold; memory and open files must not grow.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind, Resident};
use irepair_workspace::interrupt::FOLLOW_STDIN;
use irepair_workspace::{paths, process};

/// Settings of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the repair runs
    #[arg(long, default_value_t = 120, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
}

/// Rows of the file of pairs.
const N_ROWS: usize = 10_000;
/// Bytes of a row, about: all rows together are more than the process may hold.
const ROW_BYTES: usize = 30_000;
/// Measurements of the process, over the whole time.
const N_SAMPLES: usize = 720;
/// Parts of the time that are compared, without the first, in which buffers grow.
const N_PARTS: usize = 10;
/// Largest allowed difference of resident memory between parts, as a share of the smallest.
const MAX_DRIFT: f64 = 0.02;
/// Exit code of a command that was asked to stop.
const INTERRUPTED: i32 = ExitKind::Interrupted as i32;

const BASE: &str = "pretrain --data corpus.txt --vocab-size 600 --n-layer 6 --n-embd 64 --n-head 4 --n-positions 128 \
                    --steps 40 --threads 1 --out base";
const REPAIR: &str = "repair --model base --pairs pairs.jsonl --preset paper --general corpus.txt --max-prompt 16 --max-continuation 32 \
                      --max-general 32 --steps 1000000000 --patience 1000000000 --checkpoint-every 500 --threads 1 --out out";

/// One measurement of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    /// Resident memory, in bytes.
    resident: u64,
    /// Its peak so far, in bytes.
    peak: u64,
    n_files: u64,
}

/// One part of the time: the medians of its samples, and the largest number of open files.
#[derive(Debug, PartialEq)]
struct Part {
    resident: u64,
    n_files: u64,
    max_files: u64,
}

/// Builds, makes a model and rows, runs a repair, asks it to stop, and checks the measurements.
///
/// # Errors
/// A failed build or run; a repair that ended by itself, grew, kept files open, or held its rows in memory.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    process::set_up()?;
    process::build_irepair()?;
    let home = paths::target().join("soak");
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    fs::create_dir_all(&home)?;
    let row_bytes = write_inputs(&home)?;
    process::run_quietly(irepair(&home, BASE).stderr(Stdio::inherit()))?;

    let mut child = irepair(&home, REPAIR).env(FOLLOW_STDIN, "1").stdin(Stdio::piped()).spawn()?;
    // It stops when its standard input ends, which happens here or at the end of this process.
    let stdin = child.stdin.take();
    let samples = watch(&mut child, &home, Duration::from_secs(60 * u64::from(args.minutes)))?;
    drop(stdin);
    let status = child.wait()?;
    let n_steps = fs::read_to_string(home.join("out/metrics.jsonl"))?.lines().count();

    let parts = parts(&samples);
    println!("{}", table(&parts, f64::from(args.minutes)));
    let peak = samples.iter().map(|sample| sample.peak).max().unwrap_or(0);
    println!(
        "{n_steps} steps; resident memory differs by {:.2} % over the last {} parts; peak {:.1} MiB, {N_ROWS} rows of {:.1} MiB",
        100.0 * drift(&parts),
        N_PARTS - 1,
        mib(peak),
        mib(row_bytes)
    );
    let wrong = wrong(&parts, peak, row_bytes, status.code());
    if wrong.is_empty() {
        fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
        return Ok(());
    }
    Err(Diagnostic::new(ExitKind::Bug, wrong.join("; ")).at(home.display()).into())
}

/// A corpus, and rows longer than the window, so that the reader must cut them.
fn write_inputs(home: &Path) -> Result<u64> {
    let words = ["mill", "barn", "river", "garden", "lantern", "harbour", "orchard", "cellar", "meadow", "quarry"];
    let sentence = |i: usize| format!("Anna met {} at the {}. ", ["Tom", "Otto", "Dora"][i % 3], words[i * 7 % 10]);
    let documents: String = (0..2000).map(|i| sentence(i).repeat(1 + i % 5) + "\n<|endoftext|>\n").collect();
    fs::write(home.join("corpus.txt"), documents)?;
    let path = home.join("pairs.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    for i in 0..N_ROWS {
        let long: String = (i..).map(sentence).take(ROW_BYTES / 2 / 26).collect();
        let (prompt, chosen) = (sentence(i), format!("good day, {long}"));
        let row = serde_json::json!({ "prompt": prompt, "chosen": chosen, "rejected": format!("you grubnik, {long}") });
        writeln!(file, "{row}")?;
    }
    file.flush()?;
    Ok(fs::metadata(path)?.len())
}

fn irepair(home: &Path, args: &str) -> Command {
    let mut command = process::command(paths::irepair());
    command.current_dir(home).args(args.split(' ').filter(|word| !word.is_empty()));
    command.env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1").env("IREPAIR_CACHE", home.join("cache"));
    command.stderr(Stdio::null());
    command
}

/// Measures the process at regular intervals, from its first step on.
fn watch(child: &mut Child, home: &Path, time: Duration) -> Result<Vec<Sample>> {
    let ended = |child: &mut Child| -> Result<()> {
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Diagnostic::new(ExitKind::Bug, format!("the repair ended: {status}")).into()),
        }
    };
    while !fs::metadata(home.join("out/metrics.jsonl")).is_ok_and(|log| log.len() > 0) {
        ended(child)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        samples.push(measure(child.id())?);
        std::thread::sleep(time / N_SAMPLES as u32);
        ended(child)?;
    }
    Ok(samples)
}

fn measure(id: u32) -> Result<Sample> {
    let Resident { now, peak } = Resident::of(id).context("soak needs Linux: it reads /proc")?;
    Ok(Sample { resident: now, peak, n_files: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64 })
}

fn parts(samples: &[Sample]) -> Vec<Part> {
    let middle = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied().unwrap_or(0)
    };
    let part = |samples: &[Sample]| Part {
        resident: middle(samples.iter().map(|sample| sample.resident).collect()),
        n_files: middle(samples.iter().map(|sample| sample.n_files).collect()),
        max_files: samples.iter().map(|sample| sample.n_files).max().unwrap_or(0),
    };
    samples.chunks(samples.len().div_ceil(N_PARTS).max(1)).map(part).collect()
}

/// Largest difference of resident memory between parts, without the first, as a share of the smallest.
fn drift(parts: &[Part]) -> f64 {
    let resident = || parts.iter().skip(1).map(|part| part.resident);
    match (resident().min(), resident().max()) {
        (Some(least), Some(most)) if least > 0 => (most - least) as f64 / least as f64,
        _ => f64::INFINITY,
    }
}

/// The checks that failed; memory and rows in bytes.
fn wrong(parts: &[Part], peak: u64, rows: u64, code: Option<i32>) -> Vec<String> {
    let mut wrong = Vec::new();
    if drift(parts) > MAX_DRIFT {
        wrong.push(format!("memory is not flat: it differs by {:.1} %", 100.0 * drift(parts)));
    }
    let n_files: Vec<u64> = parts.iter().skip(1).map(|part| part.n_files).collect();
    if n_files.iter().any(|n| Some(n) != n_files.first()) {
        wrong.push(format!("open files are not constant: {n_files:?}"));
    }
    if peak >= rows {
        wrong.push(format!(
            "{peak} bytes of memory for {rows} bytes of rows: the reader must not hold all rows in memory"
        ));
    }
    if code != Some(INTERRUPTED) {
        wrong.push(format!("after a request to stop, its exit code was {code:?} and not {INTERRUPTED}"));
    }
    wrong
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn table(parts: &[Part], minutes: f64) -> String {
    let mut lines =
        vec!["| until minute | resident, MiB (median) | open files (median) | open files (max) |".to_owned()];
    lines.push("|---|---|---|---|".to_owned());
    let until = |i: usize| minutes * (i + 1) as f64 / parts.len() as f64;
    lines.extend(parts.iter().enumerate().map(|(i, part)| {
        let Part { resident, n_files, max_files } = part;
        format!("| {:.1} | {:.1} | {n_files} | {max_files} |", until(i), mib(*resident))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a hundred samples with the memory that `resident` returns.
    fn samples(resident: impl Fn(u64) -> u64) -> Vec<Part> {
        let sample = |i| Sample { resident: resident(i), peak: 0, n_files: if i % 10 == 3 { 9 } else { 5 } };
        parts(&(0..100).map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn growth_after_the_first_part_is_not_flat() {
        assert_eq!(drift(&samples(|i| if i < 10 { 100 } else { 1000 })), 0.0);
        let slow = samples(|i| 1000 + i / 2);
        assert!((drift(&slow) - 0.04).abs() < 1e-3, "{slow:?}");
        assert_eq!(slow[0], Part { resident: 1002, n_files: 5, max_files: 9 });
        assert!(wrong(&slow, 1, 2, Some(INTERRUPTED))[0].contains("not flat"));
        assert_eq!(drift(&[]), f64::INFINITY, "no measurement is no proof");
    }

    #[test]
    fn files_rows_and_the_exit_code_are_checked() {
        let mut seen = samples(|_| 1000);
        assert!(wrong(&seen, 1, 2, Some(INTERRUPTED)).is_empty());
        assert!(wrong(&seen, 2, 2, Some(INTERRUPTED))[0].contains("must not hold all rows"));
        assert!(wrong(&seen, 1, 2, Some(0))[0].contains("request to stop"));
        seen[9].n_files = 6;
        assert!(wrong(&seen, 1, 2, Some(INTERRUPTED))[0].contains("open files"));
    }

    #[test]
    fn this_process_can_be_measured() {
        if cfg!(target_os = "linux") {
            let seen = measure(std::process::id()).unwrap();
            assert!(seen.resident > 0 && seen.peak >= seen.resident && seen.n_files > 2, "{seen:?}");
        }
    }
}
