//! `irepair adapter`: a repair of low rank as an adapter that the Python package `peft` loads.

use std::path::{Path, PathBuf};

use clap::Args;
use irepair_config::Dtype;
use irepair_core::{DirLock, mark_finished, mark_unfinished, refuse_used};
use irepair_model::{ADAPTER_WEIGHTS, LowRank, save_low_rank};
use serde::Serialize;

use crate::locate;
use crate::model_dir::open;
use crate::output::{print, print_json};

#[derive(Args)]
pub(crate) struct AdapterArgs {
    /// The model before its repair.
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Its repair with `--lora-rank`.
    #[arg(long, value_name = "DIR")]
    repaired: PathBuf,
    /// The rank of the repair.
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u32).range(1..=65536))]
    rank: u32,
    /// Directory to write to: new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Written<'a> {
    adapter: &'a Path,
    rank: u32,
    n_modules: usize,
    n_weights: usize,
    largest_difference: f64,
}

/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair adapter";

/// Runs the command.
pub(crate) fn command(mut args: AdapterArgs) -> anyhow::Result<()> {
    locate::models([&mut args.base, &mut args.repaired])?;
    refuse_used(&args.out, MAKER)?;
    let [base, repaired] = [&args.base, &args.repaired].map(|dir| open(dir, "cpu", Dtype::F32));
    let (base, repaired) = (base?, repaired?);
    let _lock = DirLock::take(&args.out)?;
    // Another process may have filled it in the meantime.
    refuse_used(&args.out, MAKER)?;
    mark_unfinished(&args.out, MAKER)?;
    let found = save_low_rank(&base.model, &repaired.model, args.rank as usize, &args.out);
    // Where nothing was written the directory is as it was; one with half of the files stays marked.
    if found.is_ok() || !args.out.join(ADAPTER_WEIGHTS).exists() {
        mark_finished(&args.out)?;
    }
    let LowRank { n_modules, n_weights, largest_difference } = found?;
    if args.json {
        let adapter = &args.out;
        return print_json(&Written { adapter, rank: args.rank, n_modules, n_weights, largest_difference });
    }
    print(&format!(
        "adapter of rank {} of {n_modules} projections, {n_weights} weights\nlargest difference of a weight from the \
         repaired model: {largest_difference:.1e}\nwritten to: {}\n",
        args.rank,
        args.out.display()
    ))
}
