//! A dot with its interval for each thing compared, a line each: which is better, and by more than chance?

use irepair_stats::Estimate;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, Figure, GRID, INK, LABEL, color, draw_with_legend, text, ticks};
use crate::Result;

/// Height of a line of the plane, and of the rest of it.
const LINE: u32 = 26;
const REST: u32 = 76;
/// Where the names end and the plane begins.
const NAMES: u32 = 120;
/// Colours of the series.
const COLORS: [usize; 4] = [5, 6, 2, 4];

/// Estimates of one quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Dots {
    /// What they are of.
    pub caption: String,
    /// The quantity, at the axis.
    pub x: String,
    /// The axis.
    pub range: std::ops::Range<f64>,
    /// Kinds of estimates, each with the value that means nothing, drawn as a thin line.
    pub series: Vec<(String, Option<f64>)>,
    /// A line each, from above: its name, and an estimate of each kind where there is one.
    pub rows: Vec<(String, Vec<Option<Estimate>>)>,
}

/// An SVG of the estimates.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub fn dots(dots: &Dots) -> Result<String> {
    let figure = Figure { name: "dots".into(), caption: dots.caption.clone(), ..Figure::default() };
    let names = dots.series.iter().enumerate().map(|(i, (name, _))| (name.clone(), series_color(i))).collect();
    let height = dots.rows.len() as u32 * LINE + REST;
    Ok(draw_with_legend(figure, height, names, |plane| paint(plane, dots))?.svg)
}

fn series_color(i: usize) -> RGBColor {
    color(COLORS[i % COLORS.len()])
}

fn paint(plane: &super::Canvas<'_>, dots: &Dots) -> Drawn {
    let n = dots.rows.len() as f64;
    let mut chart = ChartBuilder::on(plane)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(dots.range.clone(), 0.0..n.max(1.0))?;
    let tick = ticks(&dots.range, 6);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(text(LABEL))
        .x_labels(6)
        .x_label_formatter(&|value| tick(value))
        .x_desc(dots.x.as_str())
        .draw()?;
    let area = chart.plotting_area();
    for (i, (_, nothing)) in dots.series.iter().enumerate() {
        let Some(x) = nothing else { continue };
        let line = PathElement::new([(*x, 0.0), (*x, n)], series_color(i).mix(0.6).stroke_width(1));
        area.draw(&line)?;
    }
    let name = text(LABEL).pos(Pos::new(HPos::Right, VPos::Center));
    let n_series = dots.series.len().max(1) as f64;
    for (row, (label, estimates)) in dots.rows.iter().enumerate() {
        let above = n - row as f64;
        let (_, y) = area.map_coordinate(&(dots.range.start, above - 0.5));
        plane.draw(&Text::new(label.clone(), (NAMES as i32 + 4, y), name.clone()))?;
        for (i, estimate) in estimates.iter().enumerate() {
            let Some(estimate) = estimate else { continue };
            // The first series is drawn above the others of its line.
            let y = above - (i as f64 + 0.5) / n_series * 0.8 - 0.1;
            let color = series_color(i);
            if let Some(at) = estimate.interval {
                area.draw(&PathElement::new([(at.low, y), (at.high, y)], color.stroke_width(2)))?;
            }
            area.draw(&Circle::new((estimate.value, y), 4, color.filled()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use irepair_stats::Interval;

    use super::*;

    #[test]
    fn every_estimate_is_a_dot_and_what_is_missing_is_none() {
        let at = |value: f64| {
            Some(Estimate { value, interval: Some(Interval { low: value - 0.1, high: value + 0.1 }), n: 9 })
        };
        let found = Dots {
            caption: "Two locators".into(),
            x: "average precision".into(),
            range: 0.0..1.0,
            series: vec![("blocks".into(), Some(0.25)), ("heads".into(), None)],
            rows: vec![("mask".into(), vec![at(0.9), at(0.8)]), ("patching".into(), vec![at(0.3), None])],
        };
        let svg = dots(&found).unwrap();
        // Three estimates and two dots of the legend.
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(svg.contains("patching") && svg.contains("average precision") && svg.contains("heads"), "{svg}");
        let (first, second) = (svg.find("mask").unwrap(), svg.find("patching").unwrap());
        assert!(first < second, "in the order that was given");
    }
}
