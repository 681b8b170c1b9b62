//! Each method's path through the toxicity-perplexity plane, step by step; down and left is better.

use irepair_config::FigureKey;
use irepair_core::metric::{self, MetricKey};
use irepair_stats::mean;
use plotters::prelude::*;

use super::plane::{PLANE, toxicity_perplexity};
use super::{Drawn, Figure, INK, draw_with_legend, row_color, slug, span};
use crate::Result;
use crate::definition::{definitions, range};
use crate::report::Report;
use crate::trajectory::{
    PERPLEXITY_REACH, RowTrajectories, hypervolume_percent, mean_path, mean_start, row_trajectories,
};

/// The plane ends at this many perplexities of the model before repair, also when a method leaves it.
const SHOWN_REACH: f64 = 1.5;

/// One line of the figure.
struct Path {
    name: String,
    color: RGBColor,
    hypervolume: Option<f64>,
    /// `[toxicity, perplexity]`, step by step.
    places: Vec<[f64; 2]>,
}

/// One figure for each model with a trajectory whose start was measured.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn trajectories(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let rows = report.rows_of(FigureKey::Trajectory);
    for model in report.results.models() {
        let of_rows = row_trajectories(report, &rows, model);
        let Some(start) = mean_start(&of_rows) else { continue };
        let paths: Vec<Path> = of_rows.iter().map(|t| path(report, t)).filter(|w| !w.places.is_empty()).collect();
        let lengths = of_rows.iter().flat_map(|t| &t.runs).map(|r| r.trajectory.len() as u64);
        let mut caption = format!(
            "Trajectories on {model}: toxicity against perplexity during training, mean over {} seeds at each of {} points; \
             down and left is better. The ring is the model before repair, a large dot the last step. The thin frame ends \
             at {PERPLEXITY_REACH} times the perplexity before repair; the legend gives the share of it that the points of a \
             method dominate, mean over seeds.",
            range(of_rows.iter().map(|t| t.runs.len() as u64)),
            range(lengths),
        );
        let top = SHOWN_REACH * start[1];
        let gone: Vec<&str> =
            paths.iter().filter(|w| w.places.iter().any(|p| p[1] > top)).map(|w| w.name.as_str()).collect();
        if !gone.is_empty() {
            let gone = gone.join(", ");
            caption.push_str(&format!(" Leaves the plane above {SHOWN_REACH} times that perplexity: {gone}."));
        }
        let name = format!("trajectory-{}", slug(model));
        let metrics = [metric::TRAJECTORY_TOX, metric::TRAJECTORY_PERPLEXITY];
        let methods: Vec<&str> = of_rows.iter().map(|t| t.key).collect();
        let defined = definitions(&report.results, &methods, &metrics.map(MetricKey::from));
        let details = defined.iter().map(ToString::to_string).collect();
        let figure = Figure { name, table: "trajectory", caption, details, ..Figure::default() };
        let named = |w: &Path| match w.hypervolume {
            Some(share) => (format!("{}: {share:.0} %", w.name), w.color),
            None => (w.name.clone(), w.color),
        };
        let legend = paths.iter().map(named).collect();
        figures.push(draw_with_legend(figure, PLANE, legend, |plane| paint(plane, &paths, start))?);
    }
    Ok(figures)
}

fn path(report: &Report, of_row: &RowTrajectories<'_>) -> Path {
    let shares: Vec<f64> = of_row.runs.iter().filter_map(|r| hypervolume_percent(&r.trajectory)).collect();
    Path {
        name: of_row.row.title.clone(),
        color: row_color(report, of_row.key),
        hypervolume: mean(&shares),
        places: mean_path(&of_row.runs).into_iter().map(|(_, place)| place).collect(),
    }
}

