//! `cargo xtask ablate`: slice size × policy.

use anyhow::Result;
use irepair_config::{Policy, slice_size};
use irepair_core::SliceSize;
use irepair_report::{AblationCell, VANILLA};

use crate::prepare::{Prepared, Split};
use crate::reproduce::{publish, refuse_failures};
use crate::rows::{Name, resliced};
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
    /// A directory of experiments/ (planted, real or paper)
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Seeds per cell instead of the profile's number
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    #[command(flatten)]
    given: Given,
}

/// Runs it.
///
/// # Errors
/// Set-up, build, or cells that fail; finished cells are kept in any case.
pub(crate) fn run(args: &Args) -> Result<()> {
    let prepared = Prepared::new(&args.profile, &args.given)?;
    let n_seeds = args.seeds.unwrap_or(prepared.experiment.profile.seeds);
    let mut cells = prepared.cells(Some(1), |row| row.starts_with(VANILLA));
    let mut lines = Vec::new();
    for policy in &args.policy {
        for size in &args.top_k {
            let key = format!("ablate-{policy}-{}", size.to_string().replace('%', "pct"));
            lines.push(AblationCell { policy: policy.to_string(), slice_size: size.to_string(), method: key.clone() });
            // Each policy keeps the learning rate that was chosen for its own row; one without a row takes IRepair's.
            let rows = &prepared.experiment.rows;
            let own = policy.to_string();
            let base = if rows.contains_key(&own) { own } else { "irepair".to_owned() };
            let Some(row) = rows.get(&base) else { continue };
            for seed in 0..u64::from(n_seeds) {
                for model in &prepared.experiment.profile.models {
                    let mut repair = resliced(prepared.experiment.profile.repair_of(row), *policy, *size);
                    repair.lr = repair.lr.or(prepared.experiment.learning_rates.get(&base, &model.name));
                    let title = format!("{policy}, top {size}");
                    let (model, split) = (&model.name, Split::Test);
                    let name = Name {
                        method: &key,
                        title: &title,
                        model,
                        seed,
                        split,
                        own_utility: row.own_utility,
                        main: false,
                        under: "ablation",
                    };
                    cells.push(prepared.cell(&name, repair));
                }
            }
        }
    }
    let (results, failures) = prepared.results("ablation", &cells, false)?;
    publish(&prepared, results, lines, "ablation/report")?;
    refuse_failures(failures)
}
