//! Project commands: `cargo xtask --help`. No libtorch here: it must run where everything else is broken.

mod ablate;
mod bench;
mod cache;
mod check;
mod config_docs;
mod doctor;
mod dry_run;
mod fuzz;
mod interop;
mod interrupt;
mod libtorch;
mod paths;
mod prepare;
mod process;
mod rehearse;
mod reproduce;
mod rows;
mod setup;
mod soak;
mod sources;
mod stop;
mod supply;
mod test;
mod tidy;
mod torture;
mod tune;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, tests and runs the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Provision libtorch; returns at once when it is there
    Setup,
    /// One line per need of the project, with the fix
    Doctor,
    /// Everything: set-up, build, all rows, tables, report; resumes
    Reproduce(reproduce::Args),
    /// The ablation over slice size and policy
    Ablate(ablate::Args),
    /// The learning-rate search that writes learning-rates.toml
    Tune(tune::Args),
    /// Our steps beside PyTorch's in one run: time, memory, work; or how cost grows (`--growth`)
    Bench(bench::Args),
    /// All tests of every crate
    Test(test::Args),
    /// Kill and fail `irepair` wherever it writes, resume, and compare with runs nobody stopped
    Torture(torture::Args),
    /// One repair for two hours: memory and open files must stay as they are
    Soak(soak::Args),
    /// Format, tidy, clippy, docs, tests: what CI runs
    Check,
    /// Compare what irepair writes with transformers, in a Python of its own under target/ (3 GB)
    Interop,
    /// Hostile bytes for every reader of files, with cargo-fuzz and a nightly compiler
    Fuzz(fuzz::Args),
    /// Crate arrows, file heads and lengths, words
    Tidy,
    /// Known vulnerabilities of what is built, by cargo-deny; exit code 3 when they could not be checked
    Advisories,
    /// Write docs/CONFIG.md from the settings' doc comments
    ConfigDocs,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::Doctor => doctor::run(),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Torture(args) => torture::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Check => check::run(),
        Command::Interop => interop::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Tidy => tidy::run(),
        Command::Advisories => supply::advisories(),
        Command::ConfigDocs => config_docs::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => stop::report(&error),
    }
}
