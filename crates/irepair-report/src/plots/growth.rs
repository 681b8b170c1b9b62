//! Growth of a cost: each line divided by its first point, on logarithmic axes.

use plotters::prelude::*;

use super::{Drawn, Figure, GRID, INK, LABEL, color, draw_with_legend, text};
use crate::Result;

/// Height of the plane, legend not counted.
const PLANE: u32 = 340;

/// One thing that grows.
#[derive(Clone, Debug, PartialEq)]
pub struct GrowthLine {
    /// What grows.
    pub name: String,
    /// `(its value, the cost)`, all above 0.
    pub points: Vec<(f64, f64)>,
}

/// An SVG of every line divided by its first point; a thin line is linear growth.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub fn growth(lines: &[GrowthLine], what: &str) -> Result<String> {
    let caption = format!("Growth of {what}, each line over its first point; the thin line is linear.");
    let figure = Figure { name: "growth".into(), caption, ..Figure::default() };
    let relative: Vec<Vec<(f64, f64)>> = lines.iter().map(|l| over_first(&l.points)).collect();
    let legend = lines.iter().enumerate().map(|(i, line)| (line.name.clone(), color(i))).collect();
    Ok(draw_with_legend(figure, PLANE, legend, |plane| paint(plane, &relative, what))?.svg)
}

fn over_first(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some(&(x0, y0)) = points.first() else { return Vec::new() };
    points.iter().map(|(x, y)| (x / x0, y / y0)).collect()
}

fn paint(plane: &super::Canvas<'_>, lines: &[Vec<(f64, f64)>], what: &str) -> Drawn {
    let all = || lines.iter().flatten().copied();
    let right = all().map(|(x, _)| x).fold(2.0, f64::max) * 1.1;
    let top = all().map(|(_, y)| y).fold(right, f64::max) * 1.1;
    let bottom = all().map(|(_, y)| y).fold(1.0, f64::min) * 0.9;
    let mut chart = ChartBuilder::on(plane)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(56)
        .build_cartesian_2d((0.9..right).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(text(LABEL))
        .x_label_formatter(&doubled)
        .y_label_formatter(&doubled)
        .x_desc("times as much")
        .y_desc(format!("times the {what}"))
        .draw()?;
    chart.draw_series([PathElement::new(vec![(1.0, 1.0), (right, right)], INK.mix(0.4).stroke_width(1))])?;
    for (i, points) in lines.iter().enumerate() {
        chart.draw_series([PathElement::new(points.clone(), color(i).stroke_width(2))])?;
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, color(i).filled())))?;
    }
    Ok(())
}

/// Label of a logarithmic axis: only powers of two and of ten have one.
fn doubled(value: &f64) -> String {
    let whole = |power: f64| (power - power.round()).abs() < 1e-9;
    if whole(value.log2()) || (whole(value.log10()) && *value > 10.0) { format!("{value}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_starts_at_one() {
        assert_eq!(over_first(&[(2.0, 3.0), (4.0, 9.0)]), [(1.0, 1.0), (2.0, 3.0)]);
        let line = GrowthLine { name: "batch".into(), points: vec![(2.0, 3.0), (4.0, 9.0), (8.0, 20.0)] };
        let svg = growth(&[line], "seconds a step").unwrap();
        assert!(svg.contains("batch") && svg.contains("times the seconds a step"));
        assert_eq!([1.0, 2.0, 3.0, 0.5, 10.0, 100.0].map(|v| doubled(&v)), ["1", "2", "", "0.5", "", "100"]);
        // Three points and the legend's dot.
        assert_eq!(svg.matches("<circle").count(), 4);
    }
}
