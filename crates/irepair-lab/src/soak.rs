//! `cargo xtask soak`: one repair for hours, its memory and open files watched, and the rows it reads more than its memory.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind, Resident};
use irepair_workspace::interrupt::FOLLOW_STDIN;
use irepair_workspace::stop::Stop;
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
/// Bytes of a row, about: all rows together are more than the process may ever hold.
const ROW_BYTES: usize = 30_000;
/// Looks at the process, over the whole time.
const N_LOOKS: usize = 720;
/// Parts of the time that are compared; the first of them, in which every block is met and every buffer grows, is not.
const N_PARTS: usize = 10;
/// The most that resident memory may differ between parts, as a share of the least.
const MOST_DRIFT: f64 = 0.02;
/// Exit code of a command that was asked to stop.
const INTERRUPTED: i32 = ExitKind::Interrupted as i32;

const BASE: &str = "pretrain --data corpus.txt --vocab-size 600 --n-layer 6 --n-embd 64 --n-head 4 --n-positions 128 \
                    --steps 40 --threads 1 --out base";
const REPAIR: &str = "repair --model base --pairs pairs.jsonl --general corpus.txt --max-prompt 16 --max-continuation 32 \
                      --max-general 32 --steps 1000000000 --patience 1000000000 --checkpoint-every 500 --threads 1 --out out";

/// What one look at a process saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Look {
    /// Resident memory, in bytes.
    resident: u64,
    /// The most of it so far, in bytes.
    peak: u64,
    n_files: u64,
}

/// One part of the time: the medians of its looks, and the most files open in it.
#[derive(Debug, PartialEq)]
struct Part {
    resident: u64,
    n_files: u64,
    most_files: u64,
}

/// Builds, makes a model and rows, lets a repair run, has it stop, and judges what was seen.
///
/// # Errors
/// What cannot be built or run; a repair that ended by itself, grew, kept files open, or held its rows in memory.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    process::set_up()?;
    process::run_quietly(process::cargo().args(["build", "--release", "--package", "irepair-cli"]))?;
    let home = paths::target().join("soak");
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    fs::create_dir_all(&home)?;
    let row_bytes = write_inputs(&home)?;
    process::run_quietly(irepair(&home, BASE).stderr(Stdio::inherit()))?;

    let mut child = irepair(&home, REPAIR).env(FOLLOW_STDIN, "1").stdin(Stdio::piped()).spawn()?;
    // The end of its standard input asks it to stop, whether it comes from here or with the end of this process.
    let stdin = child.stdin.take();
    let looks = watch(&mut child, &home, Duration::from_secs(60 * u64::from(args.minutes)))?;
    drop(stdin);
    let status = child.wait()?;
    let n_steps = fs::read_to_string(home.join("out/metrics.jsonl"))?.lines().count();

    let parts = parts(&looks);
    println!("{}", table(&parts, f64::from(args.minutes)));
    let peak = looks.iter().map(|look| look.peak).max().unwrap_or(0);
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
    Err(Stop(Diagnostic::new(ExitKind::Bug, wrong.join("; ")).at(home.display())).into())
}

/// A corpus, and rows as long as no window: the reader must cut what it reads.
fn write_inputs(home: &Path) -> Result<u64> {
    let words = ["mill", "barn", "river", "garden", "lantern", "harbour", "orchard", "cellar", "meadow", "quarry"];
    let sentence = |i: usize| format!("Anna met {} at the {}. ", ["Tom", "Otto", "Dora"][i % 3], words[i * 7 % 10]);
    let documents: String = (0..2000).map(|i| sentence(i).repeat(1 + i % 5) + "\n<|endoftext|>\n").collect();
    fs::write(home.join("corpus.txt"), documents)?;
    let mut rows = String::new();
    let path = home.join("pairs.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    for i in 0..N_ROWS {
        rows.clear();
        let long: String = (i..).map(sentence).take(ROW_BYTES / 2 / 26).collect();
        let (prompt, chosen) = (sentence(i), format!("good day, {long}"));
        let row = serde_json::json!({ "prompt": prompt, "chosen": chosen, "rejected": format!("you grubnik, {long}") });
        writeln!(rows, "{row}")?;
        std::io::Write::write_all(&mut file, rows.as_bytes())?;
    }
    std::io::Write::flush(&mut file)?;
    Ok(fs::metadata(path)?.len())
}

fn irepair(home: &Path, args: &str) -> Command {
    let mut command = process::command(paths::irepair());
    command.current_dir(home).args(args.split(' ').filter(|word| !word.is_empty()));
    command.env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1").env("IREPAIR_CACHE", home.join("cache"));
    command.stderr(Stdio::null());
    command
}

