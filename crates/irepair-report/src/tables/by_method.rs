//! Tables of one row per model and method and one column per metric; the others are questions about which metrics.

use super::{INTERVALS, READING, metric_cell, seeds_cell, title};
use crate::definition::{definitions, whence};
use crate::paper;
use crate::results::Results;
use crate::table::{Cell, Table};

/// One metric as a column.
pub(crate) struct Column {
    /// Key of the metric.
    pub(crate) key: String,
    /// Heading, with unit and direction.
    pub(crate) heading: String,
    /// Digits after the point.
    pub(crate) digits: usize,
}

impl Column {
    pub(crate) fn new(key: &str, heading: impl Into<String>, digits: usize) -> Self {
        Self { key: key.to_owned(), heading: heading.into(), digits }
    }
}

/// True when some row of the results carries the metric, measured or failed.
pub(crate) fn is_asked(results: &Results, key: &str) -> bool {
    results.rows().iter().any(|r| r.metrics.contains_key(key))
}

/// Each model and the mean over models by each method of RQ1 that was run, then by those of no table of the paper. None when
/// no method of RQ1 was run.
pub(crate) fn by_method(results: &Results, key: &str, name: &str, columns: &[Column], remark: &str) -> Option<Table> {
    let mut methods: Vec<&str> = paper::RQ1_METHODS.iter().map(|(key, _)| *key).filter(|m| results.has(m)).collect();
    if methods.is_empty() {
        return None;
    }
    let selected = |method: &&str| paper::RQ3_METHODS.iter().any(|(key, ..)| key == method);
    let extra: Vec<&str> = results.methods().into_iter().filter(|m| !methods.contains(m) && !selected(m)).collect();
    methods.extend(extra);
    let mut header = vec!["Model", "Method", "Seeds"];
    header.extend(columns.iter().map(|c| c.heading.as_str()));
    let mut table = Table::new(key, name, &header);
    for over in results.each_model_and_mean() {
        for method in &methods {
            let mut row = vec![
                Cell::text(over.to_string()),
                Cell::text(title(results, method)),
                seeds_cell(results, method, over),
            ];
            row.extend(columns.iter().map(|c| metric_cell(results, method, over, &c.key, c.digits)));
            table.rows.push(row);
        }
    }
    let keys: Vec<&str> = columns.iter().map(|c| c.key.as_str()).collect();
    table.definitions = definitions(results, &methods, &keys);
    table.caption = format!("{} {remark} {READING}", whence(results, &methods, &table.definitions));
    table.details = vec![INTERVALS.to_owned()];
    Some(table)
}
