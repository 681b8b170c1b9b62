//! Methods compared fairly (METHOD §20): the error left within KL budgets, and three comparisons in one table.

use std::collections::BTreeSet;

use irepair_config::TableKey;
use irepair_core::metric::{self, MetricId, MetricKey, Metrics};
use irepair_stats::{Bootstrap, Estimate, bootstrap_mean};

use crate::definition::{definitions, provenance};
use crate::points::{LEAST_KEPT, MOST_BLANK, MOST_REPEATED, candidate, front_percent};
use crate::report::Report;
use crate::result::{Compared, Purpose, RowResult, Stopped};
use crate::results::BOOTSTRAP_SEED;
use crate::table::{Cell, Table};

/// Intervals of both tables.
const SEEDS_OR_PROMPTS: &str = "[low, high] is a 95 % interval: Student t over seeds; for a single run, whose seed has no spread, \
    percentile bootstrap over prompts (10,000 resamples).";

impl RowResult {
    /// The weights of a comparison.
    pub(crate) fn compared(&self, purpose: Purpose) -> Option<&Compared> {
        self.compared.iter().find(|compared| compared.purpose == purpose)
    }

    /// Test results of the weights of a comparison: metrics, and scores of the error prompts.
    pub(crate) fn tested(&self, purpose: Purpose) -> Option<(&Metrics, &[Option<f64>])> {
        let step = self.compared(purpose)?.step;
        if self.compared(Purpose::Stopped)?.step == step {
            return Some((&self.metrics, &self.prompt_scores));
        }
        self.measured.iter().find(|m| m.step == step).map(|m| (&m.metrics, &m.prompt_scores[..]))
    }
}

