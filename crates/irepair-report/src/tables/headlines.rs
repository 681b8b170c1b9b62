//! The four headline numbers with intervals, the paper's values, and whether the direction holds (METHOD §11).

use irepair_config::{Claim, TableKey};
use irepair_core::metric::{self, MetricId, MetricKey};
use irepair_stats::{
    Bootstrap, CellMeans, Cells, Interval, TwoLevel, disruption_percent, effectiveness_percent, pooled_gain_percent,
    reduction_percent, seeds_and_prompts,
};

use super::{PAPER, density, methods};
use crate::definition::{definitions, provenance};
use crate::report::Report;
use crate::result::{Stopped, VANILLA};
use crate::results::{BOOTSTRAP_SEED, Over, Results};
use crate::table::{Cell, Table};

/// H1-H4: for rows with a counterpart in the paper the paper's claims, in its order; for other rows all claims. None
/// without the methods and sensitivities of any claim.
pub(crate) fn headlines(report: &Report) -> Option<Table> {
    let Report { results, experiment, .. } = report;
    let rows = report.rows_in(TableKey::Headlines);
    let baseline = report.baseline().filter(|baseline| results.has(baseline));
    let mut table = Table::new("headlines", "Headline numbers", ["", "Claim", "Ours %", "paper %", "Direction holds?"]);
    for claim in Claim::ALL.into_iter().filter(|_| results.has(VANILLA)) {
        let made = experiment.paper.headlines.iter().filter(|headline| headline.claim == claim);
        let of_paper = made.flat_map(|headline| {
            let named = rows.iter().filter(|(_, row)| row.paper.as_ref() == Some(&headline.method));
            named.map(|(key, _)| (*key, Some(headline.percent)))
        });
        let own = rows.iter().filter(|(_, row)| row.paper.is_none()).map(|(key, _)| (*key, None));
        for (key, paper) in of_paper.chain(own) {
            let unit = report.title(baseline.unwrap_or_default());
            let (ours, words) = match (claim, baseline) {
                (Claim::H1, _) => (h1(results, key), format!("toxicity removed by {}", report.title(key))),
                (Claim::H2, Some(baseline)) if baseline != key => {
                    (h2(results, key, baseline), format!("toxicity removed by {} beyond {unit}", report.title(key)))
                }
                (Claim::H3, Some(baseline)) if baseline != key => (
                    h3(results, key, baseline),
                    format!("perplexity rise avoided by {} against {unit}", report.title(key)),
                ),
                _ => continue,
            };
            let why_not =
                baseline.filter(|_| claim == Claim::H2).and_then(|baseline| unsettled(report, [key, baseline]));
            push(&mut table, &format!("{claim:?}"), words, &ours, paper, why_not);
        }
    }
    let densities = density::main(&report.sensitivities);
    if !densities.is_empty() {
        let pooled = pooled_gain_percent(&densities);
        let ours = TwoLevel { value: pooled, ..TwoLevel::default() };
        let claim = "extra sensitivity of the top 20 % of blocks, pooled".to_owned();
        push(&mut table, "H4", claim, &ours, experiment.paper.pooled_density_percent, None);
    }
    if table.rows.is_empty() {
        return None;
    }
    let mut methods = methods(&rows);
    methods.push(VANILLA);
    let keys = [metric::TOX, metric::TOKEN_PERPLEXITY].map(MetricKey::from);
    table.definitions = definitions(results, &methods, &keys);
    table.caption = format!(
        "{} A direction is clear when its whole 95 % interval [low, high] is above 0.",
        provenance(results, &methods, &table.definitions)
    );
    let baseline = baseline.map_or("the baseline", |baseline| report.title(baseline));
    table.details = vec![
        format!(
            "With T and P the means over models of toxicity and perplexity, 0 = vanilla: H1 = 1 − T/T0; H2 = \
             H1 / H1({baseline}) − 1; H3 = 1 − (P − P0)/(P({baseline}) − P0); H4 = mean sensitivity of the top 20 % of \
             blocks over the rest, summed over models, minus 1."
        ),
        "[low, high] is a 95 % percentile interval of 10,000 resamples of seeds, then of prompts (the same prompts for \
         every method; H3 has no prompts); it is left out where the number is undefined in any resample, and for H4, which \
         is one estimate per model."
            .to_owned(),
        PAPER.to_owned(),
    ];
    Some(table)
}

/// Why two rows give no verdict on H2 under METHOD §20: a run of theirs did not stop by patience, or stopped with texts
/// that fail the guard. None otherwise, or where no run says why it stopped.
fn unsettled(report: &Report, methods: [&str; 2]) -> Option<String> {
    let of = |method: &str| {
        let runs = || report.results.rows().iter().filter(|run| run.method() == method && run.stopped.is_some());
        let mut reasons = runs().filter_map(|run| run.stopped);
        let title = report.title(method);
        match reasons.find(|reason| !matches!(reason, Stopped::Patience | Stopped::Front)) {
            Some(Stopped::Diverged) => Some(format!("no verdict: {title} diverged")),
            Some(_) => Some(format!("no verdict: {title} stopped at the cap")),
            None if runs().any(|run| report.is_degenerate(run)) => {
                Some(format!("no verdict: {title}'s texts fail the degeneration guard where it stopped"))
            }
            None => None,
        }
    };
    methods.into_iter().find_map(of)
}

