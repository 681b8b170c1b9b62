//! SVG figures: readable alone or in a page, on a light and on a dark background.

mod bars;
mod dots;
mod front;
mod growth;
mod heat_map;
mod pareto;
mod plane;
mod sensitivity;
mod trajectory;

pub(crate) use bars::{cost_bars, density_bars, sensitivity_bars};
pub use dots::{Dots, dots};
pub(crate) use front::{against_compute, fronts};
pub use growth::{GrowthLine, growth};
pub(crate) use heat_map::selection_heat_maps;
pub(crate) use pareto::pareto;
pub(crate) use sensitivity::sensitivity_heat_map;
pub(crate) use trajectory::trajectories;

use minijinja::HtmlEscape;
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde::Serialize;

use crate::report::Report;
use crate::{Error, Result};

/// One figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// File stem, such as `pareto-mean`.
    pub name: String,
    /// Key of the table it belongs to; a page shows it there, or in a section of its own without that table.
    pub table: &'static str,
    /// Content and data of the figure, for the page and for screen readers.
    pub caption: String,
    /// Definitions of its numbers, one paragraph each.
    pub details: Vec<String>,
    /// The SVG document.
    pub svg: String,
}

pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Width of every figure in pixels: narrow, so that text stays readable on a phone, which shows about 360 of them.
pub(crate) const WIDTH: u32 = 480;
/// Size of text at axes and in legends.
pub(crate) const LABEL: u32 = 15;
/// Legend entries in a row, and the height of a row.
const LEGEND_COLUMNS: usize = 2;
const LEGEND_ROW: u32 = 24;

/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x30, 0x3c);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xd9, 0xde, 0xe3);
/// The background.
const PAPER: RGBColor = RGBColor(0xfe, 0xfe, 0xfe);

/// Okabe and Ito's colours, which colour-blind readers can distinguish, in an order where neighbours differ most; then
/// more.
const PALETTE: [RGBColor; 12] = [
    RGBColor(0x7f, 0x7f, 0x7f),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x8a, 0x7a, 0x00),
    RGBColor(0x6a, 0x3d, 0x9a),
    RGBColor(0xb1, 0x59, 0x28),
    RGBColor(0x1b, 0xb5, 0xb5),
    RGBColor(0xfb, 0x6a, 0x8a),
];

/// Colour of the `i`-th thing.
pub(crate) fn color(i: usize) -> RGBColor {
    PALETTE[i % PALETTE.len()]
}

/// Colour of a row: the same in every figure.
pub(crate) fn row_color(report: &Report, method: &str) -> RGBColor {
    let drawn = report.rows(|key, row| !row.figures.is_empty() && report.results.has(key));
    color(drawn.iter().position(|(key, _)| *key == method).unwrap_or(0))
}

