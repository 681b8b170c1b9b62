//! Tools that measure `irepair` and try to break it: `irepair-lab --help`, or `cargo xtask
//! bench|soak|torture|fuzz|interop`.

mod bench;
mod fuzz;
mod interop;
mod soak;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use irepair_workspace::error;

/// Measures `irepair`, and tries to break it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Our steps and PyTorch's in one run: time, memory, work; or how cost grows (`--growth`)
    Bench(bench::Args),
    /// One repair for two hours: memory and open files must stay constant
    Soak(soak::Args),
    /// Kill and fail `irepair` wherever it writes, resume, and compare with uninterrupted runs
    Torture(torture::Args),
    /// Hostile bytes for every reader of files, with cargo-fuzz and a nightly compiler
    Fuzz(fuzz::Args),
    /// Compare what irepair writes with transformers, in a Python of its own under target/ (3 GB)
    Interop,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Torture(args) => torture::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Interop => interop::run(),
    };
    error::exit_code(done)
}
