//! `cargo xtask torture`: `irepair` killed and failed wherever it writes, resumed, and compared with runs nobody stopped.

use anyhow::Result;

use irepair_workspace::{paths, process};

/// Settings of `torture`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills at random instants, shared out among the commands
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: usize,
    /// Decides the instants
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Instead, interrupt one run this many times before it may end
    #[arg(long, value_name = "N", conflicts_with = "kills")]
    resumes: Option<usize>,
}

/// Builds the programs with points at which they can be cut short, and runs the long form of the tests.
///
/// # Errors
/// Set-up, build, or a run that did not come out as it should.
pub(crate) fn run(args: &Args) -> Result<()> {
    process::set_up()?;
    let forms: &[&str] = match args.resumes {
        Some(_) => &["one_run_interrupted_again_and_again"],
        None => &[
            "every_point_of_pretrain",
            "every_point_of_repair",
            "every_point_of_patch_apply",
            "every_point_of_reproduce",
            "many_instants_of_reproduce",
            "disk::a_full_disk_is_one_error_and_the_run_goes_on",
        ],
    };
    // Beside this program, which has no such points.
    let place = paths::target().join("torture");
    let mut build = process::cargo();
    build.args(["build", "--package", "xtask", "--features", "fault-injection", "--target-dir"]).arg(&place);
    process::run_quietly(&mut build)?;
    let xtask = place.join("debug").join(format!("xtask{}", std::env::consts::EXE_SUFFIX));
    let mut test = process::cargo();
    test.args(["test", "--package", "irepair-cli", "--test", "torture", "--"])
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .args(forms)
        .env("IREPAIR_TORTURE_KILLS", args.kills.to_string())
        .env("IREPAIR_TORTURE_SEED", args.seed.to_string())
        .env("IREPAIR_TORTURE_RESUMES", args.resumes.unwrap_or_default().to_string())
        .env("IREPAIR_TORTURE_XTASK", xtask);
    process::run(&mut test)
}
