//! `cargo xtask report`: tables and report from kept results, without a run.

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::reproduce::{folders, planned, show};
use crate::sources::Given;
use crate::{kept, process};

/// Settings of `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of experiments/
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Of the profile's short form
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    given: Given,
}

/// Runs it.
///
/// # Errors
/// A profile that keeps no result of its settings, and files that cannot be read or written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let prepared = planned(&args.profile, &args.given, args.quick)?;
    let (under, report) = folders(args.quick);
    let mut cells = prepared.cells(under, None, |_| true);
    cells.sort_by_key(|cell| cell.job.repair.method().trains());
    let (mut results, mut missing, mut measured_on) = (Vec::new(), Vec::new(), None);
    for cell in &cells {
        // Rows are compared with the first, which is measured without training.
        let kept = cell.kept_result()?;
        let kept = kept.filter(|kept| *measured_on.get_or_insert_with(|| kept.measured_on.clone()) == kept.measured_on);
        match kept {
            Some(kept) => results.push(kept.result),
            None => missing.push(format!("{} seed {}", cell.job.row(), cell.job.repair.seed())),
        }
    }
    let place = prepared.kept_dir("");
    let shared = kept::get(&place.join(format!("{report}.json")))?;
    let Some(shared) = shared.filter(|_| !results.is_empty()) else {
        let what = Diagnostic::new(ExitKind::Data, "no result of these settings is kept");
        let quick = if args.quick { " --quick" } else { "" };
        let help = format!("cargo xtask reproduce --profile {}{quick} makes them", args.profile);
        return Err(what.at(place.display()).help(help).into());
    };
    if !missing.is_empty() {
        let (n, n_all, list) = (missing.len(), cells.len(), missing.join(", "));
        process::say(format!("{n} of {n_all} rows are not kept, or were run with other settings or data: {list}"));
    }
    show(&prepared, results, shared, report, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fresh checkout has neither data nor models: a kept row of the rate that its row has now must be found there.
    #[test]
    fn every_kept_row_is_found_where_nothing_is_prepared() {
        let nowhere = tempfile::tempdir().unwrap();
        for (profile, quick) in [("planted", false), ("real", false), ("wild", false), ("wild", true)] {
            let mut prepared = planned(profile, &Given::default(), quick).unwrap();
            prepared.runs = nowhere.path().to_owned();
            let mut n_found = 0;
            for cell in prepared.cells(folders(quick).0, None, |_| true) {
                let Some(kept) = cell.kept_file().unwrap().filter(|kept| kept.result.lr == cell.job.repair.lr) else {
                    continue;
                };
                let row = format!("{profile}, quick {quick}: {} seed {}", kept.result.row, kept.result.seed);
                assert!(cell.kept_result().unwrap().is_some(), "{row}");
                n_found += 1;
            }
            assert!(n_found >= 5, "{profile}, quick {quick}: {n_found} rows");
        }
    }
}