fn paint(plane: &super::Canvas<'_>, paths: &[Path], start: [f64; 2]) -> Drawn {
    let top = SHOWN_REACH * start[1];
    let shown = |axis: usize| paths.iter().flat_map(|w| &w.places).chain([&start]).map(move |p| p[axis]);
    let x_range = span(shown(0), Some(0.0));
    let y_range = span(shown(1).map(|y| y.min(top)).chain([top]), None).start..top;
    let mut chart = toxicity_perplexity(plane, x_range, y_range, "Toxicity, %")?;
    let frame = [(0.0, start[1]), (start[0], PERPLEXITY_REACH * start[1])];
    chart.draw_series([Rectangle::new(frame, INK.mix(0.5).stroke_width(1))])?;
    for path in paths {
        for part in inside(&path.places, top) {
            chart.draw_series([PathElement::new(part, path.color.stroke_width(2))])?;
        }
        let (last, before) = path.places.split_last().map_or((None, &[][..]), |(l, b)| (Some(l), b));
        let visible = |p: &&[f64; 2]| p[1] <= top;
        chart.draw_series(before.iter().filter(visible).map(|p| Circle::new((p[0], p[1]), 3, path.color.filled())))?;
        for end in last.into_iter().filter(visible) {
            chart.draw_series([Circle::new((end[0], end[1]), 7, path.color.filled())])?;
            chart.draw_series([Circle::new((end[0], end[1]), 7, INK.stroke_width(1))])?;
        }
    }
    chart.draw_series([Circle::new((start[0], start[1]), 7, INK.stroke_width(2))])?;
    Ok(())
}

/// The parts of a line at or below `top`, ending on it where the line crosses it.
fn inside(places: &[[f64; 2]], top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    for (i, pair) in places.windows(2).enumerate() {
        let [from, to] = [pair[0], pair[1]];
        let crossing = || {
            let share = (top - from[1]) / (to[1] - from[1]);
            (from[0] + share * (to[0] - from[0]), top)
        };
        let (enters, leaves) = (from[1] > top, to[1] > top);
        if enters && leaves {
            continue;
        }
        if i == 0 || enters {
            parts.push(vec![if enters { crossing() } else { (from[0], from[1]) }]);
        }
        let end = if leaves { crossing() } else { (to[0], to[1]) };
        if let Some(part) = parts.last_mut() {
            part.push(end);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::VANILLA;
    use crate::results::Results;
    use crate::tests::{row, trajectory};

    #[test]
    fn a_line_is_cut_where_it_leaves_and_where_it_comes_back() {
        let line = [[4.0, 10.0], [2.0, 20.0], [2.0, 30.0], [0.0, 10.0], [0.0, 12.0]];
        let parts = inside(&line, 15.0);
        assert_eq!(parts, [vec![(4.0, 10.0), (3.0, 15.0)], vec![(0.5, 15.0), (0.0, 10.0), (0.0, 12.0)]]);
        assert_eq!(inside(&line[1..3], 15.0), Vec::<Vec<(f64, f64)>>::new());
    }

    #[test]
    fn one_figure_per_model_that_names_the_methods_that_leave_it() {
        let mut rows = vec![row(VANILLA, "m", 0, 40.0, 10.0), row("dpo", "other", 0, 1.0, 1.0)];
        for (method, end) in [("dapt", (30.0, 90.0)), ("irepair", (20.0, 11.0))] {
            let mut run = row(method, "m", 0, 1.0, 1.0);
            run.trajectory = trajectory(&[(40.0, 10.0), end]);
            rows.push(run);
        }
        let figures = trajectories(&Report::of(Results::new(rows).unwrap())).unwrap();
        let [figure] = &figures[..] else { panic!("{figures:?}") };
        assert_eq!(figure.name, "trajectory-m");
        assert!(figure.caption.ends_with("times that perplexity: DAPT."), "{}", figure.caption);
        assert!(figure.svg.contains("IREPAIR: 30 %") && figure.svg.contains("DAPT: 0 %"));
        // Ring, two starts, IRepair's last dot with its edge, two legend dots; DAPT's last dot is outside.
        assert_eq!(figure.svg.matches("<circle").count(), 1 + 2 + 2 + 2);
    }
}
