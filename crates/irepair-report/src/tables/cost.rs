//! RQ2: the cost of each row, absolute and in units of the profile's baseline (METHOD §12).

use irepair_config::TableKey;
use irepair_stats::mean;

use super::grid::{Column, Grid};
use crate::report::Report;
use crate::result::Cost;
use crate::results::Over;
use crate::table::Table;

/// The cost table. None when no row has a cost. Without a baseline it has no ratios.
pub(crate) fn rq2(report: &Report) -> Option<Table> {
    let has_cost = |method: &str| report.results.rows().iter().any(|r| r.method() == method && r.cost.is_some());
    let mut columns = vec![
        Column::Method,
        Column::Seeds,
        Column::Cost("Training s", "s", 1, true, |c| c.train_s),
        Column::Cost("Step ms", "ms", 1, true, step_ms),
        Column::Cost("Tokens/s", "tokens/s", 0, false, |c| c.tokens_per_s),
        Column::Cost("Peak MiB", "MiB", 0, false, |c| c.peak_rss_bytes as f64 / (1024.0 * 1024.0)),
        Column::Cost("GFLOP/step", "GFLOP", 2, false, |c| flops_per_step(c) / 1e9),
        Column::Cost("TFLOP/run", "TFLOP", 2, false, |c| c.flops / 1e12),
        Column::Cost("Steps", "steps", 0, false, |c| c.n_steps as f64),
    ];
    let mut details = vec![
        "FLOPs are matrix multiplications counted from shapes, reference and sensitivity passes included, the sampling of \
         utility text not. Step ms is the median step of a run, averaged over seeds; peak memory is of the whole process. \
         Intervals are Student t over seeds."
            .to_owned(),
    ];
    if report.baseline().is_some() {
        columns.extend([
            Column::Ratio("Step time", step_ms),
            Column::PaperStepTime,
            Column::Ratio("FLOP/step", flops_per_step),
            Column::Ratio("Training s", |c| c.train_s),
            Column::Ratio("FLOP/run", |c| c.flops),
        ]);
        details.push("The paper's step times are those of the authors' implementation.".to_owned());
    }
    let grid = Grid {
        key: TableKey::Rq2,
        title: "RQ2: cost",
        rows: report.rows(|key, row| row.tables.contains(&TableKey::Rq2) && has_cost(key)),
        with_mean: false,
        columns,
        caption:
            "Wall times are of this machine and of runs that may have shared it. [low, high]: 95 % interval over seeds."
                .to_owned(),
        details,
    };
    grid.table(report)
}

/// A cost in units of the baseline's on the same model: ratio of means over seeds. None when either is missing.
pub(crate) fn cost_ratio(report: &Report, method: &str, model: &str, of: fn(&Cost) -> f64) -> Option<f64> {
    let by_seed =
        |method: &str| report.results.by_seed(method, Over::Model(model), |run| run.cost.as_ref().map(of)).values;
    Some(mean(&by_seed(method))? / mean(&by_seed(report.baseline()?))?).filter(|r| r.is_finite())
}

/// Median step time in milliseconds.
pub(crate) fn step_ms(cost: &Cost) -> f64 {
    1000.0 * cost.median_step_s
}

/// Counted FLOPs of one step.
pub(crate) fn flops_per_step(cost: &Cost) -> f64 {
    cost.flops / cost.n_steps as f64
}
