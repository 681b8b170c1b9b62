//! The axes of the toxicity-perplexity plane.

use std::error::Error;
use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Canvas, GRID, INK, LABEL, text, ticks};

/// Height of the plane, its axes included.
pub(super) const PLANE: u32 = 360;
/// About so many numbers at its axes.
const N_LABELS: (usize, usize) = (7, 8);

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Toxicity from left to right, perplexity upwards.
pub(super) fn axes<'a, 'b>(
    canvas: &'a Canvas<'b>,
    toxicity: Range<f64>,
    perplexity: Range<f64>,
    name: &str,
) -> Result<Plane<'a, 'b>, Box<dyn Error>> {
    let (x_ticks, y_ticks) = (ticks(&toxicity, N_LABELS.0), ticks(&perplexity, N_LABELS.1));
    let mut chart = ChartBuilder::on(canvas)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(toxicity, perplexity)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(name)
        .y_desc("Perplexity")
        .x_labels(N_LABELS.0)
        .y_labels(N_LABELS.1)
        .x_label_formatter(&x_ticks)
        .y_label_formatter(&y_ticks)
        .axis_desc_style(text(LABEL))
        .label_style(text(LABEL))
        .draw()?;
    Ok(chart)
}
