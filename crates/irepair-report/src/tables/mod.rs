//! The tables of a report, and sentences that their captions share.

mod against;
mod cost;
mod density;
mod grid;
mod headlines;
mod pairwise;
mod protocol;
mod quality;
mod relearning;
mod scorers;
mod trajectory;

pub(crate) use against::against_baseline;
pub(crate) use cost::{cost_ratio, flops_per_step, rq2, step_ms};
pub(crate) use density::{controls, error_density, find as find_density, models};
pub(crate) use headlines::headlines;
pub(crate) use pairwise::pairwise;
pub(crate) use protocol::{budgets, error_within_budgets, three_comparisons};
pub(crate) use quality::{ablation, general, guard, rq1, rq3};
pub(crate) use relearning::relearning;
pub(crate) use scorers::scorers;
pub(crate) use trajectory::trajectory;

use irepair_config::Row;

/// Explains intervals under every table whose intervals follow [`INTERVALS`].
const READING: &str = "[low, high]: 95 % interval.";

/// The method of those intervals.
const INTERVALS: &str = "[low, high] is a 95 % interval: Student t over seeds; for the toxicity of a single run on the error \
    prompts, whose seed has no spread, percentile bootstrap over prompts (10,000 resamples). A mean over models is taken within each seed first.";

/// The limits of a comparison with the paper's numbers, wherever they are shown.
const PAPER: &str = "The paper's numbers come from other models, data and an online scorer, one value per \
    cell without dispersion: compare directions, not digits.";

/// Method keys of rows.
pub(crate) fn methods<'a>(rows: &[(&'a str, &Row)]) -> Vec<&'a str> {
    rows.iter().map(|(key, _)| *key).collect()
}
