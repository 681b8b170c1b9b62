//! `cargo xtask report`: tables and report from kept results, without a run.

use std::collections::BTreeMap;

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::RowResult;

use crate::kept::Kept;
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
    args.given.refuse_shards()?;
    let prepared = planned(&args.profile, &args.given, args.quick)?;
    let (under, report) = folders(args.quick);
    let mut cells = prepared.cells(under, None, |_| true);
    cells.sort_by_key(|cell| cell.job.repair.method().trains());
    let (mut found, mut missing, mut measured_on) = (Vec::new(), Vec::new(), None);
    for cell in &cells {
        // Rows are compared with the first, which is measured without training.
        let kept = cell.kept_result()?;
        let kept = kept.filter(|kept| *measured_on.get_or_insert_with(|| kept.measured_on.clone()) == kept.measured_on);
        match kept {
            Some(kept) => found.push(kept),
            None => missing.push(format!("{} seed {}", cell.job.row(), cell.job.repair.seed())),
        }
    }
    let results = of_the_same_pairs(found);
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

/// The results of the rows that were trained on the pairs that most of their model were trained on, and of those
/// without training; says which others there are.
fn of_the_same_pairs(found: Vec<Kept>) -> Vec<RowResult> {
    let mut n_rows = BTreeMap::<(&str, &str), usize>::new();
    let trains = |kept: &&Kept| kept.result.cost.is_some();
    found
        .iter()
        .filter(trains)
        .for_each(|kept| *n_rows.entry((&kept.result.model, &kept.trained_on)).or_default() += 1);
    let mut counted: Vec<_> = n_rows.into_iter().collect();
    counted.sort_by_key(|(_, n)| *n);
    let most: BTreeMap<String, String> =
        counted.into_iter().map(|((model, pairs), _)| (model.to_owned(), pairs.to_owned())).collect();
    let (same, others): (Vec<Kept>, Vec<Kept>) =
        found.into_iter().partition(|kept| !trains(&kept) || most.get(&kept.result.model) == Some(&kept.trained_on));
    if !others.is_empty() {
        let names = others.iter().map(|kept| format!("{} seed {}", kept.result.row, kept.result.seed));
        process::say(format!(
            "{} rows are left out, because they were trained on other pairs than most: {}",
            others.len(),
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    same.into_iter().map(|kept| kept.result).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use irepair_report::Cost;

    use super::*;
    use crate::identity;

    /// A fresh checkout has neither data nor models: the settings of a row, and where it is kept, must be the same
    /// there.
    #[test]
    fn a_row_has_the_same_settings_and_place_where_nothing_is_prepared() {
        for (profile, quick) in [("planted", false), ("real", false), ("wild", false), ("wild", true)] {
            let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let mut prepared = planned(profile, &Given::default(), quick).unwrap();
            prepared.sources.data_dirs.clear();
            let data = prepared.experiment.profile.data.clone();
            for file in data.iter().filter(|data| !data.optional) {
                let path = full.path().join("prepared/data").join(&file.file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let mut rows = |runs: &Path| {
                prepared.runs = runs.to_owned();
                let cells = prepared.cells(folders(quick).0, None, |_| true);
                let of = |cell: &crate::cell::Cell| {
                    (identity::settings(&cell.job).unwrap().key(), cell.place().map(Path::to_path_buf))
                };
                cells.iter().map(of).collect::<Vec<_>>()
            };
            assert_eq!(rows(empty.path()), rows(full.path()), "{profile}, quick {quick}");
            assert_eq!(prepared.kept_dir(""), kept::dir(profile, ""));
        }
    }

    #[test]
    fn rows_of_other_pairs_than_most_are_left_out() {
        let cost = Cost {
            train_s: 1.0,
            median_step_s: 1.0,
            tokens: 1,
            tokens_per_s: 1.0,
            peak_rss_bytes: 1,
            flops: 1.0,
            n_steps: 1,
            best_step: 1,
        };
        let kept = |row: &str, trained_on: &str| Kept {
            settings: String::new(),
            measured_on: String::new(),
            trained_on: trained_on.to_owned(),
            identity: String::new(),
            result: RowResult { row: row.to_owned(), cost: Some(cost), ..RowResult::default() },
        };
        let mut untrained = kept("vanilla", "new");
        untrained.result.cost = None;
        let found = vec![untrained, kept("a", "old"), kept("b", "new"), kept("c", "old")];
        assert_eq!(of_the_same_pairs(found).iter().map(|r| &*r.row).collect::<Vec<_>>(), ["vanilla", "a", "c"]);
        assert!(of_the_same_pairs(Vec::new()).is_empty());
        // Each base model has pairs of its own.
        let mut other = kept("d", "of the other model");
        other.result.model = "other".to_owned();
        let found = vec![kept("a", "old"), kept("c", "old"), other];
        assert_eq!(of_the_same_pairs(found).iter().map(|r| &*r.row).collect::<Vec<_>>(), ["a", "c", "d"]);
    }
}
