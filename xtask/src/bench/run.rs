//! Running the lines of a plan, turn by turn.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::{Line, Plan, Who};
use crate::{paths, process};

/// Who runs, on what.
pub(crate) struct Runner {
    /// A Python with transformers; none = no peer.
    pub(crate) python: Option<PathBuf>,
    pub(crate) threads: Option<usize>,
    pub(crate) device: String,
    pub(crate) repeat: usize,
    /// Runs the debug build, which a rehearsal finds built.
    pub(crate) debug: bool,
}

/// What one process measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds of each counted repetition.
    pub(crate) seconds: Vec<f64>,
    #[serde(default)]
    pub(crate) tokens: f64,
    #[serde(default)]
    pub(crate) flops: f64,
    #[serde(default)]
    pub(crate) slices: Vec<String>,
    pub(crate) peak_rss_bytes: f64,
    #[serde(default)]
    pub(crate) peak_device_bytes: Option<f64>,
    #[serde(default)]
    pub(crate) weight_bytes: f64,
}

/// A line's samples, one a round.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) samples: Vec<(Who, Vec<Sample>)>,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Bench {
    pub(crate) machine: String,
    pub(crate) commit: Option<String>,
    /// Type of the products below.
    pub(crate) dtype: &'static str,
    /// Square matrix products (2048 wide, on a GPU 8192), before each round.
    pub(crate) gemm: Vec<Sample>,
    pub(crate) lines: Vec<Measured>,
}

impl Sample {
    /// Median of the counted repetitions.
    pub(crate) fn median(&self) -> f64 {
        median(self.seconds.iter().copied())
    }
}

/// Median; NaN of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    match values.len() {
        n if n % 2 == 1 => middle(n / 2),
        n => (middle((n / 2).wrapping_sub(1)) + middle(n / 2)) / 2.0,
    }
}

impl Runner {
    /// Measures every line once a round.
    ///
    /// # Errors
    /// A process that fails.
    #[expect(clippy::print_stderr, reason = "progress goes to stderr")]
    pub(crate) fn measure(&self, plan: &Plan, n_rounds: usize) -> Result<Bench> {
        for (args, dir) in &plan.checkpoints {
            if !dir.join("model.safetensors").exists() && plan.lines.iter().any(|line| line.reads(dir)) {
                self.sample(Who::Ours, args)?;
            }
        }
        let of = |line: &Line| {
            let who = line.who.iter().filter(|who| **who == Who::Ours || self.python.is_some());
            let samples = who.map(|who| (*who, Vec::new())).collect();
            Measured { name: line.name.clone(), args: line.args.clone(), samples }
        };
        let mut lines: Vec<Measured> = plan.lines.iter().map(of).collect();
        let (mut gemm, started) = (Vec::new(), Instant::now());
        for round in 0..n_rounds {
            let products = ["--what", "gemm", "--repeat", "20", "--dtype", plan.dtype].map(str::to_owned);
            gemm.push(self.sample(Who::Ours, &products)?);
            for (i, line) in lines.iter_mut().enumerate() {
                for (who, samples) in &mut line.samples {
                    samples.push(self.sample(*who, &line.args).with_context(|| line.name.clone())?);
                }
                let done = (round * plan.lines.len() + i + 1) as f64 / (n_rounds * plan.lines.len()) as f64;
                let left = started.elapsed().as_secs_f64() * (1.0 - done) / done;
                eprintln!("round {}/{n_rounds}: {}, about {left:.0} s left", round + 1, line.name);
            }
        }
        Ok(Bench {
            machine: machine(&self.device, self.threads),
            commit: process::commit(),
            dtype: plan.dtype,
            gemm,
            lines,
        })
    }

    /// Runs one process.
    pub(crate) fn sample(&self, who: Who, args: &[String]) -> Result<Sample> {
        let mut command = self.program(who);
        let mut args = args.to_vec();
        if who == Who::Read {
            args.iter_mut().filter(|word| *word == "load").for_each(|word| *word = "read".into());
        }
        if !args.iter().any(|word| word == "--repeat") {
            args.extend(["--repeat".into(), self.repeat.to_string()]);
        }
        if let Some(n) = self.threads {
            args.extend(["--threads".into(), n.to_string()]);
        }
        command.args(&args).args(["--device", &self.device]);
        let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
        anyhow::ensure!(output.status.success(), "{who:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let line = String::from_utf8_lossy(&output.stdout);
        let line = line.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("{who:?} printed `{line}`"))
    }

    fn program(&self, who: Who) -> Command {
        match (who, &self.python) {
            (Who::Ours, _) | (_, None) => process::command(
                paths::target()
                    .join(if self.debug { "debug" } else { "release" })
                    .join(format!("irepair-bench{}", std::env::consts::EXE_SUFFIX)),
            ),
            (who, Some(python)) => {
                let mut command = process::command(python);
                let style = if who == Who::Published { "published" } else { "tuned" };
                command.arg(paths::root().join("bench/peer.py")).args(["--style", style]);
                command
            }
        }
    }
}

impl Line {
    fn reads(&self, dir: &std::path::Path) -> bool {
        self.args.iter().any(|word| std::path::Path::new(word) == dir)
    }
}

/// The processor, how much of it, and the device.
fn machine(device: &str, threads: Option<usize>) -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = named.map_or("unknown processor", |(_, name)| name.trim());
    format!("{name}, {} of {cores} cores, device {device}", threads.unwrap_or(cores).min(cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
