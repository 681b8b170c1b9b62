//! Sensitivity of every block: one heat map row for each text and metric.

use irepair_stats::{TOP_SHARE, error_density};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, Figure, INK, LABEL, WIDTH, color, draw, slug, text};
use crate::Result;
use crate::definition::range;
use crate::result::SensitivityResult;
use crate::tables::models;

/// Pixels of a row with its name, of its cells, and of the margin at both sides.
const ROW: i32 = 54;
const CELL: i32 = 22;
const MARGIN: i32 = 20;
/// More blocks than this are not all numbered.
const MAX_LABELS: usize = 13;

/// One figure for each model, with a row for each of its sensitivities.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn sensitivity_heat_map(sensitivities: &[SensitivityResult]) -> Result<Vec<Figure>> {
    models(sensitivities).into_iter().map(|model| heat_map(model, sensitivities)).collect()
}

fn heat_map(model: &str, sensitivities: &[SensitivityResult]) -> Result<Figure> {
    let rows: Vec<&SensitivityResult> = sensitivities.iter().filter(|s| s.model == model).collect();
    let caption = format!(
        "Sensitivity of each block of {model}, from the embedding up: the stronger the colour, the higher the share of the \
         highest block of its row. Framed are the blocks that error density counts as the top 20 %. {} batches each.",
        range(rows.iter().map(|s| s.n_batches))
    );
    let height = ROW as u32 * rows.len() as u32 + 44;
    let name = format!("sensitivity-map-{}", slug(model));
    draw(Figure { name, table: "error-density", caption, ..Figure::default() }, height, |canvas| {
        for (i, row) in rows.iter().enumerate() {
            paint(canvas, row, 12 + ROW * i as i32)?;
        }
        let n_blocks = rows.iter().map(|s| s.values.len()).max().unwrap_or(0);
        let centred = text(LABEL).pos(Pos::new(HPos::Center, VPos::Top));
        for block in (0..n_blocks).step_by(n_blocks.div_ceil(MAX_LABELS).max(1)) {
            let centre = (left(block, n_blocks) + left(block + 1, n_blocks)) / 2;
            canvas.draw(&Text::new(block.to_string(), (centre, 14 + ROW * rows.len() as i32), centred.clone()))?;
        }
        Ok(())
    })
}

fn paint(canvas: &super::Canvas<'_>, row: &SensitivityResult, top: i32) -> Drawn {
    let name = format!("{} text: {}, {}", row.text, row.metric, row.reduction);
    canvas.draw(&Text::new(name, (MARGIN, top), text(LABEL)))?;
    let n = row.values.len();
    let corners = |block: usize| [(left(block, n), top + 20), (left(block + 1, n) - 1, top + 20 + CELL)];
    let shares = shares(&row.values);
    for (block, share) in shares.iter().enumerate() {
        canvas.draw(&Rectangle::new(corners(block), color(5).mix(*share).filled()))?;
    }
    for block in top_blocks(&row.values) {
        canvas.draw(&Rectangle::new(corners(block), INK.stroke_width(2)))?;
    }
    Ok(())
}

/// Left edge of a block.
fn left(block: usize, n_blocks: usize) -> i32 {
    MARGIN + (block as f64 / n_blocks.max(1) as f64 * f64::from(WIDTH as i32 - 2 * MARGIN)).round() as i32
}

/// Each value as a share of the highest; 0 where all are.
fn shares(values: &[f64]) -> Vec<f64> {
    let highest = values.iter().copied().fold(0.0, f64::max);
    values.iter().map(|v| if highest > 0.0 { v / highest } else { 0.0 }).collect()
}

/// The blocks that error density counts as the top; ties go to the lower block. Empty where it is not defined.
fn top_blocks(values: &[f64]) -> Vec<usize> {
    let n_top = error_density(values, TOP_SHARE).map_or(0, |d| d.n_top);
    let mut blocks: Vec<usize> = (0..values.len()).collect();
    blocks.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    blocks.truncate(n_top);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sensitivities;

    #[test]
    fn colours_are_shares_of_the_highest_block_and_the_top_is_framed() {
        assert_eq!(shares(&[1.0, 4.0, 0.0]), [0.25, 1.0, 0.0]);
        assert_eq!(shares(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(top_blocks(&[1.0, 3.0, 3.0, 1.0, 1.0]), [1], "ties go to the lower block");
        assert_eq!(top_blocks(&[1.0; 3].map(|_| f64::NAN)), [0usize; 0]);
    }

    #[test]
    fn a_row_for_every_text_of_a_model() {
        let mut all = sensitivities();
        all.push(SensitivityResult { text: "chosen".into(), ..all[0].clone() });
        let figures = sensitivity_heat_map(&all).unwrap();
        let names: Vec<&str> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["sensitivity-map-gpt2", "sensitivity-map-gpt-neo"]);
        for (figure, n_rows) in figures.iter().zip([3, 2]) {
            assert_eq!(figure.svg.matches("text: grad_l2, norm_of_mean").count(), n_rows);
            // The background, five blocks and one frame a row.
            assert_eq!(figure.svg.matches("<rect").count(), 1 + 6 * n_rows);
        }
    }
}
