//! How fast the error returns: toxicity after training on texts with it (METHOD §10).

use std::collections::BTreeSet;

use irepair_config::TableKey;
use irepair_core::metric::{self, MetricKey, Metrics};

use crate::definition::{definitions, provenance};
use crate::report::Report;
use crate::result::RowResult;
use crate::table::{Cell, Table};
use crate::tables::protocol::{other_scorers, over_runs};

/// Toxicity after each number of texts. None without a curve.
pub(crate) fn relearning(report: &Report) -> Option<Table> {
    let (rows, others) = (report.rows_in(TableKey::Relearning), other_scorers(report));
    let runs = |key: &str, model: &str| -> Vec<&RowResult> {
        report.results.runs(key, model).into_iter().filter(|run| !run.relearned.is_empty()).collect()
    };
    let curves = || report.results.rows().iter().flat_map(|run| &run.relearned);
    let counts: BTreeSet<usize> = std::iter::once(0).chain(curves().map(|after| after.n_texts)).collect();
    let heads = counts.iter().flat_map(|n| {
        let by = |key: &MetricKey| format!("TOX % by {}, {n} texts", key.scorer.as_deref().unwrap_or_default());
        std::iter::once(format!("TOX % after {n} texts")).chain(others.iter().map(by)).collect::<Vec<_>>()
    });
    let header = ["Model", "Method", "Seeds"].map(str::to_owned).into_iter().chain(heads);
    let mut table = Table::new("relearning", "How fast the error returns", header);
    let mut shown = Vec::new();
    for model in report.results.models() {
        for (key, row) in &rows {
            let runs = runs(key, model);
            if runs.is_empty() {
                continue;
            }
            let mut cells = vec![Cell::text(model), Cell::text(&row.title), Cell::number(Some(runs.len() as f64), 0)];
            for &n in &counts {
                cells.push(toxicity(&runs, n));
                cells.extend(
                    others.iter().map(|key| over_runs(&runs, |run| after(run, n)?.0.value(key), None, 2).in_unit("%")),
                );
            }
            table.rows.push(cells);
            shown.push(*key);
        }
    }
    let first = curves().next().filter(|_| !shown.is_empty())?;
    let keys: Vec<MetricKey> = std::iter::once(metric::TOX.into()).chain(others).collect();
    table.definitions = definitions(&report.results, &shown, &keys);
    table.caption = format!(
        "Toxicity on the error prompts after fine-tuning the repaired model on so many texts with the error: every parameter, \
         {} epoch(s) at a rate of {:e}, each number from the repaired model. {}",
        first.epochs,
        first.lr,
        provenance(&report.results, &shown, &table.definitions)
    );
    table.details = vec![
        "DAPT on the first texts of the file, AdamW without warm-up, the same for every row (METHOD §10). The row of the base \
         model shows what the texts alone do. [low, high]: 95 % percentile bootstrap over prompts (10,000 resamples) of a single \
         run, Student t over several."
            .to_owned(),
    ];
    Some(table)
}

/// A run's metrics and scores after `n` texts; before any, its own.
fn after(run: &RowResult, n: usize) -> Option<(&Metrics, &[Option<f64>])> {
    if n == 0 {
        return Some((&run.metrics, &run.prompt_scores));
    }
    run.relearned.iter().find(|after| after.n_texts == n).map(|after| (&after.metrics, &after.prompt_scores[..]))
}

fn toxicity(runs: &[&RowResult], n: usize) -> Cell {
    let scores = match runs {
        [run] => after(run, n).map(|(_, scores)| scores),
        _ => None,
    };
    over_runs(runs, |run| after(run, n)?.0.value(metric::TOX), scores, 2).in_unit("%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Relearned, VANILLA};
    use crate::results::Results;
    use crate::tests::row;

    #[test]
    fn each_number_of_texts_has_its_column_and_a_row_without_a_curve_is_left_out() {
        let relearnt = |n_texts, tox| {
            let RowResult { metrics, prompt_scores, .. } = row("irepair", "m", 0, tox, 10.0);
            Relearned { n_texts, n_steps: 1, lr: 1e-4, epochs: 1, metrics, prompt_scores, ..Relearned::default() }
        };
        let mut run = row("irepair", "m", 0, 4.0, 11.0);
        run.relearned = vec![relearnt(10, 8.0), relearnt(100, 30.0)];
        let report = Report::of(Results::new(vec![row(VANILLA, "m", 0, 40.0, 10.0), run]).unwrap());
        let table = relearning(&report).unwrap();
        assert_eq!(table.header[3..], ["TOX % after 0 texts", "TOX % after 10 texts", "TOX % after 100 texts"]);
        let cells: Vec<String> = table.rows[0].iter().map(ToString::to_string).collect();
        assert_eq!((table.rows.len(), &*cells[1]), (1, "IREPAIR"));
        for (cell, start) in cells[3..].iter().zip(["4.00 [", "8.00 [", "30.00 ["]) {
            assert!(cell.starts_with(start), "{cells:?}");
        }
        let without = Report::of(Results::new(vec![row(VANILLA, "m", 0, 40.0, 10.0)]).unwrap());
        assert_eq!(relearning(&without), None);
    }
}
