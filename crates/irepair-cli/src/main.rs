//! The `irepair` command: one subcommand per file; stdout is results, stderr is everything else.

mod adapter;
mod apply;
mod arguments;
mod check;
mod compare;
mod conclusion;
mod data;
mod diagnose;
mod environment;
mod error;
mod evaluate;
mod export;
mod fix;
mod generate;
mod grade;
mod import;
mod interrupt;
mod job;
mod junit;
mod kept;
mod language;
mod locate;
mod measure;
mod memory;
mod method;
mod model_dir;
mod not_finite;
mod notes;
mod output;
mod pairs;
mod patch;
mod plant;
mod prepare;
mod pretrain;
mod progress;
mod prompts;
mod rank;
mod ranks;
mod relearn;
mod repair;
mod run_dir;
mod score;
mod scorer;
mod scorers;
mod selection;
mod sensitivity;
mod spikes;
mod stored_answers;
mod train_in;
mod train_loop;
mod utility;
mod watch;

use std::process::ExitCode;

use irepair_config::RepairOptions;

use crate::arguments::{Command, ScorerAction};
use crate::locate::Locate;

fn main() -> ExitCode {
    let cli = arguments::parse();
    irepair_model::keep_freed_memory();
    let level = if rank::is_silent() { "error" } else { "info" };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("IREPAIR_LOG").unwrap_or_else(|_| level.into()))
        .with_writer(progress::StderrAboveBars)
        .with_ansi(output::colours(&std::io::stderr()))
        .with_target(false)
        .without_time()
        .init();
    interrupt::follow_parent();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => diagnose::report(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Repair { given, ranks } => {
            let (given, plan) = given.given_and_plan(RepairOptions::with_preset)?;
            ranks::command(given, plan.located()?, &ranks)
        }
        Command::Fix(given) => {
            let (given, plan) = given.given_and_plan(|options| options)?;
            fix::command(&given, plan.located()?)
        }
        Command::Sensitivity(given) => sensitivity::command(&given.plan()?.located()?),
        Command::Eval(given) => evaluate::command(&given.plan()?.located()?),
        Command::Score(given) => score::command(&given.plan()?.located()?),
        Command::Generate(given) => generate::command(&given.plan()?.located()?),
        Command::Pretrain(given) => pretrain::command(&given.plan()?),
        Command::Check(given) => check::command(&given.plan()?.located()?),
        Command::Pairs(given) => pairs::command(&given.plan()?.located()?),
        Command::Relearn(given) => relearn::command(&given.plan()?.located()?),
        Command::Plant(given) => plant::command(&given.plan()?.located()?),
        Command::Grade(given) => grade::command(&given.plan()?.located()?),
        Command::Scorer { action: ScorerAction::Train(given) } => scorer::train(&given.plan()?.located()?),
        Command::Scorer { action: ScorerAction::Eval(given) } => scorer::eval(&given.plan()?.located()?),
        Command::Scorer { action: ScorerAction::Apply(given) } => apply::command(&given.plan()?.located()?),
        Command::Data { profile, data, out, skip } => data::command(&profile, &data, &out, &skip),
        Command::Language { profile, out } => language::command(&profile, &out),
        Command::Import(args) => import::command(&args),
        Command::Export(args) => export::command(args),
        Command::Adapter(args) => adapter::command(args),
        Command::Patch { action } => patch::command(action),
        Command::Job { job, out } => job::command(&job, &out),
    }
}
