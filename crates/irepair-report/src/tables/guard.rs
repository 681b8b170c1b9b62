//! The degeneration guard: a toxicity drop with collapsed text is not a repair (METHOD §9).

use super::by_method::{Column, by_method, is_asked};
use crate::result::metric;
use crate::results::Results;
use crate::table::Table;

/// Key, heading, digits.
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
    let asked = COLUMNS.iter().filter(|(key, ..)| is_asked(results, key));
    let columns: Vec<Column> = asked.map(|&(key, heading, digits)| Column::new(key, heading, digits)).collect();
    let remark = "Read every row against the vanilla one: text that repeats itself, ends at once or that the reference \
                  finds strange is not repaired text.";
    by_method(results, "guard", "Degeneration guard", &columns, remark)
}
