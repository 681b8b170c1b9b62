//! Definition, version, n and failures of each metric of a table, over the rows that it shows.

use irepair_core::metric::{Metric, MetricKey};
use serde::Serialize;

use crate::result::{RowResult, VANILLA};
use crate::results::Results;

/// One metric of a table. `Results` hold one definition per metric, so one is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// The metric's key.
    pub metric: String,
    /// Version of its definition.
    pub version: u32,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// What was computed.
    pub definition: String,
    /// Its denominator per run: the smallest and the largest of the runs.
    pub n_per_run: (u64, u64),
    /// Failures that are left out, over all runs.
    pub n_failed: u64,
    /// Runs that have the metric.
    pub n_runs: usize,
    /// How many of them have no value.
    pub n_missing: usize,
}

impl std::fmt::Display for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        let words = self.definition.trim_end_matches('.');
        let n = span(self.n_per_run);
        let runs = counted(self.n_runs, "run");
        write!(f, "`{}` (version {}{unit}): {words}; n = {n} per run, ", self.metric, self.version)?;
        write!(f, "{} failed in {runs}", self.n_failed)?;
        if self.n_missing > 0 {
            write!(f, ", {} without a value", counted(self.n_missing, "run"))?;
        }
        f.write_str(".")
    }
}

/// Definitions of those `keys` that some row of `methods` has.
pub(crate) fn definitions(results: &Results, methods: &[&str], keys: &[MetricKey]) -> Vec<Definition> {
    let rows = || results.rows().iter().filter(|r| methods.contains(&r.method()));
    let define = |key: &MetricKey| {
        let metrics: Vec<&Metric> = rows().filter_map(|r| r.metrics.get(key)).collect();
        let first = metrics.first()?;
        Some(Definition {
            metric: key.to_string(),
            version: first.version,
            unit: first.unit.clone(),
            definition: first.definition.clone(),
            n_per_run: ends(metrics.iter().map(|m| m.n))?,
            n_failed: metrics.iter().map(|m| m.n_failed).sum(),
            n_runs: metrics.len(),
            n_missing: metrics.iter().filter(|m| m.value.is_none()).count(),
        })
    };
    keys.iter().filter_map(define).collect()
}

/// `Profile p; 3 seeds per trained row; n per run: tox 200, last_word_accuracy 300; 2 failed.`: profile, seeds, counts
/// and failures of a table.
pub(crate) fn provenance(results: &Results, methods: &[&str], definitions: &[Definition]) -> String {
    let mut words: Vec<String> = results.profile().map(|p| format!("Profile `{p}`")).into_iter().collect();
    let trained = |r: &&RowResult| methods.contains(&r.method()) && r.method() != VANILLA;
    let per_row = results.rows().iter().filter(trained).map(|r| results.runs(r.method(), &r.model).len() as u64);
    if let Some(seeds) = ends(per_row) {
        words.push(format!("{} seed{} per trained row", span(seeds), if seeds == (1, 1) { "" } else { "s" }));
    }
    if !definitions.is_empty() {
        words.push(format!("n per run: {}", counts(definitions)));
    }
    let n_failed: u64 = definitions.iter().map(|d| d.n_failed).sum();
    if n_failed > 0 {
        words.push(format!("{n_failed} failed and left out"));
    }
    let n_missing: usize = definitions.iter().map(|d| d.n_missing).sum();
    if n_missing > 0 {
        words.push(format!("{} missing", counted(n_missing, "value")));
    }
    if words.is_empty() { String::new() } else { words.join("; ") + "." }
}

/// `tox, toxfrac 200, last_word_accuracy 300`: neighbours of one n share it.
fn counts(definitions: &[Definition]) -> String {
    let groups = definitions.chunk_by(|a, b| a.n_per_run == b.n_per_run);
    let group = |group: &[Definition]| {
        let keys: Vec<String> = group.iter().map(|d| format!("`{}`", d.metric)).collect();
        format!("{} {}", keys.join(", "), span(group[0].n_per_run))
    };
    groups.map(group).collect::<Vec<_>>().join(", ")
}

/// `1 run`, `2 runs`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `3`, or `2-3` when it differs; empty for nothing.
pub(crate) fn range(values: impl Iterator<Item = u64>) -> String {
    ends(values).map(span).unwrap_or_default()
}

fn ends(values: impl Iterator<Item = u64>) -> Option<(u64, u64)> {
    values.fold(None, |ends, v| ends.map_or(Some((v, v)), |(low, high): (u64, u64)| Some((low.min(v), high.max(v)))))
}

fn span((low, high): (u64, u64)) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

#[cfg(test)]
mod tests {
    use irepair_core::metric;

    use super::*;
    use crate::tests::results;

    #[test]
    fn n_and_failures_are_counted_over_the_rows_shown() {
        let results = results();
        let methods = ["irepair", VANILLA];
        let found =
            definitions(&results, &methods, &[metric::TOX, metric::TOXFRAC, metric::DISTINCT_1].map(MetricKey::from));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "`tox` (version 2, %): mean lexicon score of greedy continuations; n = 4 per run, 8 failed in 8 runs, \
                 1 run without a value.",
                "`distinct_1` (version 2): different tokens / tokens; n = 4 per run, 8 failed in 8 runs."
            ]
        );
        assert_eq!(
            provenance(&results, &methods, &found),
            "Profile `planted`; 3 seeds per trained row; n per run: `tox`, `distinct_1` 4; 16 failed and left out; \
             1 value missing."
        );
        assert_eq!(provenance(&Results::default(), &methods, &[]), "");
        assert_eq!((range([3, 2, 3].into_iter()), range(std::iter::empty())), ("2-3".to_owned(), String::new()));
    }
}
