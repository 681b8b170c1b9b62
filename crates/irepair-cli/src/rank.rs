//! One rank among several: what the rest of the program asks about it.

use std::path::Path;

use irepair_core::fs::sha256_file;
use irepair_ranks::Place;
use irepair_train::Identity;

use crate::run_dir::STATE;

/// The processes of a repair.
#[derive(clap::Args)]
pub(crate) struct RanksArgs {
    /// Repair with this many processes on this machine, each on its share of the micro-batches of a step, of which
    /// there is one for each without `accumulation`. The result is that of one process with as many micro-batches.
    /// torchrun and srun start such processes on several machines.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) ranks: Option<u32>,
}

/// True in a repair that is a rank above the first one: it shows only its errors.
pub(crate) fn is_silent() -> bool {
    std::env::args_os().nth(1).is_some_and(|command| command == "repair")
        && Place::from_environment().ok().flatten().is_some_and(|place| place.rank > 0)
}

/// What must be equal among ranks and may change before a run is resumed: the program, and the state itself.
pub(crate) fn on_this_machine(out: &Path, checkpoint_every: u64) -> anyhow::Result<Identity> {
    let program = std::env::current_exe().ok().and_then(|path| sha256_file(&path).ok()).unwrap_or_default();
    let state = out.join(STATE);
    let state = if state.exists() { sha256_file(&state)? } else { "none".to_owned() };
    let identity = Identity::default().with("setting `checkpoint_every`", checkpoint_every);
    Ok(identity.with("the program", program).with("the state that it continues from", state))
}

/// The error of another rank, where that is what an error is.
pub(crate) fn of_ranks(error: &anyhow::Error) -> Option<&irepair_ranks::Error> {
    let of_training = || error.downcast_ref::<irepair_train::Error>()?.of_ranks();
    error.downcast_ref::<irepair_ranks::Error>().or_else(of_training)
}

/// An error that another rank has shown: the exit code alone is left.
#[derive(Debug, thiserror::Error)]
#[error("shown by another rank")]
pub(crate) struct Quiet(pub(crate) u8);
