//! General ability: what a repair must not take away, by every measure that was taken (METHOD §10).

use super::MAIN;
use super::by_method::{Column, by_method, is_asked};
use crate::result::metric;
use crate::results::Results;
use crate::table::Table;

/// Key, heading, digits.
const COLUMNS: [(&str, &str, usize); 12] = [
    (metric::TOKEN_PERPLEXITY, "Perplexity ↓", 2),
    (metric::STRIDED_PERPLEXITY, "Strided perplexity ↓", 2),
    (metric::WORD_PERPLEXITY, "Word perplexity ↓", 2),
    (metric::CLOZE_ACCURACY, "Cloze % ↑", 1),
    (metric::CLOZE_PERPLEXITY, "Cloze perplexity ↓", 2),
    (metric::CLOZE_CORPUS_PERPLEXITY, "Cloze corpus perplexity ↓", 2),
    (metric::BLIMP_ACCURACY, "BLiMP % ↑", 1),
    (metric::HELLASWAG_ACCURACY, "HellaSwag % ↑", 1),
    (metric::HELLASWAG_ACCURACY_BY_BYTES, "HellaSwag by bytes % ↑", 1),
    (metric::TOKEN_F1, "Token F1 ↑", 3),
    (metric::KL_HELDOUT, "Held-out KL ↓", 4),
    (metric::CLEAN_TOX, "Clean toxicity % ↓", 2),
];

/// Every measure of general ability that some row carries. None when there is none that RQ1's table does not show.
pub fn general(results: &Results) -> Option<Table> {
    let asked: Vec<_> = COLUMNS.iter().filter(|(key, ..)| is_asked(results, key)).collect();
    if asked.iter().all(|(key, ..)| MAIN.contains(key)) {
        return None;
    }
    let columns: Vec<Column> = asked.iter().map(|&&(key, heading, digits)| Column::new(key, heading, digits)).collect();
    by_method(results, "general", "General ability", &columns, "Read every row against the vanilla one.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{measured, results, rows};

    #[test]
    fn only_what_was_asked_is_a_column_and_what_failed_is_missing() {
        assert_eq!(general(&results()), None, "RQ1 says it all");
        let mut rows = rows();
        for (i, row) in rows.iter_mut().enumerate() {
            let value = (i != 1).then_some(30.0);
            row.metrics.insert(metric::WORD_PERPLEXITY.into(), measured(value, "", "exp of the NLL per word"));
        }
        let table = general(&Results::new(rows).unwrap()).unwrap();
        assert_eq!(table.header, ["Model", "Method", "Seeds", "Perplexity ↓", "Word perplexity ↓", "Cloze % ↑"]);
        assert_eq!(table.rows[0][4].to_string(), "30.00");
        assert_eq!(table.rows[1][4].to_string(), "30.00 [30.00, 30.00] (2 of 3 seeds)");
        let said = "exp of the NLL per word; n = 4 per run, 14 failed in 14 runs, 1 run without a value.";
        assert!(table.definitions[1].to_string().ends_with(said), "{}", table.definitions[1]);
        assert!(table.caption.contains("`word_perplexity`, `cloze_accuracy` 4"), "{}", table.caption);
    }
}
