//! The toxicity-perplexity plane: each method is a point with its intervals; down and left is better.

use irepair_config::FigureKey;
use irepair_core::metric::{self, MetricKey};
use irepair_stats::{Estimate, Interval};
use plotters::prelude::*;

use super::plane::{PLANE, toxicity_perplexity};
use super::{Drawn, Figure, INK, draw_with_legend, row_color, slug, span};
use crate::Result;
use crate::definition::{definitions, provenance};
use crate::report::Report;
use crate::results::Over;
use crate::tables::methods;

struct Point {
    name: String,
    color: RGBColor,
    toxicity: Estimate,
    perplexity: Estimate,
}

/// One figure for each model and one for the mean. A method without both numbers is not drawn; the caption names it.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn pareto(report: &Report) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (results, rows) = (&report.results, report.rows_of(FigureKey::Pareto));
    let methods = methods(&rows);
    let defined = definitions(results, &methods, &[metric::TOX, metric::TOKEN_PERPLEXITY].map(MetricKey::from));
    let details: Vec<String> = defined.iter().map(ToString::to_string).collect();
    for over in results.each_model_and_mean() {
        let (mut points, mut missing) = (Vec::new(), Vec::new());
        for (key, row) in &rows {
            let of = |metric| results.estimate(key, over, metric);
            let name = row.title.clone();
            match of(metric::TOX).zip(of(metric::TOKEN_PERPLEXITY)) {
                Some((toxicity, perplexity)) => {
                    points.push(Point { name, color: row_color(report, key), toxicity, perplexity });
                }
                None => missing.push(name),
            }
        }
        if points.is_empty() {
            continue;
        }
        let mut caption = format!(
            "Toxicity against perplexity, {over}; down and left is better. Whiskers are 95 % intervals: Student t over \
             seeds; bootstrap over prompts for the toxicity of a single run. {}",
            provenance(results, &methods, &defined)
        );
        if !missing.is_empty() {
            caption.push_str(&format!(" Missing: {}.", missing.join(", ")));
        }
        let name = match over {
            Over::Model(model) => format!("pareto-{}", slug(model)),
            Over::Models => "pareto-mean".to_owned(),
        };
        let figure = Figure { name, table: "rq1", caption, details: details.clone(), ..Figure::default() };
        let legend = points.iter().map(|p| (p.name.clone(), p.color)).collect();
        figures.push(draw_with_legend(figure, PLANE, legend, |plane| paint(plane, &points))?);
    }
    Ok(figures)
}

fn paint(plane: &super::Canvas<'_>, points: &[Point]) -> Drawn {
    let ends = |e: &Estimate| e.interval.unwrap_or(Interval { low: e.value, high: e.value });
    let values =
        |of: fn(&Point) -> Estimate| points.iter().map(of).flat_map(move |e| [ends(&e).low, ends(&e).high, e.value]);
    let x_range = span(values(|p| p.toxicity), None);
    let y_range = span(values(|p| p.perplexity), None);
    let mut chart = toxicity_perplexity(plane, x_range, y_range, "Toxicity on error prompts, %")?;
    for p in points {
        let (x, y) = (p.toxicity.value, p.perplexity.value);
        let (across, up) = (ends(&p.toxicity), ends(&p.perplexity));
        let line = p.color.stroke_width(2);
        chart.draw_series([
            PathElement::new(vec![(across.low, y), (across.high, y)], line),
            PathElement::new(vec![(x, up.low), (x, up.high)], line),
        ])?;
        chart.draw_series([Circle::new((x, y), 7, p.color.filled())])?;
        chart.draw_series([Circle::new((x, y), 7, INK.stroke_width(1))])?;
    }
    Ok(())
}
