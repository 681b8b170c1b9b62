//! A figure's plane with two linear axes.

use std::error::Error;
use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Canvas, GRID, INK, LABEL, text, ticks};

/// Height of the toxicity-perplexity plane, its axes included.
pub(super) const PLANE: u32 = 360;

/// One axis.
pub(super) struct Axis<'a> {
    pub(super) name: &'a str,
    pub(super) range: Range<f64>,
    /// Number of labels, about.
    pub(super) n_labels: usize,
    pub(super) label: Box<dyn Fn(&f64) -> String>,
    /// Grid lines at the labels.
    pub(super) has_grid: bool,
    /// Pixels for labels and name.
    pub(super) size: u32,
}

impl<'a> Axis<'a> {
    /// An axis with grid lines and [`ticks`] as labels.
    pub(super) fn new(name: &'a str, range: Range<f64>, n_labels: usize) -> Self {
        Self { name, label: Box::new(ticks(&range, n_labels)), range, n_labels, has_grid: true, size: 64 }
    }
}

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The plane of two axes, drawn.
pub(super) fn plane<'a, 'b>(
    canvas: &'a Canvas<'b>,
    x: &Axis<'_>,
    y: &Axis<'_>,
) -> Result<Plane<'a, 'b>, Box<dyn Error>> {
    let mut chart = ChartBuilder::on(canvas)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(y.size)
        .build_cartesian_2d(x.range.clone(), y.range.clone())?;
    let mut mesh = chart.configure_mesh();
    if !x.has_grid {
        mesh.disable_x_mesh();
    }
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(x.name)
        .y_desc(y.name)
        .x_labels(x.n_labels)
        .y_labels(y.n_labels)
        .x_label_formatter(&x.label)
        .y_label_formatter(&y.label)
        .axis_desc_style(text(LABEL))
        .label_style(text(LABEL))
        .draw()?;
    Ok(chart)
}

/// Toxicity from left to right, perplexity upwards.
pub(super) fn toxicity_perplexity<'a, 'b>(
    canvas: &'a Canvas<'b>,
    toxicity: Range<f64>,
    perplexity: Range<f64>,
    name: &str,
) -> Result<Plane<'a, 'b>, Box<dyn Error>> {
    plane(canvas, &Axis::new(name, toxicity, 7), &Axis::new("Perplexity", perplexity, 8))
}
