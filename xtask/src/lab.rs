//! `cargo xtask bench|soak|torture|fuzz|interop`: builds `irepair-lab` and passes it the command line.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{error, process};

/// Any arguments; `irepair-lab` parses them and answers `--help`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    rest: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Our steps and PyTorch's in one run: time, memory, work; or how cost grows (`--growth`)
    #[command(disable_help_flag = true)]
    Bench(Args),
    /// One repair for two hours: memory and open files must stay constant
    #[command(disable_help_flag = true)]
    Soak(Args),
    /// Kill and fail `irepair` wherever it writes, resume, and compare with uninterrupted runs
    #[command(disable_help_flag = true)]
    Torture(Args),
    /// Hostile bytes for every reader of files, with cargo-fuzz and a nightly compiler
    #[command(disable_help_flag = true)]
    Fuzz(Args),
    /// Compare what irepair writes with transformers, in a Python of its own under target/ (3 GB)
    #[command(disable_help_flag = true)]
    Interop(Args),
}

/// Runs `irepair-lab` with this program's arguments; the exit code is its own.
pub(crate) fn run() -> ExitCode {
    let mut lab = process::cargo();
    lab.args(["run", "--quiet", "--package", "irepair-lab", "--"]).args(std::env::args_os().skip(1));
    match process::status(&mut lab) {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => error::exit_code(Err(error)),
    }
}
