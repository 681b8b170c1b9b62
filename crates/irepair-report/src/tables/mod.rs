//! The tables of a report, one file each, and the words their captions share.

mod ablation;
mod by_method;
mod cost;
mod density;
mod general;
mod guard;
mod headlines;
mod pairwise;
mod rq1;
mod rq3;
mod scorers;
mod trajectory;

pub use ablation::{AblationCell, ablation};
pub use cost::rq2;
pub(crate) use cost::{cost_ratio, flops_per_step, step_ms};
pub use density::error_density;
pub(crate) use density::{controls, find as find_density};
pub use general::general;
pub use guard::guard;
pub use headlines::headlines;
pub use pairwise::pairwise;
pub use rq1::rq1;
pub use rq3::rq3;
pub use scorers::scorers;
pub use trajectory::trajectory;

use crate::paper;
use crate::result::metric;
use crate::results::{Over, Results};
use crate::table::Cell;

/// What an interval is, said under every table whose intervals are made as [`INTERVALS`] says.
pub(crate) const READING: &str = "[low, high]: 95 % interval.";

/// How those intervals are made.
pub(crate) const INTERVALS: &str = "[low, high] is a 95 % interval: Student t over seeds for trained rows; percentile \
    bootstrap over prompts (10,000 resamples) for the vanilla model's toxicity on the error prompts, which has no seeds. A mean over models \
    is taken within each seed first.";

/// Why the paper's numbers cannot be compared digit by digit, said wherever they stand beside ours.
pub(crate) const PAPER: &str = "The paper's numbers come from other models, data and an online scorer, one value per \
    cell without dispersion: compare directions, not digits.";

/// A metric's cell, with a remark when some of its seeds are missing.
pub(crate) fn metric_cell(results: &Results, method: &str, over: Over<'_>, key: &str, digits: usize) -> Cell {
    let by_seed = results.by_seed(method, over, |run| run.value(key));
    let cell = Cell::estimate(results.estimate(method, over, key), digits).in_unit(results.unit(key));
    match by_seed.values.len() {
        n if n < by_seed.n_seeds => cell.remarked(&format!("{n} of {} seeds", by_seed.n_seeds)),
        _ => cell,
    }
}

/// A method's name: the rows' own title, else the paper's, else its key.
pub(crate) fn title(results: &Results, method: &str) -> String {
    let paper = || paper::RQ1_METHODS.iter().find(|(key, _)| *key == method).map(|(_, name)| *name);
    results.title(method).or_else(paper).unwrap_or(method).to_owned()
}

/// How many seeds a row has.
pub(crate) fn seeds_cell(results: &Results, method: &str, over: Over<'_>) -> Cell {
    if method == crate::result::VANILLA {
        return Cell::NotApplicable;
    }
    Cell::number(Some(results.seeds(method, over).len() as f64), 0)
}

/// The metrics of the paper's tables.
pub(crate) const MAIN: [&str; 3] = [metric::TOX, metric::TOKEN_PERPLEXITY, metric::CLOZE_ACCURACY];
