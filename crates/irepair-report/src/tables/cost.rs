//! RQ2: what each method costs, absolutely and in DPO's units (METHOD §12).

use irepair_stats::{Estimate, mean};

use super::{seeds_cell, title};
use crate::definition::whence;
use crate::paper;
use crate::result::Cost;
use crate::results::{Over, Results};
use crate::table::{Cell, Table};

/// The baseline every cost is also given in units of.
const UNIT: &str = "dpo";

/// The cost table. None when no row of RQ1 carries a cost.
pub fn rq2(results: &Results) -> Option<Table> {
    let methods: Vec<&str> = paper::RQ1_METHODS.iter().map(|(key, _)| *key).filter(|m| has_cost(results, m)).collect();
    if methods.is_empty() {
        return None;
    }
    let mut table = Table::new(
        "rq2",
        "RQ2: cost",
        &[
            "Model",
            "Method",
            "Seeds",
            "Training s",
            "Step ms",
            "Tokens/s",
            "Peak MiB",
            "GFLOP/step",
            "TFLOP/run",
            "Steps",
            "Step time × DPO",
            "paper",
            "FLOP/step × DPO",
            "Training s × DPO",
            "FLOP/run × DPO",
        ],
    );
    let models = results.models();
    for model in &models {
        for method in &methods {
            let over = Over::Model(model);
            let ours = |of: fn(&Cost) -> f64| by_seed(results, method, model, of);
            let cell = |of, digits| Cell::number(mean(&ours(of)), digits);
            let ratio = |of| Cell::number(cost_ratio(results, method, model, of), 2);
            let paper = (*method == "irepair").then_some(paper::IREPAIR_STEP_PER_DPO_STEP);
            table.rows.push(vec![
                Cell::text(*model),
                Cell::text(title(results, method)),
                seeds_cell(results, method, over),
                Cell::estimate(Estimate::over_seeds(&ours(|c| c.train_s)), 1).in_unit("s"),
                Cell::estimate(Estimate::over_seeds(&ours(step_ms)), 1).in_unit("ms"),
                cell(|c| c.tokens_per_s, 0).in_unit("tokens/s"),
                cell(|c| c.peak_rss_bytes as f64 / (1024.0 * 1024.0), 0).in_unit("MiB"),
                cell(|c| flops_per_step(c) / 1e9, 2).in_unit("GFLOP"),
                cell(|c| c.flops / 1e12, 2).in_unit("TFLOP"),
                cell(|c| c.n_steps as f64, 0).in_unit("steps"),
                ratio(step_ms),
                Cell::paper(paper, 2),
                ratio(flops_per_step),
                ratio(|c| c.train_s),
                ratio(|c| c.flops),
            ]);
        }
    }
    table.caption = format!(
        "{} Wall times are of this machine and of runs that may have shared it. [low, high]: 95 % interval over seeds.",
        whence(results, &methods, &[])
    );
    table.details = vec![
        "FLOPs are matrix multiplications counted from shapes, reference and sensitivity passes included, the sampling of \
         utility text not. Step ms is the median step of a run, averaged over seeds; peak memory is of the whole process. \
         Intervals are Student t over seeds."
            .to_owned(),
        format!(
            "The paper's {:.2} is the authors' implementation, time of an IRepair step in DPO steps.",
            paper::IREPAIR_STEP_PER_DPO_STEP
        ),
    ];
    Some(table)
}

/// A cost in units of DPO's on the same model: ratio of means over seeds. None when either is not there.
pub(crate) fn cost_ratio(results: &Results, method: &str, model: &str, of: fn(&Cost) -> f64) -> Option<f64> {
    let ours = mean(&by_seed(results, method, model, of))?;
    let unit = mean(&by_seed(results, UNIT, model, of))?;
    Some(ours / unit).filter(|r| r.is_finite())
}

/// Median step time in milliseconds.
pub(crate) fn step_ms(cost: &Cost) -> f64 {
    1000.0 * cost.median_step_s
}

/// Counted FLOPs of one step.
pub(crate) fn flops_per_step(cost: &Cost) -> f64 {
    cost.flops / cost.n_steps as f64
}

fn by_seed(results: &Results, method: &str, model: &str, of: fn(&Cost) -> f64) -> Vec<f64> {
    results.by_seed(method, Over::Model(model), |run| run.cost.as_ref().map(of)).values
}

fn has_cost(results: &Results, method: &str) -> bool {
    results.rows().iter().any(|r| r.method() == method && r.cost.is_some())
}
