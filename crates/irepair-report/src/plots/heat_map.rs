//! Which block was selected when: blocks from bottom to top, steps from left to right.

use irepair_config::FigureKey;
use plotters::prelude::*;

use super::{Drawn, Figure, GRID, INK, LABEL, Label, color, draw, slug, text};
use crate::Result;
use crate::report::Report;
use crate::result::RowResult;

/// More steps than this are gathered into columns of several steps.
const MAX_COLUMNS: usize = 120;

/// A heat map for each row and model: its first run that recorded selections.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn selection_heat_maps(report: &Report) -> Result<Vec<Figure>> {
    let rows = report.rows_of(FigureKey::Selection).into_iter();
    let pairs = rows.flat_map(|(key, _)| report.results.models().into_iter().map(move |model| (key, model)));
    let chosen = |r: &&RowResult| r.selected_steps.iter().any(|blocks| !blocks.is_empty());
    pairs.filter_map(|(key, model)| report.results.runs(key, model).into_iter().find(chosen)).map(heat_map).collect()
}

fn heat_map(run: &RowResult) -> Result<Figure> {
    let n_steps = run.selected_steps.len();
    let highest = run.selected_steps.iter().flatten().max().map_or(0, |b| b + 1);
    let n_blocks = run.selection.len().max(highest);
    let width = n_steps.div_ceil(MAX_COLUMNS);
    let caption = format!(
        "Blocks selected by {} on {}, seed {}: a column is {width} step{}; the stronger the colour, the \
         larger the share of them that updated the block. {n_steps} steps, {n_blocks} blocks.",
        run.title,
        run.model,
        run.seed,
        if width == 1 { "" } else { "s" }
    );
    let name = format!("selection-{}", slug(&run.row));
    let height = 100 + (n_blocks as u32 * 18).clamp(160, 640);
    let label = Label { name, table: "rq3", caption, details: Vec::new() };
    draw(label, height, |canvas| paint(canvas, &shares(run, n_blocks, width), n_steps, width))
}

/// Share of the steps of each column that selected each block: `[column][block]`.
fn shares(run: &RowResult, n_blocks: usize, width: usize) -> Vec<Vec<f64>> {
    run.selected_steps
        .chunks(width)
        .map(|steps| {
            let mut share = vec![0.0; n_blocks];
            for &block in steps.iter().flatten() {
                share[block] += 1.0 / steps.len() as f64;
            }
            share
        })
        .collect()
}

fn paint(canvas: &super::Canvas<'_>, shares: &[Vec<f64>], n_steps: usize, width: usize) -> Drawn {
    let n_blocks = shares.first().map_or(0, Vec::len);
    let mut chart = ChartBuilder::on(canvas)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..n_steps as f64, -0.5..n_blocks as f64 - 0.5)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .y_labels(n_blocks.min(13))
        .y_label_formatter(&|block| format!("{block:.0}"))
        .x_labels(7)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .x_desc("Step")
        .y_desc("Block, from the embedding up")
        .axis_desc_style(text(LABEL))
        .label_style(text(LABEL))
        .draw()?;
    for block in 0..n_blocks {
        let mut left = 0;
        // Neighbours of one share are one rectangle, or seams would show between them.
        for columns in shares.chunk_by(|a, b| a[block] == b[block]) {
            let right = left + columns.len();
            let ends = [left, right].map(|column| (column * width).min(n_steps) as f64);
            let share = columns[0][block];
            if share > 0.0 {
                // Never so pale that a rare selection disappears.
                let shade = color(6).mix(0.2 + 0.8 * share.min(1.0)).filled();
                let corners = [(ends[0], block as f64 - 0.45), (ends[1], block as f64 + 0.45)];
                chart.draw_series([Rectangle::new(corners, shade)])?;
            }
            left = right;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::row;

    #[test]
    fn columns_share_out_their_steps() {
        let mut run = row("irepair", "m", 0, 1.0, 1.0);
        run.selected_steps = vec![vec![0], vec![1], vec![1], vec![0, 1], vec![1]];
        assert_eq!(shares(&run, 2, 2), [[0.5, 0.5], [0.5, 1.0], [0.0, 1.0]]);
    }
}
