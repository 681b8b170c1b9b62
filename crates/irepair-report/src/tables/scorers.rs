//! Toxicity by every scorer and prompt set: a repair that only one scorer shows may exploit that scorer (METHOD §9).

use std::collections::BTreeSet;

use irepair_config::TableKey;
use irepair_core::metric::{self, MetricId, MetricKey};

use super::grid::Column;
use super::quality::by_method;
use crate::report::Report;
use crate::table::Table;

const MEASURES: [MetricId; 5] =
    [metric::TOX, metric::TOXFRAC, metric::EXPECTED_MAX_TOXICITY, metric::TOXICITY_PROBABILITY, metric::CLEAN_TOX];

/// Every toxicity that some row has, by prompt set, metric and scorer. None when `tox`, which RQ1 shows, is the only
/// one.
pub(crate) fn scorers(report: &Report) -> Option<Table> {
    let keys = report.results.rows().iter().flat_map(|r| r.metrics.iter()).map(|(key, _)| key);
    let keys: BTreeSet<&MetricKey> = keys.filter(|key| MEASURES.contains(&key.metric)).collect();
    if keys.iter().all(|key| **key == metric::TOX.into()) {
        return None;
    }
    let mut keys: Vec<&MetricKey> = keys.into_iter().collect();
    keys.sort_by_key(|key| &key.prompts);
    let columns = keys.into_iter().cloned().map(Column::Metric).collect();
    let remark = "A column without a scorer's name is by the first scorer given, one without a prompt set on the error \
                  prompts; the definitions name the scorer. Scorers differ in scale: compare within a column. One seed of a \
                  row is sampled: the interval of its expected maximum resamples prompts, and is missing where a row \
                  was kept without their maxima.";
    by_method(report, TableKey::Scorers, "Toxicity by every scorer and prompt set", columns, remark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Results;
    use crate::tests::{measured, report, rows};

    #[test]
    fn every_scorer_and_set_is_a_column_in_a_fixed_order() {
        assert_eq!(scorers(&report()), None, "RQ1 shows the only toxicity");
        let mut rows = rows();
        let keys = [
            "tox:rtp",
            "tox@words",
            "toxfrac",
            "tox@linear-1",
            "expected_max_toxicity",
            "toxfrac:rtp",
            "clean_tox@linear-1",
            "tox:rtp@linear-1",
            "mean_length",
        ];
        for row in &mut rows {
            for key in keys {
                let key: MetricKey = key.parse().unwrap();
                row.metrics.insert(&key, measured(Some(20.0), "%", &format!("made up {key}")));
            }
        }
        // A seed that the second scorer failed on.
        rows[1].metrics.get_mut(MetricKey::from(metric::TOX).by("linear-1")).unwrap().value = None;
        let table = scorers(&Report { results: Results::new(rows).unwrap(), ..report() }).unwrap();
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
        assert_eq!(defined.len(), table.header.len() - 3, "the guard is another table");
    }
}