/// Text of a size in pixels.
pub(crate) fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Runs `paint` on a new canvas of [`WIDTH`] × `height` pixels and adds the SVG to the figure.
///
/// Colours are plain attributes on an opaque light background, which every viewer shows; a style sheet inside swaps
/// them where the reader prefers dark, except in print.
pub(crate) fn draw(figure: Figure, height: u32, paint: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<Figure> {
    let mut svg = String::new();
    let painted: Drawn = (|| {
        let canvas = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        canvas.fill(&PAPER)?;
        paint(&canvas)?;
        canvas.present()?;
        Ok(())
    })();
    painted.map_err(|e| Error::Plot { name: figure.name.clone(), why: e.to_string() })?;
    let head = format!(
        "<svg class=\"irepair-figure\" role=\"img\" aria-label=\"{}\" font-family=\"system-ui, sans-serif\" ",
        HtmlEscape(&figure.caption)
    );
    let svg = svg.replacen("<svg ", &head, 1);
    // The style goes right behind the root element's own tag.
    let svg = match svg.split_once('>') {
        Some((root, rest)) => format!("{root}>\n<desc>{}</desc>\n{DARK}{rest}", HtmlEscape(&figure.details.join(" "))),
        None => svg,
    };
    Ok(Figure { svg, ..figure })
}

/// [`draw`] with a legend under a plane of so many pixels, so that it never covers data.
pub(crate) fn draw_with_legend(
    figure: Figure,
    plane: u32,
    legend: Vec<(String, RGBColor)>,
    paint: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<Figure> {
    let wide = (WIDTH as usize - 40) / LEGEND_COLUMNS;
    draw(figure, plane + legend.len().div_ceil(LEGEND_COLUMNS) as u32 * LEGEND_ROW + 8, |canvas| {
        let (above, below) = canvas.split_vertically(plane);
        paint(&above)?;
        for (i, (name, color)) in legend.into_iter().enumerate() {
            let x = (40 + i % LEGEND_COLUMNS * wide) as i32;
            let y = (i / LEGEND_COLUMNS) as i32 * LEGEND_ROW as i32 + 10;
            below.draw(&Circle::new((x, y), 6, color.filled()))?;
            below.draw(&Text::new(name, (x + 14, y - 6), text(LABEL)))?;
        }
        Ok(())
    })
}

const DARK: &str = "<style>@media screen and (prefers-color-scheme: dark) {\
    .irepair-figure [fill=\"#FEFEFE\"] { fill: #14181d } .irepair-figure [fill=\"#22303C\"] { fill: #e6e9ec } \
    .irepair-figure [stroke=\"#22303C\"] { stroke: #e6e9ec } .irepair-figure [stroke=\"#D9DEE3\"] { stroke: #39424b } \
    .irepair-figure [fill=\"#D9DEE3\"] { fill: #39424b } }</style>";

/// How the numbers at an axis of about `n` labels are written: all with the digits that one of them needs.
pub(crate) fn ticks(range: &std::ops::Range<f64>, n: usize) -> impl Fn(&f64) -> String + use<> {
    let points = RangedCoordf64::from(range.clone()).key_points(n);
    let rounded = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let fits =
        |digits: &i32| points.iter().all(|&p| (rounded(p, *digits) - p).abs() < 1e-6 * (range.end - range.start));
    let digits = (0..6).find(fits).unwrap_or(6);
    // Adding 0 turns the negative zero into the other.
    move |value| format!("{:.*}", digits as usize, rounded(*value, digits) + 0.0).replace('-', "−")
}

/// A range that holds all values with a margin of 8 %, from `floor` when it is given.
pub(crate) fn span(values: impl Iterator<Item = f64>, floor: Option<f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        return 0.0..1.0;
    }
    let low = floor.map_or(low, |f| f.min(low));
    let margin = if high > low { 0.08 * (high - low) } else { high.abs().max(1.0) * 0.1 };
    let start = if floor == Some(low) { low } else { low - margin };
    start..high + margin
}

/// A name as part of a file name.
pub(crate) fn slug(name: &str) -> String {
    let dashed: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    dashed.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_one_value_or_none_is_not_empty() {
        for values in [&[][..], &[3.0], &[0.0], &[f64::NAN]] {
            let span = span(values.iter().copied(), None);
            assert!(span.start < span.end, "{values:?}: {span:?}");
        }
        assert_eq!(span([5.0, 10.0].into_iter(), Some(0.0)).start, 0.0);
    }

    #[test]
    fn a_figure_is_escaped_and_dark_aware() {
        let (name, caption) = ("t".to_owned(), "a < \"b\"".to_owned());
        let figure = Figure { name, table: "t", caption, details: vec!["p < q".to_owned()], svg: String::new() };
        let figure = draw(figure, 50, |c| Ok(c.draw(&Text::new("x<y & z", (5, 5), text(12)))?));
        let svg = figure.unwrap().svg;
        assert!(svg.contains("<desc>p &lt; q</desc>"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; &quot;b&quot;\""), "{svg}");
        assert!(svg.contains("x&lt;y &amp; z"), "{svg}");
        assert!(svg.contains("prefers-color-scheme: dark"));
        // The colours that the style sheet swaps are written as it spells them.
        assert!(svg.contains("\"#FEFEFE\"") && svg.contains("\"#22303C\""), "{svg}");
    }

    #[test]
    fn ticks_of_an_axis_have_the_same_digits() {
        let written = |range: std::ops::Range<f64>| {
            let write = ticks(&range, 6);
            RangedCoordf64::from(range).key_points(6).iter().map(write).collect::<Vec<_>>()
        };
        assert_eq!(written(0.0..1200.0), ["0", "500", "1000"]);
        assert_eq!(written(3.88..4.23), ["3.9", "4.0", "4.1"]);
        assert_eq!(written(-0.11..0.11), ["−0.10", "−0.05", "0.00", "0.05", "0.10"]);
    }

    #[test]
    fn a_slug_is_a_safe_file_name() {
        assert_eq!(slug("../GPT-2 XL/é"), "gpt-2-xl");
    }
}
