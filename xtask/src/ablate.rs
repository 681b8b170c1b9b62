//! `cargo xtask ablate`: slice size × policy.

use std::collections::BTreeMap;

use anyhow::Result;
use irepair_config::{Policy, RepairOptions, Row, TableKey, slice_size};
use irepair_core::SliceSize;
use irepair_report::VANILLA;

use crate::prepare::Prepared;
use crate::reproduce::{publish, refuse_failures};
use crate::sources::Given;

/// Settings of `ablate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Slice sizes: a bare number is percent of the blocks, `3b` is three blocks
    #[arg(long, value_delimiter = ',', required = true, value_parser = slice_size, value_name = "LIST")]
    top_k: Vec<SliceSize>,
    /// Policies to compare
    #[arg(long, value_delimiter = ',', default_value = "dynamic,fixed,reverse,random", value_name = "LIST")]
    policy: Vec<Policy>,
    /// A directory of experiments/ (planted, real, wild or paper)
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Seeds per cell instead of the profile's number
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    #[command(flatten)]
    pub(crate) given: Given,
}

/// Runs it.
///
/// # Errors
/// Set-up, build, or cells that fail; finished cells are kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut prepared = Prepared::new(&args.profile, &args.given)?;
    let n_seeds = args.seeds.unwrap_or(prepared.experiment.profile.seeds);
    let mut cells = prepared.cells("", Some(1), |row| row.starts_with(VANILLA));
    let rows = ablated(&prepared.experiment.rows, &args.policy, &args.top_k);
    prepared.experiment.rows.retain(|key, _| key == VANILLA);
    prepared.experiment.rows.extend(rows);
    // The base models' results are those of `reproduce`.
    cells.extend(prepared.rated(prepared.cells("ablation", Some(n_seeds), |row| !row.starts_with(VANILLA))));
    let (results, failures) = prepared.results("ablation", &cells, false)?;
    publish(&prepared, results, "ablation/report", Some(TableKey::Ablation))?;
    refuse_failures(failures)
}

/// A row for each policy and slice size, in that order. Each policy has the learning rate that was chosen for its own
/// row; one without a row has IRepair's.
fn ablated(rows: &BTreeMap<String, Row>, policies: &[Policy], sizes: &[SliceSize]) -> BTreeMap<String, Row> {
    let mut ablated = BTreeMap::new();
    for policy in policies {
        let own = policy.to_string();
        let base = if rows.contains_key(&own) { own } else { "irepair".to_owned() };
        let Some(row) = rows.get(&base) else { continue };
        for size in sizes {
            let key = format!("ablate-{policy}-{}", size.to_string().replace('%', "pct"));
            let row = Row {
                title: format!("{policy}, top {size}"),
                tables: vec![TableKey::Scorers, TableKey::General, TableKey::Guard, TableKey::Ablation],
                order: Some(1 + ablated.len() as u32),
                rates_of: Some(base.clone()),
                own_utility: row.own_utility,
                models: row.models.clone(),
                repair: RepairOptions { policy: Some(*policy), top_k: Some(*size), ..row.repair.clone() },
                ..Row::default()
            };
            ablated.insert(key, row);
        }
    }
    ablated
}

#[cfg(test)]
mod tests {
    use irepair_config::Method;

    use super::*;

    #[test]
    fn a_policy_without_a_row_takes_irepairs_rates_and_settings() {
        let row = |method| Row {
            repair: RepairOptions { method: Some(method), ..RepairOptions::default() },
            ..Row::default()
        };
        let rows = [("irepair", Method::Irepair), ("fixed", Method::IrepairNoKl)];
        let mut rows: BTreeMap<String, Row> = rows.map(|(key, method)| (key.to_owned(), row(method))).into();
        rows.get_mut("fixed").unwrap().models = vec!["gpt2".to_owned()];
        let sizes = ["20%", "3b"].map(|size| size.parse().unwrap());
        let found = ablated(&rows, &[Policy::Dynamic, Policy::Fixed], &sizes);
        let settings = |row: &Row| (row.order, row.rates_of.clone(), row.repair.method, row.repair.policy);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["ablate-dynamic-20pct", "ablate-dynamic-3b", "ablate-fixed-20pct", "ablate-fixed-3b"]
        );
        let (irepair, dynamic) = (Some("irepair".to_owned()), Some(Policy::Dynamic));
        assert_eq!(settings(&found["ablate-dynamic-3b"]), (Some(2), irepair, Some(Method::Irepair), dynamic));
        let (fixed, policy) = (Some("fixed".to_owned()), Some(Policy::Fixed));
        assert_eq!(settings(&found["ablate-fixed-20pct"]), (Some(3), fixed, Some(Method::IrepairNoKl), policy));
        let runs = |key: &str| ["gpt2", "gpt-neo"].map(|model| found[key].runs_on(model));
        assert_eq!([runs("ablate-fixed-3b"), runs("ablate-dynamic-3b")], [[true, false], [true, true]]);
    }
}
