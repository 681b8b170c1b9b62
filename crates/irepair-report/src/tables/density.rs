//! Error density: how much more sensitive the top 20 % of the blocks are (METHOD §4).

use irepair_stats::{
    ErrorDensity, TOP_SHARE, error_density as density, geometric_mean_ratio, pooled_gain_percent, spearman,
};

use super::PAPER;
use crate::paper;
use crate::result::SensitivityResult;
use crate::table::{Cell, Table};

/// The sensitivity the paper uses; H4 is computed from it alone.
const MAIN_METRIC: (&str, &str) = ("grad_l2", "norm_of_mean");

/// Text that shows the error, and the control.
const ERROR: &str = "error";
const NEUTRAL: &str = "neutral";

/// Density of each model by metric, reduction and text, then pooled over models. None without sensitivities.
pub fn error_density(sensitivities: &[SensitivityResult]) -> Option<Table> {
    if sensitivities.is_empty() {
        return None;
    }
    let mut table = Table::new(
        "error-density",
        "Error density: top 20 % of the blocks against the rest",
        &[
            "Model",
            "Sensitivity",
            "Text",
            "Batches",
            "Top blocks",
            "Top mean",
            "Rest mean",
            "D %",
            "paper D %",
            "Gini",
            "Top share of squares",
            "Rank correlation with neutral",
        ],
    );
    for s in sensitivities {
        let is_main = (s.metric.as_str(), s.reduction.as_str()) == MAIN_METRIC && s.text == ERROR;
        let paper = paper::column_for(&s.model).filter(|_| is_main).map(paper::density_percent);
        let neutral = sensitivities.iter().find(|n| same_but_text(n, s) && n.text == NEUTRAL);
        let correlation = match neutral {
            Some(n) if s.text != NEUTRAL => Cell::number(spearman(&s.values, &n.values).ok(), 2),
            _ => Cell::NotApplicable,
        };
        let d = density(&s.values, TOP_SHARE).ok();
        let top = d.map_or(Cell::Missing, |d| Cell::text(format!("{} of {}", d.n_top, s.values.len())));
        table.rows.push(vec![
            Cell::text(&s.model),
            Cell::text(format!("{}, {}", s.metric, s.reduction)),
            Cell::text(&s.text),
            Cell::number(Some(s.n_batches as f64), 0),
            top,
            Cell::number(d.map(|d| d.top_mean), 4),
            Cell::number(d.map(|d| d.rest_mean), 4),
            Cell::number(d.map(|d| d.gain_percent), 1),
            Cell::paper(paper, 1),
            Cell::number(d.map(|d| d.gini), 3),
            Cell::number(d.map(|d| d.top_share_of_squares), 3),
            correlation,
        ]);
    }
    let main = main(sensitivities);
    if main.len() > 1 {
        let paper_pooled = Some(paper::POOLED_DENSITY_PERCENT);
        let geometric = geometric_mean_ratio(&main).map(|r| 100.0 * (r - 1.0));
        summary(&mut table, "pooled over models", pooled_gain_percent(&main), paper_pooled);
        summary(&mut table, "geometric mean over models", geometric, None);
    }
    table.caption = format!(
        "Profile `{}`. D = 100 (mean sensitivity of the top floor(0.2 L) of L blocks / mean of the rest − 1), at least \
         one block on top. One estimate per model from the batches given: no interval. `norm_of_mean` is the norm of the \
         gradient averaged over batches, `mean_of_norm` the average of the norms. The pooled number adds models up and is \
         dominated by the one with the largest raw gradients; D per model is the honest one. A rank correlation near 1 \
         with neutral text means that the density is not specific to the error. Summary rows and the paper's numbers are \
         for {} with {} on error text; how the paper got {:.0} % is not known exactly. {PAPER}",
        sensitivities[0].profile,
        MAIN_METRIC.0,
        MAIN_METRIC.1,
        paper::POOLED_DENSITY_PERCENT
    );
    Some(table)
}

/// Densities of the paper's sensitivity on error text, one per model.
pub(crate) fn main(sensitivities: &[SensitivityResult]) -> Vec<ErrorDensity> {
    let models: Vec<&str> = models(sensitivities);
    models
        .iter()
        .filter_map(|m| find(sensitivities, m, ERROR))
        .filter_map(|s| density(&s.values, TOP_SHARE).ok())
        .collect()
}

/// The paper's sensitivity of one model on one kind of text.
pub(crate) fn find<'a>(
    sensitivities: &'a [SensitivityResult],
    model: &str,
    text: &str,
) -> Option<&'a SensitivityResult> {
    let is_main = |s: &&SensitivityResult| (s.metric.as_str(), s.reduction.as_str()) == MAIN_METRIC;
    sensitivities.iter().filter(is_main).find(|s| s.model == model && s.text == text)
}

fn models(sensitivities: &[SensitivityResult]) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for s in sensitivities {
        if !models.contains(&s.model.as_str()) {
            models.push(&s.model);
        }
    }
    models
}

fn same_but_text(a: &SensitivityResult, b: &SensitivityResult) -> bool {
    (&a.model, &a.metric, &a.reduction) == (&b.model, &b.metric, &b.reduction)
}

fn summary(table: &mut Table, name: &str, value: Option<f64>, paper: Option<f64>) {
    let mut row = vec![Cell::text(name), Cell::text(MAIN_METRIC.0), Cell::text(ERROR)];
    row.extend(std::iter::repeat_n(Cell::NotApplicable, 4));
    row.extend([Cell::number(value, 1), Cell::paper(paper, 1)]);
    row.extend(std::iter::repeat_n(Cell::NotApplicable, 3));
    table.rows.push(row);
}
