//! The way of each method through the toxicity-perplexity plane, step by step; down and left is better.

use irepair_stats::mean;
use plotters::prelude::*;

use super::plane::{PLANE, axes};
use super::{Drawn, Figure, INK, Label, color, draw, legend, legend_height, slug, span};
use crate::Result;
use crate::definition::{definitions, range};
use crate::result::metric;
use crate::results::Results;
use crate::tables::title;
use crate::trajectory::{PERPLEXITY_REACH, Travelled, hypervolume_percent, mean_path, mean_start, travelled};

/// The plane shows at least this many perplexities of the model before repair, and no more when a method leaves it.
const SHOWN_REACH: f64 = 1.5;

struct Way {
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
pub fn trajectories(results: &Results) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for model in results.models() {
        let travelled = travelled(results, model);
        let Some(start) = mean_start(&travelled) else { continue };
        let ways: Vec<Way> = travelled.iter().map(|t| way(results, t)).filter(|w| !w.places.is_empty()).collect();
        let lengths = travelled.iter().flat_map(|t| &t.runs).map(|r| r.trajectory.len() as u64);
        let mut caption = format!(
            "Trajectories on {model}: toxicity against perplexity during training, mean over {} seeds at each of {} points; \
             down and left is better. The ring is the model before repair, a large dot the last step. The thin frame ends \
             at {PERPLEXITY_REACH} times the perplexity before repair; the legend says how much of it the points of a method \
             dominate, mean over seeds.",
            range(travelled.iter().map(|t| t.runs.len() as u64)),
            range(lengths),
        );
        let top = SHOWN_REACH * start[1];
        let gone: Vec<&str> =
            ways.iter().filter(|w| w.places.iter().any(|p| p[1] > top)).map(|w| w.name.as_str()).collect();
        if !gone.is_empty() {
            let gone = gone.join(", ");
            caption.push_str(&format!(" Leaves the plane above {SHOWN_REACH} times that perplexity: {gone}."));
        }
        let name = format!("trajectory-{}", slug(model));
        let methods: Vec<&str> = travelled.iter().map(|t| t.method).collect();
        let defined = definitions(results, &methods, &[metric::TRAJECTORY_TOX, metric::TRAJECTORY_PERPLEXITY]);
        let details = defined.iter().map(ToString::to_string).collect();
        let label = Label { name, table: "trajectory", caption, details };
        let height = PLANE + legend_height(ways.len());
        figures.push(draw(label, height, |canvas| paint(canvas, &ways, start))?);
    }
    Ok(figures)
}

fn way(results: &Results, travelled: &Travelled<'_>) -> Way {
    let shares: Vec<f64> = travelled.runs.iter().filter_map(|r| hypervolume_percent(&r.trajectory)).collect();
    Way {
        name: title(results, travelled.method),
        color: color(travelled.place),
        hypervolume: mean(&shares),
        places: mean_path(&travelled.runs).into_iter().map(|(_, place)| place).collect(),
    }
}

fn paint(canvas: &super::Canvas<'_>, ways: &[Way], start: [f64; 2]) -> Drawn {
    let (plane, below) = canvas.split_vertically(PLANE);
    let top = SHOWN_REACH * start[1];
    let shown = |axis: usize| ways.iter().flat_map(|w| &w.places).chain([&start]).map(move |p| p[axis]);
    let x_range = span(shown(0), Some(0.0));
    let y_range = span(shown(1).map(|y| y.min(top)).chain([top]), None).start..top;
    let mut chart = axes(&plane, x_range, y_range, "Toxicity, %")?;
    let frame = [(0.0, start[1]), (start[0], PERPLEXITY_REACH * start[1])];
    chart.draw_series([Rectangle::new(frame, INK.mix(0.5).stroke_width(1))])?;
    for way in ways {
        for piece in inside(&way.places, top) {
            chart.draw_series([PathElement::new(piece, way.color.stroke_width(2))])?;
        }
        let (last, before) = way.places.split_last().map_or((None, &[][..]), |(l, b)| (Some(l), b));
        let visible = |p: &&[f64; 2]| p[1] <= top;
        chart.draw_series(before.iter().filter(visible).map(|p| Circle::new((p[0], p[1]), 3, way.color.filled())))?;
        for end in last.into_iter().filter(visible) {
            chart.draw_series([Circle::new((end[0], end[1]), 7, way.color.filled())])?;
            chart.draw_series([Circle::new((end[0], end[1]), 7, INK.stroke_width(1))])?;
        }
    }
    chart.draw_series([Circle::new((start[0], start[1]), 7, INK.stroke_width(2))])?;
    let name = |w: &Way| match w.hypervolume {
        Some(share) => format!("{}: {share:.0} %", w.name),
        None => w.name.clone(),
    };
    legend(&below, &ways.iter().map(|w| (name(w), w.color)).collect::<Vec<_>>())
}

/// The pieces of a line at or below `top`, ending on it where the line crosses it.
fn inside(places: &[[f64; 2]], top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
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
            pieces.push(vec![if enters { crossing() } else { (from[0], from[1]) }]);
        }
        let end = if leaves { crossing() } else { (to[0], to[1]) };
        if let Some(piece) = pieces.last_mut() {
            piece.push(end);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::VANILLA;
    use crate::sample::{row, trajectory};

    #[test]
    fn a_line_is_cut_where_it_leaves_and_where_it_comes_back() {
        let line = [[4.0, 10.0], [2.0, 20.0], [2.0, 30.0], [0.0, 10.0], [0.0, 12.0]];
        let pieces = inside(&line, 15.0);
        assert_eq!(pieces, [vec![(4.0, 10.0), (3.0, 15.0)], vec![(0.5, 15.0), (0.0, 10.0), (0.0, 12.0)]]);
        assert_eq!(inside(&line[1..3], 15.0), Vec::<Vec<(f64, f64)>>::new());
    }

    #[test]
    fn one_figure_per_model_that_names_who_leaves_it() {
        let mut rows = vec![row(VANILLA, "m", 0, 40.0, 10.0), row("dpo", "other", 0, 1.0, 1.0)];
        for (method, end) in [("dapt", (30.0, 90.0)), ("irepair", (20.0, 11.0))] {
            let mut run = row(method, "m", 0, 1.0, 1.0);
            run.trajectory = trajectory(&[(40.0, 10.0), end]);
            rows.push(run);
        }
        let figures = trajectories(&Results::new(rows).unwrap()).unwrap();
        let [figure] = &figures[..] else { panic!("{figures:?}") };
        assert_eq!(figure.name, "trajectory-m");
        assert!(figure.caption.ends_with("times that perplexity: DAPT."), "{}", figure.caption);
        assert!(figure.svg.contains("IREPAIR: 30 %") && figure.svg.contains("DAPT: 0 %"));
        // Ring, two starts, IRepair's last dot with its edge, two legend dots; DAPT's last dot is outside.
        assert_eq!(figure.svg.matches("<circle").count(), 1 + 2 + 2 + 2);
    }
}
