//! Result files in; tables with the paper's numbers, plots and one self-contained HTML page out.
//!
//! ```
//! use irepair_report::{Cell, Results, Table};
//! use irepair_stats::Estimate;
//!
//! let mut table = Table::new("demo", "Toxicity", ["Method", "Toxicity %"]);
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
//! caption names the metric, n, failures, and the method of its intervals; every file is written completely or not at
//! all.
//!
//! A result's row is named `<method>-<model>`. Its file under `experiments/` ([`irepair_config::Row`]) names its
//! tables, its figures, its place in them and its counterpart in the paper; the only method that code here names is
//! [`VANILLA`].

mod definition;
mod error;
mod fix;
mod json;
mod page;
mod plots;
mod points;
mod report;
mod result;
mod results;
mod suite;
mod table;
mod tables;
mod tensorboard;
#[cfg(test)]
mod tests;
mod trajectory;
pub mod words;

pub use definition::Definition;
pub use error::{Error, Result};
pub use fix::{
    Change, FixMeasured, FixPoint, FixResult, FixSample, KeptAnswers, Making, PairYield, Rate, ToChoose, Verdict,
    write_fix_page,
};
pub use json::tables_json;
pub use plots::{Dots, Figure, GrowthLine, dots, growth};
pub use points::{Form, candidate, front, front_percent, kl_without_error, points_since_advance, within_budget};
pub use report::{Report, tables_csv, tables_markdown, write_report};
pub use result::{
    Compared, Cost, MeasuredStep, PointDetails, Purpose, Relearned, RowResult, SCHEMA, Sample, SensitivityResult,
    Stopped, TrajectoryPoint, VANILLA, read_result, write_result,
};
pub use results::{BOOTSTRAP_SEED, BySeed, Over, Results};
pub use suite::{Clause, ClauseKind, SUITE_FILE, SUITE_FORMAT, Suite, SuiteJudges, copy_judge};
pub use table::{CSV_HEADER, Cell, MISSING, Table};
pub use tensorboard::{EVENTS, events, write_events};
