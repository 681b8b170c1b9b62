//! `cargo xtask torture`: kills and write errors at every point where `irepair` writes, then a resumed run, whose files
//! are compared with those of an uninterrupted run.

use anyhow::Result;

use irepair_workspace::{paths, process};

/// Settings of `torture`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills at random times, over all commands together
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: usize,
    /// Seed of the times
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Instead, interrupt one run this many times before it may finish
    #[arg(long, value_name = "N", conflicts_with = "kills")]
    resumes: Option<usize>,
}

/// Builds the programs with fault points, and runs the long form of the tests.
///
/// # Errors
/// Set-up, build, or a test that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    process::set_up()?;
    let forms: &[&str] = match args.resumes {
        Some(_) => &["one_run_interrupted_again_and_again"],
        None => &[
            "every_point_of_pretrain",
            "every_point_of_repair",
            "every_point_of_patch_apply",
            "every_point_of_import",
            "every_point_of_export",
            "every_point_of_fix",
            "every_point_of_reproduce",
            "many_instants_of_reproduce",
            "disk::a_full_disk_is_one_error_and_the_run_goes_on",
        ],
    };
    // This program is built without fault points.
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
