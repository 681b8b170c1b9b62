//! `cargo xtask bench`: our steps beside PyTorch's, turn by turn on the same threads, and beside what the machine could do.

mod growth;
mod plan;
mod run;
mod table;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_core::fs::write_atomic;
use irepair_workspace::{paths, process, python};

use crate::interop;
use plan::Plan;
use run::Runner;

/// Settings of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Turns that everybody takes on every line, after one that does not count
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Threads of each process; all cores unless given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// cpu or cuda: on a GPU other shapes are measured, in bf16
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    device: String,
    /// Only lines whose name has this in it; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Without the PyTorch peer, whose first use installs 3 GB
    #[arg(long)]
    no_peer: bool,
    /// With TRL's DPO trainer beside our DPO step; its first use installs another 0.3 GB
    #[arg(long)]
    trl: bool,
    /// Toy shapes: shows that every line runs; the numbers mean nothing
    #[arg(long)]
    rehearse: bool,
    /// Instead: how a step's time and memory grow with batch, text, width, depth and slice
    #[arg(long)]
    growth: bool,
}

/// Runs it.
///
/// # Errors
/// Set-up, build, or a line that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    process::set_up()?;
    let build = ["build", "--package", "irepair-bench", "--release"];
    // A rehearsal takes the build that tests have made.
    process::run_quietly(process::cargo().args(&build[..if args.rehearse { 3 } else { 4 }]))?;
    let home = paths::target().join("bench");
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let python = if args.no_peer || args.growth { None } else { Some(interop::environment()?) };
    let trl = python.as_ref().filter(|_| args.trl).map(|python| trl(python, &home)).transpose()?;
    // A GPU's lines are rehearsed on the CPU.
    let device = if args.rehearse { "cpu".to_owned() } else { args.device.clone() };
    let runner =
        Runner { python, trl, threads: args.threads, device, rounds: args.rounds.max(1), debug: args.rehearse };
    if args.growth {
        return growth::run(&runner, args.rehearse, &home);
    }
    let mut plan = Plan::new(&args.device, args.rehearse, &home);
    plan.lines.retain(|line| args.only.is_empty() || args.only.iter().any(|text| line.name.contains(text.as_str())));
    let measured = runner.measure(&plan)?;
    let warning = if args.rehearse { "Toy shapes: the numbers mean nothing.\n\n" } else { "" };
    let (table, json) =
        (warning.to_owned() + &table::table(&measured), serde_json::to_string_pretty(&measured)? + "\n");
    let name = if args.rehearse { "rehearsal" } else { "bench" };
    write_atomic(&home.join(name).with_extension("md"), table.as_bytes())?;
    write_atomic(&home.join(name).with_extension("json"), json.as_bytes())?;
    say(&table);
    Ok(())
}

/// Where TRL lies, beside the peer's Python rather than in it: nothing else needs it.
fn trl(python: &Path, home: &Path) -> Result<PathBuf> {
    let place = home.join("trl");
    python::packages(python, &place, "bench/trl.txt")?;
    Ok(place)
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn say(text: &str) {
    println!("{text}");
}