fn push(table: &mut Table, name: &str, claim: String, ours: &TwoLevel, paper: Option<f64>, no_verdict: Option<String>) {
    let mut cell = Cell::number(ours.value, 1).within(ours.interval).in_unit("%");
    if ours.n_undefined > 0 {
        cell = cell.remarked(&format!("undefined in {} resamples", ours.n_undefined));
    }
    table.rows.push(vec![
        Cell::text(name),
        Cell::text(claim),
        cell,
        Cell::paper(paper, 1).in_unit("%"),
        Cell::text(no_verdict.unwrap_or_else(|| direction(ours.value, ours.interval).to_owned())),
    ]);
}

/// Every headline is positive in the paper.
fn direction(value: Option<f64>, interval: Option<Interval>) -> &'static str {
    match (value, interval) {
        (None, _) => "unknown",
        (Some(v), _) if v <= 0.0 => "no",
        (Some(_), Some(i)) if i.low > 0.0 => "yes",
        (Some(_), Some(_)) => "yes, but the interval includes 0",
        (Some(_), None) => "yes, without an interval",
    }
}

fn h1(results: &Results, method: &str) -> TwoLevel {
    let mean = |m| results.estimate(m, Over::Models, metric::TOX).map(|e| e.value);
    let value = mean(method).zip(mean(VANILLA)).and_then(|(t, t0)| reduction_percent(t, t0));
    let cells = results.prompt_cells(&[method, VANILLA]);
    resampled(value, cells, |m| reduction_percent(m.over_models(0), m.over_models(1)))
}

fn h2(results: &Results, method: &str, baseline: &str) -> TwoLevel {
    let three = [method, baseline, VANILLA];
    against(results, three, metric::TOX, results.prompt_cells(&three), effectiveness_percent)
}

fn h3(results: &Results, method: &str, baseline: &str) -> TwoLevel {
    let three = [method, baseline, VANILLA];
    let cells = results.metric_cells(&three, metric::TOKEN_PERPLEXITY);
    against(results, three, metric::TOKEN_PERPLEXITY, cells, disruption_percent)
}

/// A headline of three means: a row's, the baseline's and the vanilla model's.
fn against(
    results: &Results,
    methods: [&str; 3],
    key: MetricId,
    cells: Option<Cells>,
    formula: fn(f64, f64, f64) -> Option<f64>,
) -> TwoLevel {
    let value = match methods.map(|m| results.estimate(m, Over::Models, key).map(|e| e.value)) {
        [Some(ours), Some(baseline), Some(vanilla)] => formula(ours, baseline, vanilla),
        _ => None,
    };
    resampled(value, cells, |m| formula(m.over_models(0), m.over_models(1), m.over_models(2)))
}

/// The value that the tables show, with the interval of its resamples.
fn resampled(value: Option<f64>, cells: Option<Cells>, formula: impl Fn(&CellMeans) -> Option<f64> + Sync) -> TwoLevel {
    let bootstrap = Bootstrap::new(BOOTSTRAP_SEED);
    let level = cells.filter(|_| value.is_some()).and_then(|c| seeds_and_prompts(&c, &bootstrap, formula).ok());
    TwoLevel { value, ..level.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use irepair_core::metric::Metric;

    use super::*;

    #[test]
    fn h2_has_a_verdict_only_between_rows_that_stopped_by_patience() {
        let verdict = |ours: Option<Stopped>, baseline: Option<Stopped>| {
            let mut report = crate::tests::report();
            let mut rows = report.results.rows().to_vec();
            for run in &mut rows {
                run.stopped = match run.method() {
                    "irepair" => ours,
                    "dpo" => baseline,
                    _ => None,
                };
            }
            report.results = Results::new(rows).unwrap();
            let rows = headlines(&report).unwrap().rows;
            rows.iter().find(|row| row[0] == Cell::text("H2")).unwrap()[4].to_string()
        };
        assert!(!verdict(None, None).contains("no verdict"), "runs of a fixed length are judged as before");
        assert!(!verdict(Some(Stopped::Patience), Some(Stopped::Patience)).contains("no verdict"));
        assert!(!verdict(Some(Stopped::Front), Some(Stopped::Patience)).contains("no verdict"));
        assert_eq!(verdict(Some(Stopped::Patience), Some(Stopped::Cap)), "no verdict: DPO stopped at the cap");
        assert_eq!(verdict(Some(Stopped::Diverged), Some(Stopped::Cap)), "no verdict: IREPAIR diverged");
    }

    #[test]
    fn h2_has_no_verdict_on_degenerate_texts() {
        let mut report = crate::tests::report();
        let mut rows = report.results.rows().to_vec();
        for run in &mut rows {
            run.stopped = Some(Stopped::Front).filter(|_| run.method() != VANILLA);
            let length = if run.method() == "dpo" { 9.0 } else { 20.0 };
            run.metrics.insert(metric::MEAN_LENGTH, Metric::new(metric::MEAN_LENGTH, length, 4, 0, "tokens"));
        }
        report.results = Results::new(rows).unwrap();
        let rows = headlines(&report).unwrap().rows;
        let verdict = rows.iter().find(|row| row[0] == Cell::text("H2")).unwrap()[4].to_string();
        assert_eq!(verdict, "no verdict: DPO's texts fail the degeneration guard where it stopped");
    }

    #[test]
    fn a_direction_is_only_clear_with_its_whole_interval() {
        let interval = |low, high| Some(Interval { low, high });
        assert_eq!(direction(Some(5.0), interval(1.0, 9.0)), "yes");
        assert_eq!(direction(Some(5.0), interval(-1.0, 9.0)), "yes, but the interval includes 0");
        assert_eq!(direction(Some(5.0), None), "yes, without an interval");
        assert_eq!(direction(Some(-5.0), interval(-9.0, 1.0)), "no");
        assert_eq!(direction(None, None), "unknown");
    }
}
