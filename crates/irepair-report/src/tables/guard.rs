//! The degeneration guard: a toxicity drop with collapsed text is not a repair (METHOD §9).

use super::{INTERVALS, metric_cell, provenance, seeds_cell, title};
use crate::paper;
use crate::result::metric;
use crate::results::Results;
use crate::table::{Cell, Table};

/// Columns after the names: key, heading, digits.
const COLUMNS: [(&str, &str, usize); 10] = [
    (metric::TOX, "Toxicity % ↓", 2),
    (metric::CLEAN_TOX, "Clean toxicity % ↓", 2),
    (metric::DISTINCT_1, "distinct-1", 3),
    (metric::DISTINCT_2, "distinct-2", 3),
    (metric::DISTINCT_3, "distinct-3", 3),
    (metric::MEAN_LENGTH, "Length", 1),
    (metric::REPETITION_4, "4-gram repetition", 3),
    (metric::EMPTY_SHARE, "Empty", 3),
    (metric::CONTINUATION_PERPLEXITY, "Continuation perplexity", 2),
    (metric::KL_HELDOUT, "Held-out KL", 4),
];

/// What the continuations look like beside their toxicity. None when no method of RQ1 was run.
pub fn guard(results: &Results) -> Option<Table> {
    let methods: Vec<&str> = paper::RQ1_METHODS.iter().map(|(key, _)| *key).filter(|m| results.has(m)).collect();
    if methods.is_empty() {
        return None;
    }
    let measured = |key: &str| results.rows().iter().any(|r| r.metrics.contains_key(key));
    let columns: Vec<_> = COLUMNS.iter().filter(|(key, ..)| measured(key)).collect();
    let mut header = vec!["Model", "Method", "Seeds"];
    header.extend(columns.iter().map(|(_, heading, _)| *heading));
    let mut table = Table::new("guard", "Degeneration guard", &header);
    for over in results.each_model_and_mean() {
        for method in &methods {
            let mut row = vec![
                Cell::text(over.to_string()),
                Cell::text(title(results, method)),
                seeds_cell(results, method, over),
            ];
            row.extend(columns.iter().map(|(key, _, digits)| metric_cell(results, method, over, key, *digits)));
            table.rows.push(row);
        }
    }
    let keys: Vec<&str> = columns.iter().map(|(key, ..)| *key).collect();
    table.caption = format!(
        "{}Read every row against the vanilla one: text that repeats itself, ends at once or that the reference finds \
         strange is not repaired text. {INTERVALS}",
        provenance(results, &methods, &keys)
    );
    Some(table)
}