/// Every KL budget that some run has a comparison for, lowest first.
pub(crate) fn budgets(report: &Report) -> Vec<f64> {
    let of = |compared: &Compared| match compared.purpose {
        Purpose::Budget(budget) => Some(budget),
        _ => None,
    };
    let mut all: Vec<f64> = report.results.rows().iter().flat_map(|run| &run.compared).filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// Why the runs of a row ended, each reason once: `patience`, or `patience, cap`.
pub(crate) fn stops(runs: &[&RowResult]) -> String {
    let reasons = [Stopped::Patience, Stopped::Front, Stopped::Cap, Stopped::Diverged, Stopped::Paused];
    let found = reasons.iter().filter(|reason| runs.iter().any(|run| run.stopped == Some(**reason)));
    found.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The devices of runs, each once.
fn devices(runs: &[&RowResult]) -> String {
    let all: BTreeSet<&str> = runs.iter().map(|run| run.device.as_deref().unwrap_or("CPU")).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

/// Rows of a table with runs under METHOD §20, for each model: model, title, key and runs.
pub(super) fn kept_runs(report: &Report, table: TableKey) -> Vec<(&str, &str, &str, Vec<&RowResult>)> {
    let rows = report.rows_in(table);
    let of_model = |model| {
        rows.iter().map(move |(key, row)| {
            let runs = report.results.runs(key, model).into_iter().filter(|run| run.stopped.is_some()).collect();
            (model, row.title.as_str(), *key, runs)
        })
    };
    let all = report.results.models().into_iter().flat_map(of_model);
    all.filter(|(.., runs): &(_, _, _, Vec<_>)| !runs.is_empty()).collect()
}

/// The error left on test prompts within each KL budget, with the hypervolume of the validation front. None without
/// runs under METHOD §20.
pub(crate) fn error_within_budgets(report: &Report) -> Option<Table> {
    let (rows, budgets) = (kept_runs(report, TableKey::Budgets), budgets(report));
    let most = *budgets.last()?;
    let others = other_scorers(report);
    let heads = budgets.iter().flat_map(|b| {
        let scorers =
            others.iter().map(move |key| format!("TOX % by {}, ≤ {b}", key.scorer.as_deref().unwrap_or_default()));
        let first = [format!("TOX % at KL ≤ {b} ↓")].into_iter().chain(scorers);
        first.chain([format!("KL on test, ≤ {b}"), format!("perplexity, ≤ {b}")]).collect::<Vec<_>>()
    });
    let header = ["Model", "Method", "Seeds", "Hypervolume % ↑"].map(str::to_owned).into_iter().chain(heads);
    let mut table = Table::new("budgets", "Error left within a budget of disturbance", header);
    for (model, title, key, runs) in &rows {
        let at_rates = report.runs_at_all_rates(key, model);
        let mut cells = vec![
            Cell::text(*model),
            Cell::text(*title),
            Cell::number(Some(runs.len() as f64), 0),
            share_of_runs(report, key, &at_rates, runs, most),
        ];
        for &budget in &budgets {
            let (runs, purpose) = (report.runs_within(key, model, budget), Purpose::Budget(budget));
            cells.push(metric_of(&runs, purpose, metric::TOX, 2));
            cells.extend(
                others
                    .iter()
                    .map(|key| over_runs(&runs, |run| run.tested(purpose)?.0.value(key), None, 2).in_unit("%")),
            );
            cells.push(metric_of(&runs, purpose, metric::KL_HELDOUT, 4));
            cells.push(metric_of(&runs, purpose, metric::TOKEN_PERPLEXITY, 2));
        }
        table.rows.push(cells);
    }
    finish(
        report,
        table,
        &rows,
        "Each budget's weights are chosen on validation data and measured once on test data.",
        vec![
            "Error left at a budget: of a run's points that pass the degeneration guard and whose KL(θ0 ‖ θ) on neutral \
             validation text is within the budget, the one of least toxicity on validation prompts (ties to the smaller KL); \
             the model before repair is such a point, so that every budget has one. The run is that of the rate with the \
             least error within the budget on validation data, mean over its seeds, the lower one where several have it, of the \
             rates that were run to their end; missing before the rate that the search chose for the budget has run. A row that \
             takes the rate of another has one rate. KL on test text may lie above the budget, which held on \
             validation text."
                .to_owned(),
            format!(
                "Hypervolume: share of the rectangle between no KL and {most} nats a token, and no error and the error before \
             repair, that the points of a seed's runs on validation data, at every rate that was tried, dominate; points that fail the guard count for nothing."
            ),
            format!(
                "The guard: mean length and the number of distinct tokens at least {LEAST_KEPT} times those before repair, at \
             most {MOST_BLANK} more blank continuations and {MOST_REPEATED} more repeated 4-grams."
            ),
        ],
    )
}

/// Where each run stopped, and what it gives at equal updates and at equal compute. None without runs under METHOD §20.
pub(crate) fn three_comparisons(report: &Report) -> Option<Table> {
    let rows = kept_runs(report, TableKey::Compare);
    let comparisons = [
        (Purpose::Stopped, "where it stopped"),
        (Purpose::EqualUpdates, "equal updates"),
        (Purpose::EqualCompute, "equal compute"),
    ];
    let heads = comparisons.iter().flat_map(|(_, name)| {
        ["TOX %", "KL", "perplexity", "updates", "TFLOP"].map(|column| format!("{column}, {name}"))
    });
    let header = ["Model", "Method", "Device", "Seeds", "Stopped by"].map(str::to_owned).into_iter().chain(heads);
    let mut table = Table::new("compare", "Three comparisons", header);
    for (model, title, _, runs) in &rows {
        let seeds = Cell::number(Some(runs.len() as f64), 0);
        let names = [*model, *title, &devices(runs)].map(Cell::text);
        let guard = if runs.iter().any(|run| report.is_degenerate(run)) { "; fails the guard" } else { "" };
        let stopped = Cell::text(stops(runs) + guard);
        let mut cells: Vec<Cell> = names.into_iter().chain([seeds, stopped]).collect();
        for (purpose, _) in comparisons {
            cells.push(metric_of(runs, purpose, metric::TOX, 2));
            cells.push(metric_of(runs, purpose, metric::KL_HELDOUT, 4));
            cells.push(metric_of(runs, purpose, metric::TOKEN_PERPLEXITY, 2));
            cells.push(over_runs(runs, |run| Some(run.compared(purpose)?.n_steps as f64), None, 0));
            cells.push(over_runs(runs, |run| Some(run.compared(purpose)?.flops / 1e12), None, 3));
        }
        table.rows.push(cells);
    }
    finish(
        report,
        table,
        &rows,
        "All numbers are of test data; a run that stopped by its cap might have reached other numbers.",
        vec![
            "Each comparison is about the weights that were best on the method's own validation loss until then. Where it \
             stopped: no gain for as many validations as patience has, or as many points in a row that did not advance the \
             front, or the cap on updates, the same for every row. Weights that fail the guard on test prompts say so. Equal \
             updates and equal compute: as if every run had ended after the same updates, or at the update that reaches the \
             same counted FLOPs; a run that stopped before stands there with what it gave."
                .to_owned(),
        ],
    )
}

/// Toxicity on the error prompts by the scorers after the first.
pub(super) fn other_scorers(report: &Report) -> Vec<MetricKey> {
    let keys = report.results.rows().iter().flat_map(|row| row.metrics.iter()).map(|(key, _)| key);
    let is_other = |key: &&MetricKey| key.metric == metric::TOX && key.prompts.is_none() && key.scorer.is_some();
    keys.filter(is_other).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The share of a row's runs. After a search that of the seeds which it tried every rate with, and none of rows that
/// take the rates of others: they tried one rate where others tried all.
fn share_of_runs(report: &Report, key: &str, at_rates: &[&RowResult], runs: &[&RowResult], most: f64) -> Cell {
    let prefix = format!("{key}@");
    let tried: BTreeSet<u64> =
        report.searched.iter().filter(|run| run.method().starts_with(&prefix)).map(|run| run.seed).collect();
    let runs: Vec<&RowResult> =
        runs.iter().copied().filter(|run| report.searched.is_empty() || tried.contains(&run.seed)).collect();
    if runs.is_empty() {
        return Cell::NotApplicable;
    }
    over_runs(&runs, |run| front_share(at_rates, run, most), None, 1).in_unit("%")
}

/// Share in percent of the plane that the points of a run dominate, with those of the same seed at other rates.
fn front_share(at_rates: &[&RowResult], run: &RowResult, most: f64) -> Option<f64> {
    let before = run.trajectory.iter().find(|point| point.step == 0)?.toxicity?;
    let runs = at_rates.iter().filter(|other| other.seed == run.seed);
    let places: Vec<[f64; 2]> = runs.flat_map(|run| &run.trajectory).filter_map(candidate).collect();
    front_percent(&places, most, before)
}

/// A metric of the weights of a comparison.
fn metric_of(runs: &[&RowResult], purpose: Purpose, metric: MetricId, digits: usize) -> Cell {
    let of = |run: &RowResult| run.tested(purpose)?.0.value(metric);
    let scores = match runs {
        [run] if metric == metric::TOX => run.tested(purpose).map(|(_, scores)| scores),
        _ => None,
    };
    over_runs(runs, of, scores, digits).in_unit(metric.definition().unit)
}

/// A mean over runs, with the interval of its seeds, or of the prompts of a single run; runs without the number are
/// counted in a remark.
pub(super) fn over_runs(
    runs: &[&RowResult],
    of: impl Fn(&RowResult) -> Option<f64>,
    scores: Option<&[Option<f64>]>,
    digits: usize,
) -> Cell {
    let values: Vec<f64> = runs.iter().filter_map(|run| of(run)).filter(|value| value.is_finite()).collect();
    let mut estimate = Estimate::over_seeds(&values);
    if let (Some(estimate), Some(scores)) = (&mut estimate, scores) {
        let percent: Vec<f64> = scores.iter().flatten().map(|score| 100.0 * score).collect();
        let resampled = bootstrap_mean(&percent, &Bootstrap::new(BOOTSTRAP_SEED)).ok();
        estimate.interval = resampled.and_then(|e| e.interval);
    }
    let cell = Cell::estimate(estimate, digits);
    if values.len() < runs.len() { cell.remarked(&format!("{} of {} seeds", values.len(), runs.len())) } else { cell }
}

/// Adds what both tables say of their numbers; none without rows.
fn finish(
    report: &Report,
    mut table: Table,
    rows: &[(&str, &str, &str, Vec<&RowResult>)],
    caption: &str,
    details: Vec<String>,
) -> Option<Table> {
    let mut methods: Vec<&str> = rows.iter().map(|(_, _, key, _)| *key).collect();
    methods.dedup();
    let keys = [metric::TOX, metric::KL_HELDOUT, metric::TOKEN_PERPLEXITY].map(MetricKey::from);
    table.definitions = definitions(&report.results, &methods, &keys);
    table.caption = format!("{caption} {}", provenance(&report.results, &methods, &table.definitions));
    table.details = details.into_iter().chain([SEEDS_OR_PROMPTS.to_owned()]).collect();
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::VANILLA;
    use crate::results::Results;
    use crate::tests::{kept, row};

    fn text(table: &Table) -> Vec<String> {
        table.rows.iter().map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")).collect()
    }

    fn report() -> Report {
        let rows = vec![
            row(VANILLA, "m", 0, 40.0, 10.0),
            kept("irepair", 0, Stopped::Patience, 4.0),
            kept("irepair", 1, Stopped::Cap, 6.0),
            row("dpo", "m", 0, 9.0, 12.0),
        ];
        Report::of(Results::new(rows).unwrap())
    }

    #[test]
    fn budgets_show_the_test_results_of_the_weights_that_were_chosen() {
        let table = error_within_budgets(&report()).unwrap();
        // A row without kept weights is not there; a quarter of the plane is dominated, 0.05 x 20 of 0.1 x 40.
        assert_eq!(
            text(&table),
            ["m | IREPAIR | 2 | 25.0 [25.0, 25.0] | 20.00 [7.29, 32.71] | missing | 10.50 [10.50, 10.50]"]
        );
        assert!(table.header[4].contains("0.1"));
    }

    #[test]
    fn the_rate_of_a_budget_has_its_own_run_and_the_search_is_part_of_the_hypervolume() {
        let mut other = kept("irepair@1e-5", 0, Stopped::Cap, 1.0);
        other.trajectory[1].toxicity = Some(19.0);
        other.measured[0].metrics = row("irepair", "m", 0, 12.0, 10.2).metrics;
        let mut rows = report().results.rows().to_vec();
        rows.push(other);
        let mut report = Report { results: Results::new(rows).unwrap(), ..report() };
        let mut searched = kept("irepair@1e-3", 0, Stopped::Paused, 1.0);
        searched.trajectory[1].toxicity = Some(0.0);
        report.searched = vec![searched];
        // Seed 1 was not searched; 0.05 x 40 of 0.1 x 40 are dominated at the rate of the search.
        let shown = text(&error_within_budgets(&report).unwrap());
        assert!(shown[0].starts_with("m | IREPAIR | 2 | 50.0 | 12.00 ["), "{shown:?}");
        assert!(shown[0].ends_with("] | missing | 10.20"), "{shown:?}");
        // A second seed with less error: in the mean the row's own rate is the better one.
        let mut rows = report.results.rows().to_vec();
        rows.iter_mut().filter(|run| run.seed == 1).for_each(|run| run.trajectory[1].toxicity = Some(10.0));
        let other = Report { results: Results::new(rows).unwrap(), ..report.clone() };
        let shown = text(&error_within_budgets(&other).unwrap());
        assert!(shown[0].starts_with("m | IREPAIR | 2 | 50.0 | 20.00 ["), "{shown:?}");
        let within = irepair_config::LearningRates::key_within("irepair", 0.1);
        report.experiment.learning_rates.0.entry(within.clone()).or_default().insert("m".to_owned(), 3e-4);
        let shown = text(&error_within_budgets(&report).unwrap());
        assert!(shown[0].ends_with(" | missing | missing | missing"), "the chosen rate has not run: {shown:?}");
        report.experiment.learning_rates.0.remove(&within);
        report.experiment.rows.get_mut("irepair").unwrap().rates_of = Some("dpo".to_owned());
        report.searched[0].row = "dpo@1e-3-m".to_owned();
        let shown = text(&error_within_budgets(&report).unwrap());
        assert!(shown[0].starts_with("m | IREPAIR | 2 | – | 12.00"), "one rate, where others tried many: {shown:?}");
    }

    #[test]
    fn comparisons_stand_beside_each_other_with_their_updates_and_the_reason_of_the_stop() {
        let table = three_comparisons(&report()).unwrap();
        let cells: Vec<String> = table.rows[0].iter().map(ToString::to_string).collect();
        assert_eq!((&*cells[2], &*cells[4]), ("CPU", "patience, cap"));
        let starts = |i: usize, with: &str| assert!(cells[i].starts_with(with), "{cells:?}");
        [(5, "5.00 ["), (8, "20 ["), (10, "20.00 ["), (13, "10 ["), (14, "10.000 ["), (15, "5.00 [")]
            .into_iter()
            .for_each(|(i, with)| starts(i, with));
    }

    #[test]
    fn a_single_run_has_the_interval_of_its_prompts() {
        let rows = vec![kept("irepair", 0, Stopped::Patience, 4.0)];
        let table = error_within_budgets(&Report::of(Results::new(rows).unwrap())).unwrap();
        let Cell::Number { value, interval: Some(interval), .. } = &table.rows[0][4] else { panic!("{table:?}") };
        assert!(interval.contains(*value) && interval.low < interval.high);
    }

    #[test]
    fn without_kept_runs_there_are_no_tables() {
        let report = crate::tests::report();
        assert_eq!((error_within_budgets(&report), three_comparisons(&report)), (None, None));
    }
}
