//! The ablation over slice size and policy (METHOD §5).

use super::{INTERVALS, MAIN, READING, metric_cell, seeds_cell};
use crate::definition::{definitions, whence};
use crate::result::metric;
use crate::results::Results;
use crate::table::{Cell, Table};

/// One line of the ablation: which rows belong to it and what they varied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AblationCell {
    /// Slice policy, such as `dynamic`.
    pub policy: String,
    /// Slice size as the user gave it, such as `20%` or `3b`.
    pub slice_size: String,
    /// Method key of its rows.
    pub method: String,
}

/// Slice size × policy. None without cells.
pub fn ablation(results: &Results, cells: &[AblationCell]) -> Option<Table> {
    if cells.is_empty() {
        return None;
    }
    let mut table = Table::new(
        "ablation",
        "Ablation: slice size × policy",
        &["Model", "Policy", "Slice", "Seeds", "Toxicity % ↓", "Perplexity ↓", "Cloze % ↑"],
    );
    for over in results.each_model_and_mean() {
        for cell in cells {
            let of = |key, digits| metric_cell(results, &cell.method, over, key, digits);
            table.rows.push(vec![
                Cell::text(over.to_string()),
                Cell::text(&cell.policy),
                Cell::text(&cell.slice_size),
                seeds_cell(results, &cell.method, over),
                of(metric::TOX, 2),
                of(metric::TOKEN_PERPLEXITY, 2),
                of(metric::CLOZE_ACCURACY, 1),
            ]);
        }
    }
    let methods: Vec<&str> = cells.iter().map(|c| c.method.as_str()).collect();
    table.definitions = definitions(results, &methods, &MAIN);
    table.caption = format!(
        "{} A slice of p % keeps max(1, floor(p L / 100)) of L blocks per step, `3b` three. {READING}",
        whence(results, &methods, &table.definitions)
    );
    table.details = vec![INTERVALS.to_owned()];
    Some(table)
}
