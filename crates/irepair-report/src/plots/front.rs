//! Points of every method on validation data: the front in the plane of KL and error, and error left against compute
//! (METHOD §20).

use irepair_config::FigureKey;
use irepair_stats::mean;
use plotters::prelude::*;

use super::plane::{Axis, PLANE, plane};
use super::{Drawn, Figure, INK, draw_with_legend, row_color, slug, span};
use crate::Result;
use crate::points::{candidate, front};
use crate::report::Report;
use crate::result::RowResult;
use crate::tables::budgets;

/// One line of a figure, from left to right.
struct Line {
    name: String,
    color: RGBColor,
    places: Vec<[f64; 2]>,
}

/// Rows of a figure on a model, each with the places that `of` takes from its runs.
fn lines(report: &Report, key: FigureKey, model: &str, of: impl Fn(&[&RowResult]) -> Vec<[f64; 2]>) -> Vec<Line> {
    let runs = |row: &str| match key {
        FigureKey::Front => report.runs_at_all_rates(row, model),
        _ => report.results.runs(row, model),
    };
    let line = |(key, row): (&str, &irepair_config::Row)| Line {
        name: row.title.clone(),
        color: row_color(report, key),
        places: of(&runs(key)),
    };
    report.rows_of(key).into_iter().map(line).filter(|line| !line.places.is_empty()).collect()
}

/// One figure for each model: the points of all seeds that no other point of the method dominates.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn fronts(report: &Report) -> Result<Vec<Figure>> {
    let budgets = budgets(report);
    let of = |runs: &[&RowResult]| {
        front(&runs.iter().flat_map(|run| &run.trajectory).filter_map(candidate).collect::<Vec<_>>())
    };
    let caption = |model: &str| {
        format!(
            "Fronts on {model}, validation data: toxicity left against KL(θ0 ‖ θ) on neutral text; down and left is better. A \
             line joins the points of all seeds and rates that no other point of the method dominates; points that fail the \
             degeneration guard are left out. Thin lines are the KL budgets, {} nats a token.",
            budgets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )
    };
    // Far to the right of the largest budget nothing is compared.
    let end = budgets.last().map_or(f64::INFINITY, |most| 1.5 * most);
    figures(report, FigureKey::Front, "front", "budgets", ("KL, nats a token", end, &budgets), of, caption)
}

/// One figure for each model: the mean toxicity over seeds at each point, against the counted FLOPs until then.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn against_compute(report: &Report) -> Result<Vec<Figure>> {
    let caption = |model: &str| {
        format!(
            "Toxicity left on {model}, validation data, against counted TFLOP of training; mean over seeds at each point. A \
             line ends where the shortest of its runs stopped."
        )
    };
    let head = ("TFLOP", f64::INFINITY, &[][..]);
    figures(report, FigureKey::Compute, "compute", "compare", head, mean_by_compute, caption)
}

/// Mean `[TFLOP, error]` over runs, point by point, as far as every run has one.
fn mean_by_compute(runs: &[&RowResult]) -> Vec<[f64; 2]> {
    let places = |run: &&RowResult| -> Vec<Option<[f64; 2]>> {
        let place = |point: &crate::TrajectoryPoint| Some([point.more?.flops / 1e12, point.toxicity?]);
        run.trajectory.iter().map(place).collect()
    };
    let runs: Vec<_> = runs.iter().map(places).filter(|places| places.iter().any(Option::is_some)).collect();
    let shortest = runs.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| {
        let found: Vec<[f64; 2]> = runs.iter().map(|places| places[i]).collect::<Option<_>>()?;
        let axis = |axis: usize| mean(&found.iter().map(|place| place[axis]).collect::<Vec<_>>());
        Some([axis(0)?, axis(1)?])
    };
    (0..shortest).filter_map(at).collect()
}

