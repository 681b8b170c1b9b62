//! Trajectories through the toxicity-perplexity plane: mean paths, and the dominated share of the plane.

use std::collections::BTreeMap;

use irepair_config::Row;
use irepair_stats::hypervolume;

use crate::report::Report;
use crate::result::{RowResult, TrajectoryPoint};

/// Perplexity of the reference point in perplexities of the model before repair. METHOD §16 \[O\].
pub(crate) const PERPLEXITY_REACH: f64 = 1.25;

/// The runs of one row on one model that have a trajectory.
pub(crate) struct RowTrajectories<'a> {
    pub(crate) key: &'a str,
    pub(crate) row: &'a Row,
    pub(crate) runs: Vec<&'a RowResult>,
}

/// Those of `rows` with a trajectory on this model.
pub(crate) fn row_trajectories<'a>(
    report: &'a Report,
    rows: &[(&'a str, &'a Row)],
    model: &str,
) -> Vec<RowTrajectories<'a>> {
    let with_runs = rows.iter().map(|&(key, row)| {
        let runs = report.results.runs(key, model).into_iter().filter(|r| !r.trajectory.is_empty()).collect();
        RowTrajectories { key, row, runs }
    });
    with_runs.filter(|t| !t.runs.is_empty()).collect()
}

/// `[toxicity, perplexity]` of a point; none unless both were measured and are finite.
pub(crate) fn place(point: &TrajectoryPoint) -> Option<[f64; 2]> {
    let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
    Some([finite(point.toxicity)?, finite(point.perplexity)?])
}

/// The start of a trajectory, which is the model before repair. None when step 0 is missing or was not measured.
pub(crate) fn start(trajectory: &[TrajectoryPoint]) -> Option<[f64; 2]> {
    trajectory.iter().find(|p| p.step == 0).and_then(place)
}

/// The mean start of all trajectories of a model, which start at the same weights.
pub(crate) fn mean_start(of_rows: &[RowTrajectories<'_>]) -> Option<[f64; 2]> {
    let starts: Vec<[f64; 2]> = of_rows.iter().flat_map(|t| &t.runs).filter_map(|r| start(&r.trajectory)).collect();
    (!starts.is_empty()).then(|| mean_place(&starts))
}

/// Mean over runs at each step, `(step, [toxicity, perplexity])`; at a step, over the runs measured there.
pub(crate) fn mean_path(runs: &[&RowResult]) -> Vec<(u64, [f64; 2])> {
    let mut by_step: BTreeMap<u64, Vec<[f64; 2]>> = BTreeMap::new();
    for point in runs.iter().flat_map(|r| &r.trajectory) {
        if let Some(at) = place(point) {
            by_step.entry(point.step).or_default().push(at);
        }
    }
    by_step.into_iter().map(|(step, places)| (step, mean_place(&places))).collect()
}

fn mean_place(places: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|axis| places.iter().map(|p| p[axis]).sum::<f64>() / places.len() as f64)
}

/// Share in percent of the rectangle between (0, P0) and (T0, 1.25 P0) that a trajectory dominates, where (T0, P0) is
/// its step 0. A perplexity below P0 counts as P0. None without a start, when the start leaves no rectangle, and when
/// any point was not measured.
///
/// # Source
/// METHOD §16 \[O\].
pub(crate) fn hypervolume_percent(trajectory: &[TrajectoryPoint]) -> Option<f64> {
    let [toxicity, perplexity] = start(trajectory)?;
    let reference = [toxicity, PERPLEXITY_REACH * perplexity];
    let whole = toxicity * (reference[1] - perplexity);
    let clipped = |point: &TrajectoryPoint| place(point).map(|[t, p]| [t.max(0.0), p.max(perplexity)]);
    let points: Option<Vec<[f64; 2]>> = trajectory.iter().map(clipped).collect();
    let dominated = hypervolume(&points?, reference).ok()?;
    Some(100.0 * dominated / whole).filter(|share| share.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{row, trajectory};

    #[test]
    fn the_dominated_share_by_hand() {
        // Reference (40, 12.5): 20 x 1.5 of 40 x 2.5.
        assert_eq!(hypervolume_percent(&trajectory(&[(40.0, 10.0), (20.0, 11.0)])), Some(30.0));
        // A second point further left adds its own rectangle, 10 x 0.5.
        let two = trajectory(&[(40.0, 10.0), (20.0, 11.0), (10.0, 12.0)]);
        assert_eq!(hypervolume_percent(&two), Some(35.0));
        // No better than no toxicity at the old perplexity.
        assert_eq!(hypervolume_percent(&trajectory(&[(40.0, 10.0), (0.0, 8.0)])), Some(100.0));
        // Staying, and leaving the rectangle upwards or to the right, dominates nothing.
        let lost = trajectory(&[(40.0, 10.0), (5.0, 12.5), (41.0, 10.0), (0.0, 99.0)]);
        assert_eq!(hypervolume_percent(&lost), Some(0.0));
    }

    #[test]
    fn a_point_that_was_not_measured_leaves_no_share() {
        let mut points = trajectory(&[(40.0, 10.0), (20.0, 11.0), (0.0, 10.0)]);
        points[2].perplexity = None;
        assert_eq!(hypervolume_percent(&points), None);
        assert_eq!(hypervolume_percent(&trajectory(&[(40.0, 10.0), (20.0, 11.0)])[1..]), None, "no start");
        assert_eq!(hypervolume_percent(&trajectory(&[(0.0, 10.0), (0.0, 10.0)])), None, "nothing to repair");
        assert_eq!(hypervolume_percent(&[]), None);
    }

    #[test]
    fn a_mean_path_takes_the_runs_measured_at_each_step() {
        let mut runs = [row("irepair", "m", 0, 1.0, 1.0), row("irepair", "m", 1, 1.0, 1.0)];
        runs[0].trajectory = trajectory(&[(40.0, 10.0), (20.0, 11.0)]);
        runs[1].trajectory = trajectory(&[(40.0, 10.0), (10.0, 13.0), (5.0, 14.0)]);
        let runs: Vec<&RowResult> = runs.iter().collect();
        assert_eq!(mean_path(&runs), [(0, [40.0, 10.0]), (10, [15.0, 12.0]), (20, [5.0, 14.0])]);
    }
}
