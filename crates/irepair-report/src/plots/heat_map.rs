//! Selected blocks at each step: blocks from bottom to top, steps from left to right.

use irepair_config::FigureKey;
use ndarray::Array2;
use plotters::prelude::*;

use super::plane::{Axis, plane};
use super::{Drawn, Figure, color, draw, slug};
use crate::Result;
use crate::report::Report;
use crate::result::RowResult;

/// With more steps than this, a column is several steps.
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
    let figure = Figure { name, table: "rq3", caption, ..Figure::default() };
    draw(figure, height, |canvas| paint(canvas, &shares(run, n_blocks, width), n_steps, width))
}

/// Share of the steps of each column that selected each block, blocks × columns.
fn shares(run: &RowResult, n_blocks: usize, width: usize) -> Array2<f64> {
    let columns = run.selected_steps.chunks(width);
    let mut shares = Array2::zeros((n_blocks, columns.len()));
    for (column, steps) in columns.enumerate() {
        for &block in steps.iter().flatten() {
            shares[[block, column]] += 1.0 / steps.len() as f64;
        }
    }
    shares
}

fn paint(canvas: &super::Canvas<'_>, shares: &Array2<f64>, n_steps: usize, width: usize) -> Drawn {
    let n_blocks = shares.nrows();
    let whole = || Box::new(|value: &f64| format!("{value:.0}"));
    let x = Axis { label: whole(), has_grid: false, ..Axis::new("Step", 0.0..n_steps as f64, 7) };
    let blocks = Axis::new("Block, from the embedding up", -0.5..n_blocks as f64 - 0.5, n_blocks.min(13));
    let mut chart = plane(canvas, &x, &Axis { label: whole(), size: 56, ..blocks })?;
    for (block, shares) in shares.rows().into_iter().enumerate() {
        let mut left = 0;
        // Neighbours with the same share are one rectangle, so that no seams show between them.
        for columns in shares.to_vec().chunk_by(|a, b| a == b) {
            let right = left + columns.len();
            let ends = [left, right].map(|column| (column * width).min(n_steps) as f64);
            let share = columns[0];
            if share > 0.0 {
                // Dark enough that a rare selection stays visible.
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
    use ndarray::array;

    use super::*;
    use crate::tests::row;

    #[test]
    fn a_column_is_the_share_of_its_steps() {
        let mut run = row("irepair", "m", 0, 1.0, 1.0);
        run.selected_steps = vec![vec![0], vec![1], vec![1], vec![0, 1], vec![1]];
        assert_eq!(shares(&run, 2, 2), array![[0.5, 0.5, 0.0], [0.5, 1.0, 1.0]]);
    }
}
