//! Error and ability of each row: RQ1, RQ3 and the ablation with the paper's metrics, then all metrics of general
//! ability and of degenerate text.

use irepair_config::TableKey;
use irepair_core::metric::{self, MetricId};

use super::grid::{Column, Grid};
use super::{INTERVALS, PAPER, READING};
use crate::report::Report;
use crate::table::Table;

/// The metrics of the paper's tables.
const MAIN: [MetricId; 3] = [metric::TOX, metric::TOKEN_PERPLEXITY, metric::LAST_WORD_ACCURACY];

/// General ability.
const ABILITY: [MetricId; 12] = [
    metric::TOKEN_PERPLEXITY,
    metric::STRIDED_PERPLEXITY,
    metric::WORD_PERPLEXITY,
    metric::LAST_WORD_ACCURACY,
    metric::LAST_WORD_PERPLEXITY,
    metric::LAST_WORD_CORPUS_PERPLEXITY,
    metric::BLIMP_ACCURACY,
    metric::HELLASWAG_ACCURACY,
    metric::HELLASWAG_ACCURACY_BY_BYTES,
    metric::TOKEN_F1,
    metric::KL_HELDOUT,
    metric::CLEAN_TOX,
];

/// Toxicity and form of continuations.
const GUARD: [MetricId; 10] = [
    metric::TOX,
    metric::CLEAN_TOX,
    metric::DISTINCT_1,
    metric::DISTINCT_2,
    metric::DISTINCT_3,
    metric::MEAN_LENGTH,
    metric::REPETITION_4,
    metric::EMPTY_SHARE,
    metric::CONTINUATION_PERPLEXITY,
    metric::KL_HELDOUT,
];

/// RQ1: error removed and general ability kept, with the paper's numbers (METHOD §11). Rows with a counterpart in the
/// paper are shown even when they were not run.
pub(crate) fn rq1(report: &Report) -> Option<Table> {
    let counterpart = |model: &str| Some(format!("{} for {model}", report.experiment.paper_model(model)?.title));
    let models: Vec<String> = report.results.models().into_iter().filter_map(counterpart).collect();
    let counterparts = if models.is_empty() { String::new() } else { format!("Paper: {}. ", models.join(", ")) };
    let grid = Grid {
        key: TableKey::Rq1,
        title: "RQ1: error removed and general ability kept",
        rows: report.rows_in_or_missing(TableKey::Rq1),
        with_mean: true,
        columns: vec![
            Column::Method,
            Column::Seeds,
            metric::TOX.into(),
            Column::Paper(metric::TOX),
            metric::TOKEN_PERPLEXITY.into(),
            Column::Paper(metric::TOKEN_PERPLEXITY),
            metric::LAST_WORD_ACCURACY.into(),
            Column::LearningRate,
        ],
        caption: format!("{READING} Low toxicity at low perplexity is good."),
        details: vec![
            INTERVALS.to_owned(),
            format!("{counterparts}{PAPER} The paper's result sheet has no last-word accuracy."),
        ],
    };
    grid.table(report)
}

/// RQ3: does it matter which blocks are selected, and does the KL term matter (METHOD §11)? None unless a row was run
/// that is not in RQ1 as well.
pub(crate) fn rq3(report: &Report) -> Option<Table> {
    if report.rows_in(TableKey::Rq3).iter().all(|(_, row)| row.tables.contains(&TableKey::Rq1)) {
        return None;
    }
    let grid = Grid {
        key: TableKey::Rq3,
        title: "RQ3: which blocks to repair",
        rows: report.rows_in_or_missing(TableKey::Rq3),
        with_mean: true,
        columns: vec![
            Column::Policy,
            Column::KlTerm,
            Column::Seeds,
            metric::TOX.into(),
            Column::PaperMean(metric::TOX),
            metric::TOKEN_PERPLEXITY.into(),
            Column::PaperMean(metric::TOKEN_PERPLEXITY),
            metric::LAST_WORD_ACCURACY.into(),
        ],
        caption: READING.to_owned(),
        details: vec![
            "dynamic: the most sensitive block of each step (IRepair; the paper's Max). fixed: the most sensitive block of \
             the model before repair. reverse: the least sensitive of each step (Min). random: drawn uniformly every few \
             steps (not in the paper)."
                .to_owned(),
            INTERVALS.to_owned(),
            format!("The paper gives means over models only. {PAPER}"),
        ],
    };
    grid.table(report)
}

