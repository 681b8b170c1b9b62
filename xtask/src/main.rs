//! Project commands: `cargo xtask --help`. It does not link libtorch, so that it runs before set-up.

mod ablate;
mod bundle;
mod cache;
mod cell;
mod check;
mod claims;
mod config_docs;
mod doctor;
mod dry_run;
mod fetch;
mod halving;
mod identity;
mod kept;
mod kept_stages;
mod lab;
mod libtorch;
mod localise;
mod mask;
mod prepare;
mod provision;
mod readme;
mod rehearse;
mod report;
mod reproduce;
mod rows;
mod setup;
mod slurm;
mod sources;
mod stages;
mod supply;
mod test;
mod tidy;
mod tune;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use irepair_workspace::{error, interrupt, paths, process, python};
use sources::Given;

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
    /// Everything: set-up, build, all rows, tables, report; continues where it was stopped
    Reproduce(reproduce::Args),
    /// Tables and report from the results that are kept in experiments/, without a run
    Report(report::Args),
    /// A folder that runs a profile on a machine without network or Rust, and what it ran taken back
    Bundle(bundle::Args),
    /// The ablation over slice size and policy
    Ablate(ablate::Args),
    /// How well each locator finds planted faults
    Localise(localise::Args),
    /// Whether it matters where planted faults are repaired, on the mutants of `localise`
    Place(localise::PlaceArgs),
    /// The learning-rate search that writes learning-rates.toml
    Tune(tune::Args),
    /// Two shards under a real Slurm on this machine, which is installed where it is not there: as root on Debian
    TrySlurm,
    /// All tests of every crate
    Test(test::Args),
    /// Format, tidy, clippy, docs, tests: what CI runs
    Check,
    /// Crate arrows, packages, unused dependencies, file heads and lengths, paths in documents, words
    Tidy(tidy::Args),
    /// Known vulnerabilities of what is built, by cargo-deny; exit code 3 when they could not be checked
    Advisories,
    /// Write docs/CONFIG.md from the settings' doc comments, and the crates' READMEs from theirs
    ConfigDocs,
    #[command(flatten)]
    Lab(lab::Command),
}

impl Command {
    /// The settings of commands that shards can share.
    fn given(&self) -> Option<&Given> {
        Some(match self {
            Self::Reproduce(args) => &args.given,
            Self::Ablate(args) => &args.given,
            Self::Localise(args) => args.given(),
            Self::Place(args) => args.given(),
            Self::Tune(args) => &args.given,
            _ => return None,
        })
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let queue = command.given().map(|given| &given.queue);
    if let Some((queue, n_shards)) = queue.and_then(|queue| Some((queue, queue.n_shards()?))) {
        return error::exit_code(queue.submit(n_shards));
    }
    let done = match command {
        Command::Lab(_) => return lab::run(),
        Command::Setup => setup::run(),
        Command::Doctor => doctor::run(),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Localise(args) => localise::run(&args),
        Command::Place(args) => localise::run_places(&args),
        Command::Tune(args) => tune::run(&args),
        Command::TrySlurm => slurm::try_out(),
        Command::Test(args) => test::run(&args),
        Command::Check => check::run(),
        Command::Tidy(args) => tidy::run(&args),
        Command::Advisories => supply::advisories(),
        Command::ConfigDocs => config_docs::run(),
    };
    error::exit_code(done)
}
