//! Running the lines of a plan: in each round, every program of a line runs once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use irepair_workspace::{paths, process};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Program};
use super::worker::Worker;

/// The programs and their settings.
pub(crate) struct Runner {
    /// A Python with transformers; none without the PyTorch programs.
    pub(crate) python: Option<PathBuf>,
    /// Directory of TRL; none without it.
    pub(crate) trl: Option<PathBuf>,
    pub(crate) threads: Option<usize>,
    pub(crate) device: String,
    /// Rounds of every line.
    pub(crate) rounds: usize,
    /// Runs the debug build, which tests have made.
    pub(crate) debug: bool,
}

/// The measurements of one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// The samples of a line; repetition `i` of each was made in round `i`.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) samples: Vec<(Program, Sample)>,
    /// Rate of square matrix products just before each round, in FLOP a second.
    pub(crate) rates: Vec<f64>,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(crate) struct Bench {
    pub(crate) machine: String,
    pub(crate) commit: Option<String>,
    /// Type of the products.
    pub(crate) dtype: &'static str,
    pub(crate) lines: Vec<Measured>,
}

impl Sample {
    /// Median of the counted repetitions.
    pub(crate) fn median(&self) -> f64 {
        median(self.seconds.iter().copied())
    }
}

impl Measured {
    /// The sample of a program.
    pub(crate) fn of(&self, program: Program) -> Option<&Sample> {
        self.samples.iter().find(|(other, _)| *other == program).map(|(_, sample)| sample)
    }

    /// Our seconds over those of `program` in the same round.
    pub(crate) fn ratios(&self, program: Program) -> Option<Vec<f64>> {
        let (ours, peer) = (self.of(Program::Ours)?, self.of(program)?);
        Some(ours.seconds.iter().zip(&peer.seconds).map(|(a, b)| a / b).collect())
    }

    /// Our seconds over the time of the counted products at the rate measured just before.
    pub(crate) fn over_floor(&self) -> Option<Vec<f64>> {
        let ours = self.of(Program::Ours).filter(|sample| sample.flops > 0.0)?;
        Some(ours.seconds.iter().zip(&self.rates).map(|(seconds, rate)| seconds / (ours.flops / rate)).collect())
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
    /// Measures every line: its processes start one after the other, then alternate.
    ///
    /// # Errors
    /// A process that fails.
    pub(crate) fn measure(&self, plan: &Plan) -> Result<Bench> {
        for (args, dir) in &plan.checkpoints {
            let wanted = plan.lines.iter().any(|line| line.args.iter().any(|word| std::path::Path::new(word) == dir));
            if wanted && !dir.join("model.safetensors").exists() {
                self.sample(Program::Ours, args)?;
            }
        }
        let products = ["--what", "gemm", "--dtype", plan.dtype].map(str::to_owned);
        let mut products = Worker::start(self.command(Program::Ours, &products))?;
        let (mut lines, started) = (Vec::new(), Instant::now());
        for (i, line) in plan.lines.iter().enumerate() {
            let is_there = |program: Program| match program {
                Program::Trl => self.python.is_some() && self.trl.is_some(),
                _ => !program.is_peer() || self.python.is_some(),
            };
            let programs = line.programs.iter().copied().filter(|program| is_there(*program));
            let mut workers = programs
                .map(|program| Ok((program, Worker::start(self.command(program, &line.args))?)))
                .collect::<Result<Vec<_>>>()
                .with_context(|| line.name.clone())?;
            let mut gemm = Vec::new();
            for _ in 0..line.max_rounds.unwrap_or(self.rounds).min(self.rounds) {
                gemm.push(products.repeat()?);
                for (_, worker) in &mut workers {
                    worker.repeat().with_context(|| line.name.clone())?;
                }
            }
            let samples =
                workers.into_iter().map(|(program, worker)| Ok((program, worker.finish()?))).collect::<Result<_>>()?;
            lines.push((line, samples, gemm));
            let done = (i + 1) as f64 / plan.lines.len() as f64;
            let left = started.elapsed().as_secs_f64() * (1.0 - done) / done;
            process::say(format!("{}: done, about {left:.0} s left", line.name));
        }
        let flops = products.finish()?.flops;
        let measured = |(line, samples, gemm): (&super::plan::Line, _, Vec<f64>)| Measured {
            name: line.name.clone(),
            args: line.args.clone(),
            samples,
            rates: gemm.iter().map(|seconds| flops / seconds).collect(),
        };
        Ok(Bench {
            machine: machine(&self.device, self.threads),
            commit: process::commit(),
            dtype: plan.dtype,
            lines: lines.into_iter().map(measured).collect(),
        })
    }

    /// Runs one process alone.
    ///
    /// # Errors
    /// A process that fails.
    pub(crate) fn sample(&self, program: Program, args: &[String]) -> Result<Sample> {
        let mut worker = Worker::start(self.command(program, args))?;
        let once = args.iter().any(|word| word == "save");
        for _ in 0..if once { 1 } else { self.rounds } {
            worker.repeat()?;
        }
        worker.finish()
    }

    fn command(&self, program: Program, args: &[String]) -> Command {
        let mut command = match self.python.as_ref().filter(|_| program.is_peer()) {
            None => process::command(paths::built(if self.debug { "debug" } else { "release" }, "irepair-bench")),
            Some(python) => {
                let mut command = process::command(python);
                let style = match program {
                    Program::Published => "published",
                    Program::Trl => "trl",
                    _ => "tuned",
                };
                command.arg(paths::root().join("bench/peer.py")).args(["--style", style]);
                if let Some(trl) = self.trl.as_ref().filter(|_| program == Program::Trl) {
                    command.env("PYTHONPATH", trl);
                }
                command
            }
        };
        command.args(args).args(program.instead()).args(["--device", &self.device, "--paced"]);
        if let Some(n) = self.threads {
            command.args(["--threads".to_owned(), n.to_string()]);
        }
        command
    }
}

/// Processor, cores in use, and device.
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
