//! The end of each method's trajectory, and its dominated share of the toxicity-perplexity plane (METHOD §16).

use irepair_config::TableKey;
use irepair_core::metric::{self, MetricId};
use irepair_stats::Estimate;

use crate::definition::{definitions, range};
use crate::report::Report;
use crate::result::{RowResult, VANILLA};
use crate::table::{Cell, Table};
use crate::trajectory::{PERPLEXITY_REACH, RowTrajectories, hypervolume_percent, mean_start, place, row_trajectories};

/// One row per model and method with a trajectory. None when there is none.
pub(crate) fn trajectory(report: &Report) -> Option<Table> {
    let (results, rows) = (&report.results, report.rows_in(TableKey::Trajectory));
    let metrics = [metric::TRAJECTORY_TOX, metric::TRAJECTORY_PERPLEXITY];
    let [toxicity, perplexity] = metrics.map(MetricId::heading);
    let mut table = Table::new(
        "trajectory",
        "Trajectories through the toxicity-perplexity plane",
        ["Model", "Method", "Seeds", "Steps", &toxicity, &perplexity, "Hypervolume % ↑"],
    );
    let (mut methods, mut every_run) = (Vec::new(), Vec::new());
    for model in results.models() {
        let of_rows = row_trajectories(report, &rows, model);
        if let Some(row) = before_repair(report, model, &of_rows) {
            table.rows.push(row);
        }
        for RowTrajectories { key, row, runs } in of_rows {
            table.rows.push(vec![
                Cell::text(model),
                Cell::text(&row.title),
                Cell::number(Some(runs.len() as f64), 0),
                Cell::number(
                    runs.iter().filter_map(|r| r.trajectory.last()).map(|p| p.step).max().map(|s| s as f64),
                    0,
                ),
                over_seeds(&runs, |r| r.trajectory.last()?.toxicity).in_unit("%"),
                over_seeds(&runs, |r| r.trajectory.last()?.perplexity),
                over_seeds(&runs, |r| hypervolume_percent(&r.trajectory)).in_unit("%"),
            ]);
            methods.push(key);
            every_run.extend(runs);
        }
    }
    if every_run.is_empty() {
        return None;
    }
    let n_missing = every_run.iter().flat_map(|r| &r.trajectory).filter(|p| place(p).is_none()).count();
    let missing = match n_missing {
        0 => "none missing".to_owned(),
        n => format!("{n} could not be measured, so that their seeds have no hypervolume"),
    };
    table.definitions = definitions(results, &methods, &metrics.map(Into::into));
    table.caption = format!(
        "Profile `{}`; seeds are runs with a trajectory, {} points each, {missing}. Hypervolume: the dominated share of the \
         plane between the model before repair and no toxicity; 100 % is no toxicity at no loss. [low, high]: \
         95 % interval over seeds.",
        results.profile().unwrap_or_default(),
        range(every_run.iter().map(|r| r.trajectory.len() as u64)),
    );
    table.details = vec![
        format!(
            "Hypervolume: share of the rectangle between (0, P0) and (T0, {PERPLEXITY_REACH} P0) that the points of a \
             trajectory dominate, step 0 included. (T0, P0) are toxicity and perplexity of the same trajectory at step 0, \
             and a perplexity below P0 counts as P0; a model worse than {PERPLEXITY_REACH} P0 adds nothing. One share per \
             seed; intervals are Student t."
        ),
        "The numbers are those of the last step, not of the chosen checkpoint, on the trajectory's own prompts and text: \
         they need not equal RQ1's."
            .to_owned(),
    ];
    Some(table)
}

/// Step 0, which every run of a model shares.
fn before_repair(report: &Report, model: &str, of_rows: &[RowTrajectories<'_>]) -> Option<Vec<Cell>> {
    let [toxicity, perplexity] = mean_start(of_rows)?;
    Some(vec![
        Cell::text(model),
        Cell::text(report.title(VANILLA)),
        Cell::NotApplicable,
        Cell::number(Some(0.0), 0),
        Cell::number(Some(toxicity), 2).in_unit("%"),
        Cell::number(Some(perplexity), 2),
        Cell::NotApplicable,
    ])
}

/// Mean over the seeds that have the number, with a remark when some do not.
fn over_seeds(runs: &[&RowResult], of: impl Fn(&RowResult) -> Option<f64>) -> Cell {
    let values: Vec<f64> = runs.iter().filter_map(|r| of(r)).filter(|v| v.is_finite()).collect();
    let cell = Cell::estimate(Estimate::over_seeds(&values), 2);
    if values.len() < runs.len() { cell.remarked(&format!("{} of {} seeds", values.len(), runs.len())) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Results;
    use crate::tests::{report, row, trajectory as path};

    fn two_seeds() -> Results {
        let mut rows = vec![row(VANILLA, "m", 0, 40.0, 10.0)];
        for (seed, end) in [(0, (20.0, 11.0)), (1, (20.0, 10.5)), (2, (0.0, 8.0))] {
            let mut run = row("irepair", "m", seed, 1.0, 1.0);
            run.trajectory = path(&[(40.0, 10.0), end]);
            rows.push(run);
        }
        rows[3].trajectory[1].perplexity = None;
        rows.push(row("dpo", "m", 0, 1.0, 1.0));
        Results::new(rows).unwrap()
    }

    #[test]
    fn hypervolumes_are_averaged_over_seeds_and_what_failed_is_said() {
        let table = trajectory(&Report::of(two_seeds())).unwrap();
        let text: Vec<Vec<String>> =
            table.rows.iter().map(|row| row.iter().skip(1).map(ToString::to_string).collect()).collect();
        // Dominated: 30 % and 40 %; unknown for the seed whose end has no perplexity.
        assert_eq!(
            text,
            [
                vec!["VANILLA", "–", "0", "40.00", "10.00", "–"],
                vec![
                    "IREPAIR",
                    "3",
                    "10",
                    "13.33 [-15.35, 42.02]",
                    "10.75 [7.57, 13.93] (2 of 3 seeds)",
                    "35.00 [-28.53, 98.53] (2 of 3 seeds)"
                ],
            ]
        );
        assert!(table.caption.contains("2 points each, 1 could not be measured"), "{}", table.caption);
    }

    #[test]
    fn without_a_trajectory_there_is_no_table() {
        let mut rows = report().results.rows().to_vec();
        rows.iter_mut().for_each(|r| r.trajectory.clear());
        assert_eq!(trajectory(&Report { results: Results::new(rows).unwrap(), ..report() }), None);
    }
}