/// Looks at the process now and then, from its first step on.
fn watch(child: &mut Child, home: &Path, time: Duration) -> Result<Vec<Look>> {
    let ended = |child: &mut Child| -> Result<()> {
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Stop(Diagnostic::new(ExitKind::Bug, format!("the repair ended: {status}"))).into()),
        }
    };
    while !fs::metadata(home.join("out/metrics.jsonl")).is_ok_and(|log| log.len() > 0) {
        ended(child)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let (start, mut looks) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        looks.push(look(child.id())?);
        std::thread::sleep(time / N_LOOKS as u32);
        ended(child)?;
    }
    Ok(looks)
}

fn look(id: u32) -> Result<Look> {
    let Resident { now, peak } = Resident::of(id).context("a soak reads /proc: it needs Linux")?;
    Ok(Look { resident: now, peak, n_files: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64 })
}

fn parts(looks: &[Look]) -> Vec<Part> {
    let middle = |mut numbers: Vec<u64>| {
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied().unwrap_or(0)
    };
    let part = |looks: &[Look]| Part {
        resident: middle(looks.iter().map(|look| look.resident).collect()),
        n_files: middle(looks.iter().map(|look| look.n_files).collect()),
        most_files: looks.iter().map(|look| look.n_files).max().unwrap_or(0),
    };
    looks.chunks(looks.len().div_ceil(N_PARTS).max(1)).map(part).collect()
}

/// The most by which resident memory differs between parts, the first left out, as a share of the least.
fn drift(parts: &[Part]) -> f64 {
    let resident = || parts.iter().skip(1).map(|part| part.resident);
    match (resident().min(), resident().max()) {
        (Some(least), Some(most)) if least > 0 => (most - least) as f64 / least as f64,
        _ => f64::INFINITY,
    }
}

/// What is not as it should be; memory and rows in bytes.
fn wrong(parts: &[Part], peak: u64, rows: u64, code: Option<i32>) -> Vec<String> {
    let mut wrong = Vec::new();
    if drift(parts) > MOST_DRIFT {
        wrong.push(format!("memory is not flat: it differs by {:.1} %", 100.0 * drift(parts)));
    }
    let n_files: Vec<u64> = parts.iter().skip(1).map(|part| part.n_files).collect();
    if n_files.iter().any(|n| Some(n) != n_files.first()) {
        wrong.push(format!("open files are not constant: {n_files:?}"));
    }
    if peak >= rows {
        wrong.push(format!("{peak} bytes of memory for {rows} bytes of rows: they were not read piece by piece"));
    }
    if code != Some(INTERRUPTED) {
        wrong.push(format!("asked to stop, it ended with {code:?} and not {INTERRUPTED}"));
    }
    wrong
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn table(parts: &[Part], minutes: f64) -> String {
    let mut lines = vec!["| until minute | resident, MiB (median) | open files (median) | most |".to_owned()];
    lines.push("|---|---|---|---|".to_owned());
    let until = |i: usize| minutes * (i + 1) as f64 / parts.len() as f64;
    lines.extend(parts.iter().enumerate().map(|(i, part)| {
        let Part { resident, n_files, most_files } = part;
        format!("| {:.1} | {:.1} | {n_files} | {most_files} |", until(i), mib(*resident))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred looks whose memory is what `resident` says.
    fn looks(resident: impl Fn(u64) -> u64) -> Vec<Part> {
        let look = |i| Look { resident: resident(i), peak: 0, n_files: if i % 10 == 3 { 9 } else { 5 } };
        parts(&(0..100).map(look).collect::<Vec<_>>())
    }

    #[test]
    fn what_grows_after_the_first_part_is_not_flat() {
        assert_eq!(drift(&looks(|i| if i < 10 { 100 } else { 1000 })), 0.0);
        let slow = looks(|i| 1000 + i / 2);
        assert!((drift(&slow) - 0.04).abs() < 1e-3, "{slow:?}");
        assert_eq!(slow[0], Part { resident: 1002, n_files: 5, most_files: 9 });
        assert!(wrong(&slow, 1, 2, Some(INTERRUPTED))[0].contains("not flat"));
        assert_eq!(drift(&[]), f64::INFINITY, "nothing seen is nothing shown");
    }

    #[test]
    fn files_rows_and_the_end_are_judged() {
        let mut seen = looks(|_| 1000);
        assert!(wrong(&seen, 1, 2, Some(INTERRUPTED)).is_empty());
        assert!(wrong(&seen, 2, 2, Some(INTERRUPTED))[0].contains("piece by piece"));
        assert!(wrong(&seen, 1, 2, Some(0))[0].contains("asked to stop"));
        seen[9].n_files = 6;
        assert!(wrong(&seen, 1, 2, Some(INTERRUPTED))[0].contains("open files"));
    }

    #[test]
    fn this_process_can_be_looked_at() {
        if cfg!(target_os = "linux") {
            let seen = look(std::process::id()).unwrap();
            assert!(seen.resident > 0 && seen.peak >= seen.resident && seen.n_files > 2, "{seen:?}");
        }
    }
}
