//! RQ3: does it matter which blocks are selected, and does the KL term matter? (METHOD §11.)

use super::{INTERVALS, MAIN, PAPER, READING, metric_cell, seeds_cell};
use crate::definition::{definitions, whence};
use crate::paper;
use crate::result::{VANILLA, metric};
use crate::results::{Over, Results};
use crate::table::{Cell, Table};

/// The selection ablation: the paper's rows, run or not, and random ones when run. None unless a fixed, reverse or random row was run.
pub fn rq3(results: &Results) -> Option<Table> {
    let ablated = paper::RQ3_METHODS.iter().filter(|(_, policy, _)| *policy != "dynamic");
    if !ablated.clone().any(|(key, ..)| results.has(key)) {
        return None;
    }
    let mut table = Table::new(
        "rq3",
        "RQ3: which blocks to repair",
        &["Model", "Policy", "KL term", "Seeds", "Toxicity % ↓", "paper", "Perplexity ↓", "paper", "Cloze % ↑"],
    );
    let vanilla = results.has(VANILLA).then_some((VANILLA, "none (vanilla)", "–"));
    let shown = paper::RQ3_METHODS.iter().filter(|(key, ..)| results.has(key) || paper::rq3(key).is_some());
    let trained = shown.map(|&(key, policy, kl)| (key, policy, if kl { "on" } else { "off" }));
    let lines: Vec<_> = vanilla.into_iter().chain(trained).collect();
    for over in results.each_model_and_mean() {
        for &(method, policy, kl) in &lines {
            let paper = match over {
                Over::Models if method == VANILLA => paper::rq1(method, None),
                Over::Models => paper::rq3(method),
                Over::Model(_) => None,
            };
            table.rows.push(vec![
                Cell::text(over.to_string()),
                Cell::text(policy),
                Cell::text(kl),
                seeds_cell(results, method, over),
                metric_cell(results, method, over, metric::TOX, 2),
                Cell::paper(paper.map(|p| p.toxicity), 2).in_unit("%"),
                metric_cell(results, method, over, metric::TOKEN_PERPLEXITY, 2),
                Cell::paper(paper.map(|p| p.perplexity), 2),
                metric_cell(results, method, over, metric::CLOZE_ACCURACY, 1),
            ]);
        }
    }
    let methods: Vec<&str> = lines.iter().map(|(key, ..)| *key).collect();
    table.definitions = definitions(results, &methods, &MAIN);
    table.caption = format!("{} {READING}", whence(results, &methods, &table.definitions));
    table.details = vec![
        "dynamic: the most sensitive block of each step (IRepair; the paper's Max). fixed: the most sensitive block of the \
         model before repair. reverse: the least sensitive of each step (Min). random: drawn anew every few steps (not in \
         the paper)."
            .to_owned(),
        INTERVALS.to_owned(),
        format!("The paper gives means over models only. {PAPER}"),
    ];
    Some(table)
}
