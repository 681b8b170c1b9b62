//! `cargo xtask bench`: our steps and PyTorch's, in alternating rounds on the same threads, and the speed of the
//! machine's own matrix products.

mod growth;
mod plan;
mod run;
mod table;
mod worker;

use std::fs;

use anyhow::{Context, Result, bail};
use irepair_core::fs::write_atomic;
use irepair_workspace::{paths, process, python};

use crate::interop;
use plan::Plan;
use run::Runner;

/// Settings of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measured rounds per line, after a warm-up round; in a round each program runs once
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Threads of each process; all cores unless given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// cpu or cuda; on a GPU other shapes are measured, in bf16
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    device: String,
    /// Only lines whose name contains this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Without the PyTorch peer, whose first use installs 3 GB
    #[arg(long)]
    no_peer: bool,
    /// Also TRL's DPO trainer, compared with our DPO step; its first use installs another 0.3 GB
    #[arg(long)]
    trl: bool,
    /// Toy shapes: checks that every line runs; the numbers are not a result
    #[arg(long)]
    rehearse: bool,
    /// Instead, measure how time and memory of a step grow with batch, text, width, depth and slice
    #[arg(long)]
    growth: bool,
}

/// Runs it.
///
/// # Errors
/// Set-up, build, or a line that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let home = paths::target().join("bench");
    let mut plan = Plan::new(&args.device, args.rehearse, &home);
    let is_wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text.as_str()));
    if !plan.lines.iter().any(|line| is_wanted(&line.name)) {
        let names = plan.lines.iter().map(|line| format!("`{}`", line.name)).collect::<Vec<_>>().join(", ");
        bail!("--only names no line; there are: {names}");
    }
    plan.lines.retain(|line| is_wanted(&line.name));
    process::set_up()?;
    let mut release = process::cargo();
    release.args(["build", "--package", "irepair-bench", "--release"]);
    process::run_quietly(&mut if args.rehearse { process::build_as_tests("irepair-bench") } else { release })?;
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let python = if args.no_peer || args.growth { None } else { Some(interop::environment()?) };
    let trl = python.as_ref().filter(|_| args.trl).map(|_| home.join("trl"));
    if let (Some(python), Some(trl)) = (&python, &trl) {
        // In a directory of its own, because nothing else needs it.
        python::packages(python, trl, "bench/trl.txt")?;
    }
    // Lines for a GPU are rehearsed on the CPU.
    let device = if args.rehearse { "cpu".to_owned() } else { args.device.clone() };
    let runner =
        Runner { python, trl, threads: args.threads, device, rounds: args.rounds.max(1), debug: args.rehearse };
    if args.growth {
        return growth::run(&runner, args.rehearse, &home);
    }
    let measured = runner.measure(&plan)?;
    let warning = if args.rehearse { "Toy shapes: the numbers are not a result.\n\n" } else { "" };
    let (table, json) =
        (warning.to_owned() + &table::table(&measured), serde_json::to_string_pretty(&measured)? + "\n");
    let name = if args.rehearse { "rehearsal" } else { "bench" };
    write_atomic(&home.join(name).with_extension("md"), table.as_bytes())?;
    write_atomic(&home.join(name).with_extension("json"), json.as_bytes())?;
    print(&table);
    Ok(())
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn print(text: &str) {
    println!("{text}");
}