/// The ablation over policy and slice size (METHOD §5).
pub(crate) fn ablation(report: &Report) -> Option<Table> {
    let settings = [Column::Policy, Column::SliceSize, Column::Seeds];
    let grid = Grid {
        key: TableKey::Ablation,
        title: "Ablation: slice size × policy",
        // Rows that failed are shown as missing.
        rows: report.rows(|_, row| row.tables.contains(&TableKey::Ablation)),
        with_mean: true,
        columns: settings.into_iter().chain(MAIN.map(Column::from)).collect(),
        caption: format!("A slice of p % keeps max(1, floor(p L / 100)) of L blocks per step, `3b` three. {READING}"),
        details: vec![INTERVALS.to_owned()],
    };
    grid.table(report)
}

/// Every metric of general ability that some row has, because a repair must keep it (METHOD §10). None when RQ1's table
/// shows them all.
pub(crate) fn general(report: &Report) -> Option<Table> {
    let asked: Vec<MetricId> = ABILITY.into_iter().filter(|id| report.results.is_asked(*id)).collect();
    if asked.iter().all(|id| MAIN.contains(id)) {
        return None;
    }
    let columns = asked.into_iter().map(Column::from).collect();
    by_method(report, TableKey::General, "General ability", columns, "Compare every row with the vanilla one.")
}

/// The degeneration guard: lower toxicity of degenerate text is not a repair (METHOD §9).
pub(crate) fn guard(report: &Report) -> Option<Table> {
    let columns = GUARD.into_iter().filter(|id| report.results.is_asked(*id)).map(Column::from).collect();
    let remark = "Compare every row with the vanilla one: text that repeats itself, ends at once, or is unlikely under \
                  the reference model is degenerate, not repaired.";
    by_method(report, TableKey::Guard, "Degeneration guard", columns, remark)
}

/// Rows that name the table and were run, by method.
pub(super) fn by_method(
    report: &Report,
    key: TableKey,
    title: &str,
    columns: Vec<Column>,
    remark: &str,
) -> Option<Table> {
    let grid = Grid {
        key,
        title,
        rows: report.rows_in(key),
        with_mean: true,
        columns: [Column::Method, Column::Seeds].into_iter().chain(columns).collect(),
        caption: format!("{remark} {READING}"),
        details: vec![INTERVALS.to_owned()],
    };
    grid.table(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Results;
    use crate::tests::{measured, report, rows};

    #[test]
    fn only_what_was_asked_is_a_column_and_what_failed_is_missing() {
        assert_eq!(general(&report()), None, "RQ1 shows them all");
        let mut rows = rows();
        for (i, row) in rows.iter_mut().enumerate() {
            let value = (i != 1).then_some(30.0);
            row.metrics.insert(metric::WORD_PERPLEXITY, measured(value, "", "exp of the NLL per word"));
        }
        let table = general(&Report { results: Results::new(rows).unwrap(), ..report() }).unwrap();
        assert_eq!(table.header, ["Model", "Method", "Seeds", "Perplexity ↓", "Word perplexity ↓", "Last word % ↑"]);
        assert_eq!(table.rows[0][4].to_string(), "30.00");
        assert_eq!(table.rows[1][4].to_string(), "30.00 [30.00, 30.00] (2 of 3 seeds)");
        let said = "exp of the NLL per word; n = 4 per run, 14 failed in 14 runs, 1 run without a value.";
        assert!(table.definitions[1].to_string().ends_with(said), "{}", table.definitions[1]);
        assert!(table.caption.contains("`word_perplexity`, `last_word_accuracy` 4"), "{}", table.caption);
    }

    #[test]
    fn the_papers_numbers_go_by_what_row_and_model_name() {
        let mut report = report();
        let paper = |report: &Report| -> Vec<String> {
            let table = rq1(report).unwrap();
            let irepair = table.rows.iter().filter(|row| row[1].to_string() == "IREPAIR");
            irepair.map(|row| row[4].to_string()).collect()
        };
        assert_eq!(paper(&report), ["5.11", "4.94", "4.91"]);
        // The name does not matter: this model has that of another family.
        report.experiment.profile.models[1].paper = Some("gpt2-large".into());
        assert_eq!(paper(&report), ["5.11", "5.11", "4.91"]);
        report.experiment.profile.models[1].paper = None;
        assert_eq!(paper(&report), ["5.11", "–", "4.91"]);
        report.experiment.rows.get_mut("irepair").unwrap().paper = None;
        assert_eq!(paper(&report), ["–"; 3]);
    }
}
