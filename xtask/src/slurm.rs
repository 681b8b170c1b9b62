//! `--on slurm`: the same command as an array of shards, which Slurm starts, stops and queues again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use irepair_core::fs::write_atomic;
use irepair_core::{Diagnostic, ExitKind};

use crate::error::diagnostic;
use crate::{paths, process};

/// Where a command runs, if not here.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Queue {
    /// Submits the command as an array of shards, and ends (docs/SCALE.md)
    #[arg(long, value_name = "SCHEDULER", requires = "shards", conflicts_with = "shard")]
    on: Option<Scheduler>,
    /// Shards of the array
    #[arg(long, value_name = "N", requires = "on", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    shards: Option<u32>,
    /// Options of `sbatch`, such as '--time=4:00:00 --gres=gpu:1'
    #[arg(long, value_name = "OPTIONS", requires = "on", allow_hyphen_values = true)]
    sbatch: Option<String>,
}

/// A scheduler of a cluster.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Scheduler {
    Slurm,
}

/// Flags that say where a command runs, and that no shard gets.
const FLAGS: [&str; 3] = ["--on", "--shards", "--sbatch"];

impl Queue {
    /// Number of shards of the array; none where the command runs here.
    pub(crate) fn n_shards(&self) -> Option<u32> {
        self.on.and(self.shards)
    }

    /// Submits the command line of this process.
    ///
    /// # Errors
    /// When the script cannot be written, or `sbatch` fails.
    pub(crate) fn submit(&self, n_shards: u32) -> Result<()> {
        let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        let args = of_shard(&args);
        let (root, program) = (paths::root(), std::env::current_exe().context("where this program is")?);
        let verb = args.first().map_or("xtask", String::as_str);
        let dir = root.join("runs/slurm");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join(format!("{verb}.sh"));
        let text = script(&root, &program, &args, n_shards);
        write_atomic(&path, text.as_bytes()).map_err(diagnostic)?;
        let mut sbatch = process::command("sbatch");
        sbatch.args(self.sbatch.iter().flat_map(|options| options.split_whitespace())).arg(&path);
        let status = sbatch.status().map_err(|error| {
            let what = format!("sbatch cannot be started: {error}");
            let help = "submit this script where Slurm is: sbatch FILE";
            Diagnostic::new(ExitKind::Device, what).at(path.display()).help(help)
        })?;
        if !status.success() {
            let failed = Diagnostic::new(ExitKind::Device, format!("sbatch failed: {status}")).at(path.display());
            return Err(failed.help("its words are above; --sbatch gives it more options").into());
        }
        process::say(format!("{n_shards} shards write to {}/{verb}-JOB_SHARD.log", dir.display()));
        Ok(())
    }
}

/// Runs `xtask/slurm/test.sh` with this program.
///
/// # Errors
/// When it fails.
pub(crate) fn try_out() -> Result<()> {
    let program = std::env::current_exe().context("where this program is")?;
    process::run(process::command("bash").arg("xtask/slurm/test.sh").arg(program))
}

/// The arguments without those that say where the command runs.
fn of_shard(args: &[String]) -> Vec<String> {
    let (mut kept, mut is_value) = (Vec::new(), false);
    for arg in args {
        let name = arg.split('=').next().unwrap_or(arg);
        if std::mem::take(&mut is_value) {
            continue;
        }
        if FLAGS.contains(&name) {
            is_value = name == arg;
        } else {
            kept.push(arg.clone());
        }
    }
    kept
}

/// The script of every shard. Before a job's time is up Slurm sends TERM to it: the shard saves its states, and the job
/// queues again.
fn script(root: &Path, program: &Path, args: &[String], n_shards: u32) -> String {
    let verb = args.first().map_or("xtask", String::as_str);
    let [root, program] = [root, program].map(|path| quoted(&path.display().to_string()));
    let args = args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
    format!(
        r#"#!/bin/sh
#SBATCH --job-name=irepair-{verb}
#SBATCH --array=1-{n_shards}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=runs/slurm/{verb}-%A_%a.log
#SBATCH --signal=B:TERM@300
cd {root} || exit 1
{program} {args} --shard "$SLURM_ARRAY_TASK_ID/{n_shards}" &
child=$!
trap 'stopped=1; kill -TERM "$child"' TERM
wait "$child"
status=$?
# The signal ended the first wait, and not the shard.
if [ -n "$stopped" ]; then
    wait "$child"
    status=$?
fi
# 130: interrupted. What is done is kept.
if [ "$status" -eq 130 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"#
    )
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_shard_gets_the_command_without_the_scheduler() {
        let want = args("reproduce --profile wild --only dpo-*");
        for line in [
            "reproduce --profile wild --on slurm --shards 4 --only dpo-*",
            "reproduce --on=slurm --shards=4 --sbatch=--time=1 --profile wild --only dpo-*",
            "reproduce --profile wild --only dpo-* --sbatch --gres=gpu:1 --shards 4 --on slurm",
        ] {
            assert_eq!(of_shard(&args(line)), want, "{line}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            ["a-b=1", "dpo-*", "", "it's", "$(x)"].map(quoted),
            ["a-b=1", "'dpo-*'", "''", r"'it'\''s'", "'$(x)'"]
        );
    }

    #[test]
    fn a_script_is_an_array_that_queues_again() {
        let [root, program] = [Path::new("/shared/my irepair"), Path::new("/shared/my irepair/target/debug/xtask")];
        let text = script(root, program, &args("localise --profile wild --unit half --only dpo-*"), 4);
        insta::assert_snapshot!(text);
    }
}