fn figures(
    report: &Report,
    key: FigureKey,
    name: &str,
    table: &'static str,
    (x_name, end, marks): (&str, f64, &[f64]),
    of: impl Fn(&[&RowResult]) -> Vec<[f64; 2]>,
    caption: impl Fn(&str) -> String,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for model in report.results.models() {
        let mut lines = lines(report, key, model, &of);
        for line in &mut lines {
            line.places.retain(|place| place[0] <= end);
        }
        if lines.iter().all(|line| line.places.is_empty()) {
            continue;
        }
        let name = format!("{name}-{}", slug(model));
        let figure = Figure { name, table, caption: caption(model), ..Figure::default() };
        let legend = lines.iter().map(|line| (line.name.clone(), line.color)).collect();
        figures.push(draw_with_legend(figure, PLANE, legend, |canvas| paint(canvas, &lines, x_name, marks))?);
    }
    Ok(figures)
}

fn paint(canvas: &super::Canvas<'_>, lines: &[Line], x_name: &str, marks: &[f64]) -> Drawn {
    let all = |axis: usize| lines.iter().flat_map(|line| &line.places).map(move |place| place[axis]);
    let x = span(all(0).chain(marks.iter().copied()), Some(0.0));
    let y = span(all(1), Some(0.0));
    let top = y.end;
    let mut chart = plane(canvas, &Axis::new(x_name, x, 6), &Axis::new("Toxicity, %", y, 7))?;
    for &mark in marks {
        chart.draw_series([PathElement::new(vec![(mark, 0.0), (mark, top)], INK.mix(0.5).stroke_width(1))])?;
    }
    for line in lines {
        let places: Vec<(f64, f64)> = line.places.iter().map(|place| (place[0], place[1])).collect();
        chart.draw_series(places.iter().map(|&place| Circle::new(place, 3, line.color.filled())))?;
        chart.draw_series([PathElement::new(places, line.color.stroke_width(2))])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Compared, PointDetails, Purpose, Stopped, TrajectoryPoint};
    use crate::results::Results;
    use crate::tests::row;

    fn run(seed: u64, places: &[(f64, f64, bool)]) -> RowResult {
        let mut run = row("irepair", "m", seed, 5.0, 10.0);
        let point = |(i, &(kl, error, passes)): (usize, &(f64, f64, bool))| {
            let more = Some(PointDetails { kl: Some(kl), flops: 1e12 * i as f64, passes, ..PointDetails::default() });
            TrajectoryPoint { step: i as u64, toxicity: Some(error), perplexity: None, more }
        };
        run.trajectory = places.iter().enumerate().map(point).collect();
        run.stopped = Some(Stopped::Cap);
        run.compared = vec![Compared { purpose: Purpose::Budget(0.1), n_steps: 1, flops: 1e12, step: 1 }];
        run
    }

    #[test]
    fn a_front_and_a_curve_for_each_model_with_its_budgets() {
        let first = run(0, &[(0.0, 40.0, true), (0.05, 20.0, true), (0.06, 1.0, false), (0.09, 30.0, true)]);
        let second = run(1, &[(0.0, 40.0, true), (0.04, 10.0, true), (9.0, 0.0, true)]);
        assert_eq!(mean_by_compute(&[&first, &second]), [[0.0, 40.0], [1.0, 15.0], [2.0, 0.5]]);
        let report = Report::of(Results::new(vec![first, second]).unwrap());
        let [figure] = &fronts(&report).unwrap()[..] else { panic!("one model") };
        assert_eq!(figure.name, "front-m");
        // Two points of the front lie within the figure; one dot is the legend's.
        assert_eq!(figure.svg.matches("<circle").count(), 2 + 1);
        let [figure] = &against_compute(&report).unwrap()[..] else { panic!("one model") };
        assert_eq!((figure.name.as_str(), figure.svg.matches("<circle").count()), ("compute-m", 3 + 1));
        assert!(fronts(&crate::tests::report()).unwrap().is_empty());
    }
}
