//! Rows against the profile's baseline at equal disturbance: what is left within each KL budget, prompt by prompt.

use irepair_config::TableKey;
use irepair_stats::{Bootstrap, paired_bootstrap_difference};

use super::protocol::{budgets, kept_runs};
use crate::report::Report;
use crate::result::Purpose;
use crate::results::{BOOTSTRAP_SEED, percent_by_prompt};
use crate::table::{Cell, Table};

/// Differences to the baseline within each budget. None without a baseline under METHOD §20.
pub(crate) fn against_baseline(report: &Report) -> Option<Table> {
    let (baseline, budgets) = (report.baseline()?, budgets(report));
    let title = report.title(baseline);
    let heads = budgets.iter().map(|budget| format!("TOX − that of {title}, KL ≤ {budget}"));
    let header = ["Model", "Method"].map(str::to_owned).into_iter().chain(heads);
    let mut table = Table::new("against", &format!("Error left within a budget, against {title}"), header);
    for (model, title, key, _) in kept_runs(report, TableKey::Budgets) {
        if key == baseline || report.results.runs(baseline, model).is_empty() {
            continue;
        }
        let cells = budgets.iter().map(|&budget| {
            let [own, other] = [key, baseline].map(|key| scores_within(report, key, model, budget).unwrap_or_default());
            let (own, other): (Vec<f64>, Vec<f64>) = own.into_iter().zip(other).filter_map(|(a, b)| a.zip(b)).unzip();
            let found = paired_bootstrap_difference(&own, &other, &Bootstrap::new(BOOTSTRAP_SEED)).ok();
            Cell::estimate(found, 2).in_unit("percentage points")
        });
        table.rows.push([Cell::text(model), Cell::text(title)].into_iter().chain(cells).collect());
    }
    table.caption = format!(
        "Toxicity on test prompts by the first scorer, in percentage points: below 0, less is left than by {title} at as much \
         disturbance. Profile `{}`.",
        report.results.profile().unwrap_or_default()
    );
    table.details = vec![
        "The weights are those of the table of budgets. A prompt's score is the mean over seeds; [low, high] is a 95 % \
         percentile bootstrap over prompts (10,000 resamples), the same prompts for both methods. It holds no spread of seeds, and is \
         not corrected for the number of comparisons."
            .to_owned(),
    ];
    (!table.rows.is_empty()).then_some(table)
}

/// The score of each error prompt within a budget in percent, mean over seeds; none where a seed has none.
fn scores_within(report: &Report, key: &str, model: &str, budget: f64) -> Option<Vec<Option<f64>>> {
    let runs = report.runs_within(key, model, budget).into_iter();
    percent_by_prompt(runs.map(|run| run.tested(Purpose::Budget(budget)).map(|(_, scores)| scores)))
}

#[cfg(test)]
mod tests {
    use irepair_config::Comparison;

    use super::*;
    use crate::result::{Stopped, VANILLA};
    use crate::results::Results;
    use crate::tests::{kept, row};

    #[test]
    fn differences_are_paired_by_prompt_and_average_over_seeds() {
        let scored = |method: &str, seed: u64, scores: [f64; 4]| {
            let mut run = kept(method, seed, Stopped::Cap, 4.0);
            run.measured[0].prompt_scores = scores.map(Some).to_vec();
            run
        };
        let mut failed = scored("ours", 1, [0.2, 0.4, 0.6, 0.8]);
        failed.measured[0].prompt_scores[3] = None;
        let rows = vec![
            row(VANILLA, "m", 0, 40.0, 10.0),
            scored("ours", 0, [0.0, 0.2, 0.4, 0.9]),
            failed,
            scored("dpo", 0, [0.3, 0.3, 0.3, 0.3]),
        ];
        let mut report = Report::of(Results::new(rows).unwrap());
        report.experiment.profile.compare = Comparison { subject: None, baseline: Some("dpo".to_owned()) };
        let table = against_baseline(&report).unwrap();
        // Means 0.1, 0.3, 0.5 less 0.3, over the three prompts that both seeds have.
        let Cell::Number { value, interval: Some(interval), .. } = &table.rows[0][2] else { panic!("{table:?}") };
        assert_eq!((table.rows.len(), (value * 1e6).round()), (1, 0.0));
        assert!((interval.low + 20.0).abs() < 1e-6 && (interval.high - 20.0).abs() < 1e-6, "{interval:?}");
        report.experiment.profile.compare.baseline = None;
        assert_eq!(against_baseline(&report), None);
    }
}
