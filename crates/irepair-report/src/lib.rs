//! Result files in; tables beside the paper's numbers, plots and one self-contained HTML page out.
//!
//! ```
//! use irepair_report::{Cell, Results, Table};
//! use irepair_stats::Estimate;
//!
//! let mut table = Table::new("demo", "Toxicity", &["Method", "Toxicity %"]);
//! let by_seed = Estimate::over_seeds(&[4.0, 5.0, 6.0]);
//! table.rows.push(vec![Cell::text("IRepair"), Cell::estimate(by_seed, 1)]);
//! table.rows.push(vec![Cell::text("diverged"), Cell::number(None, 1)]);
//! assert!(table.to_markdown().contains("5.0 [2.5, 7.5]"));
//! assert!(table.to_markdown().contains("missing"));
//! assert!(Results::new(Vec::new())?.models().is_empty());
//! # Ok::<(), irepair_report::Error>(())
//! ```
//!
//! Invariants: a number that failed is printed as missing, never as 0; rows of two profiles, or a metric with two
//! definitions, never share a table; a mean over models is taken within a seed before seeds are aggregated; every
//! caption says what was measured, on how much, what failed, and how its intervals were made; every file is whole or
//! not there.
//!
//! A row's name is `<method>-<model>`. The tables know these method keys: `vanilla dapt dapt-kl dpo irepair-no-kl
//! irepair` (RQ1, RQ2) and `fixed reverse random`, each with or without `-no-kl` (RQ3).

mod definition;
mod error;
mod json;
mod page;
pub mod paper;
pub mod plots;
mod report;
mod result;
mod results;
#[cfg(test)]
mod sample;
mod table;
pub mod tables;
mod trajectory;

pub use definition::Definition;
pub use error::{Error, Result};
pub use json::tables_json;
pub use plots::{GrowthLine, growth};
pub use report::{Report, tables_csv, tables_markdown, write_report};
pub use result::{
    Cost, Metric, ResultFile, RowResult, SCHEMA, Sample, SensitivityResult, TrajectoryPoint, VANILLA, metric,
    read_result, write_result,
};
pub use results::{BOOTSTRAP_SEED, BySeed, Over, Results};
pub use table::{CSV_HEADER, Cell, MISSING, Table};
pub use tables::AblationCell;
