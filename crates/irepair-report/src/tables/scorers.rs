//! Toxicity by every scorer and prompt set: a repair that only one scorer sees is a repair of that scorer (METHOD §9).

use std::collections::BTreeSet;

use super::by_method::{Column, by_method};
use crate::result::metric;
use crate::results::Results;
use crate::table::Table;

/// What is measured: its key, its heading, its unit and direction, digits.
const MEASURES: [(&str, &str, &str, usize); 5] = [
    (metric::TOX, "Toxicity", " % ↓", 2),
    (metric::TOXFRAC, "Toxic share", " % ↓", 1),
    (metric::EXPECTED_MAX_TOXICITY, "Expected maximum", " ↓", 3),
    (metric::TOXICITY_PROBABILITY, "Toxicity probability", " ↓", 3),
    (metric::CLEAN_TOX, "Clean toxicity", " % ↓", 2),
];

/// Every toxicity that some row carries, by scorer (`tox@NAME`) and prompt set (`tox:SET`). None when there is none but
/// `tox`, which RQ1's table shows.
pub fn scorers(results: &Results) -> Option<Table> {
    let keys: BTreeSet<&str> = results.rows().iter().flat_map(|r| r.metrics.keys()).map(String::as_str).collect();
    let mut columns: Vec<(Place<'_>, Column)> = keys.into_iter().filter_map(column).collect();
    columns.sort_by_key(|(place, _)| *place);
    let columns: Vec<Column> = columns.into_iter().map(|(_, column)| column).collect();
    if columns.iter().all(|c| c.key == metric::TOX) {
        return None;
    }
    let remark = "A column without a scorer's name is by the first scorer given, one without a prompt set on the error \
                  prompts; the definitions name the scorer. Scorers differ in scale: compare within a column.";
    by_method(results, "scorers", "Toxicity by every scorer and prompt set", &columns, remark)
}

/// Prompt set, measure, scorer: sets side by side, and within a set the scorers of a measure.
type Place<'a> = (Option<&'a str>, usize, Option<&'a str>);

/// The column of a key `MEASURE[:SET][@SCORER]`; none for other keys.
fn column(key: &str) -> Option<(Place<'_>, Column)> {
    let (rest, scorer) = key.split_once('@').map_or((key, None), |(rest, scorer)| (rest, Some(scorer)));
    let (measure, set) = rest.split_once(':').map_or((rest, None), |(measure, set)| (measure, Some(set)));
    let i = MEASURES.iter().position(|(name, ..)| *name == measure)?;
    let (_, name, unit, digits) = MEASURES[i];
    let on = set.map(|s| format!(", {s}")).unwrap_or_default();
    let by = scorer.map(|s| format!(", by {s}")).unwrap_or_default();
    Some(((set, i, scorer), Column::new(key, format!("{name}{unit}{on}{by}"), digits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{measured, results, rows};

    #[test]
    fn every_scorer_and_set_is_a_column_in_a_fixed_order() {
        assert_eq!(scorers(&results()), None, "RQ1 shows the only toxicity");
        let mut rows = rows();
        let keys = [
            "tox:rtp",
            "tox@words",
            "toxfrac",
            "tox@linear-1",
            "expected_max_toxicity",
            "tox_valid",
            "toxfrac:rtp",
            "clean_tox@linear-1",
            "tox:rtp@linear-1",
            "mean_length",
        ];
        for row in &mut rows {
            for key in keys {
                row.metrics.insert(key.into(), measured(Some(20.0), "%", &format!("made up {key}")));
            }
        }
        // A seed that the second scorer failed on.
        rows[1].metrics.get_mut("tox@linear-1").unwrap().value = None;
        let table = scorers(&Results::new(rows).unwrap()).unwrap();
        assert_eq!(
            table.header[3..],
            [
                "Toxicity % ↓",
                "Toxicity % ↓, by linear-1",
                "Toxicity % ↓, by words",
                "Toxic share % ↓",
                "Expected maximum ↓",
                "Clean toxicity % ↓, by linear-1",
                "Toxicity % ↓, rtp",
                "Toxicity % ↓, rtp, by linear-1",
                "Toxic share % ↓, rtp",
            ]
        );
        assert_eq!(table.rows[1][4].to_string(), "20.00 [20.00, 20.00] (2 of 3 seeds)");
        let defined: Vec<&str> = table.definitions.iter().map(|d| d.definition.as_str()).collect();
        for key in keys.iter().filter(|k| k.starts_with("tox:") || k.contains('@')) {
            assert!(defined.contains(&format!("made up {key}").as_str()), "{defined:?}");
        }
        assert_eq!(defined.len(), table.header.len() - 3, "validation and guard are other tables'");
    }
}
