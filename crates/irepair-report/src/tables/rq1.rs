//! RQ1: toxicity, perplexity and cloze accuracy of every method, the paper's numbers beside ours (METHOD §11).

use super::{INTERVALS, MAIN, PAPER, READING, metric_cell, seeds_cell, title};
use crate::definition::{definitions, whence};
use crate::paper;
use crate::result::metric;
use crate::results::{Over, Results};
use crate::table::{Cell, Table};

/// The main table: each model and the mean over models; one row per method of the paper, run or not.
///
/// None when no method of the table was run.
pub fn rq1(results: &Results) -> Option<Table> {
    let methods = paper::RQ1_METHODS.map(|(key, _)| key);
    if !methods.iter().any(|m| results.has(m)) {
        return None;
    }
    let mut table = Table::new(
        "rq1",
        "RQ1: error removed and general ability kept",
        &["Model", "Method", "Seeds", "Toxicity % ↓", "paper", "Perplexity ↓", "paper", "Cloze % ↑", "Learning rate"],
    );
    for over in results.each_model_and_mean() {
        for method in methods {
            // A model of no known family has no counterpart; only the mean row stands beside the paper's mean.
            let paper = match over {
                Over::Model(model) => paper::column_for(model).and_then(|column| paper::rq1(method, Some(column))),
                Over::Models => paper::rq1(method, None),
            };
            table.rows.push(vec![
                Cell::text(over.to_string()),
                Cell::text(title(results, method)),
                seeds_cell(results, method, over),
                metric_cell(results, method, over, metric::TOX, 2),
                Cell::paper(paper.map(|p| p.toxicity), 2).in_unit("%"),
                metric_cell(results, method, over, metric::TOKEN_PERPLEXITY, 2),
                Cell::paper(paper.map(|p| p.perplexity), 2),
                metric_cell(results, method, over, metric::CLOZE_ACCURACY, 1),
                learning_rate(results, method, over),
            ]);
        }
    }
    table.definitions = definitions(results, &methods, &MAIN);
    table.caption =
        format!("{} {READING} Low toxicity at low perplexity is good.", whence(results, &methods, &table.definitions));
    table.details = vec![
        INTERVALS.to_owned(),
        format!(
            "Beside our GPT-2 stands the paper's model of the nearest name (GPT2-Large unless ours says XL), beside our \
             GPT-Neo its GPT-Neo 1.3B. {PAPER} The paper's cloze numbers are not in its result sheet."
        ),
    ];
    Some(table)
}

/// The learning rates used, which validation chose.
fn learning_rate(results: &Results, method: &str, over: Over<'_>) -> Cell {
    let Over::Model(model) = over else { return Cell::NotApplicable };
    let mut rates: Vec<String> =
        results.runs(method, model).iter().filter_map(|r| r.lr).map(|lr| format!("{lr:e}")).collect();
    rates.dedup();
    if rates.is_empty() { Cell::NotApplicable } else { Cell::text(rates.join(", ")) }
}
