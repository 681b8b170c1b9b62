//! Bars: sensitivity by block, error density by model, cost by method.

use irepair_stats::{TOP_SHARE, error_density, mean};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, Figure, GRID, INK, LABEL, Label, color, draw, legend, legend_height, slug, span, text, ticks};
use crate::Result;
use crate::definition::{counted, range, whence};
use crate::paper::{self, RQ1_METHODS};
use crate::result::SensitivityResult;
use crate::results::Results;
use crate::tables::{controls, cost_ratio, find_density, flops_per_step, step_ms, title};

/// Height of the plane, its axes included.
const PLANE: u32 = 320;
/// About so many numbers at the axis.
const N_LABELS: usize = 8;
/// More groups than this are not all labelled.
const MAX_LABELS: usize = 13;

/// Bars in groups: one group per label, one bar per series; `None` is a bar that is missing, not one of no height.
struct Groups {
    labels: Vec<String>,
    series: Vec<(String, RGBColor, Vec<Option<f64>>)>,
    x: &'static str,
    y: &'static str,
}

/// Colours of the texts beside error text.
const CONTROL_COLORS: [usize; 3] = [1, 2, 4];

/// Sensitivity by block of each model, on error text and on every other text given.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub fn sensitivity_bars(sensitivities: &[SensitivityResult]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for error in sensitivities.iter().filter(|s| find_density(sensitivities, &s.model, "error") == Some(s)) {
        let relative = |s: &SensitivityResult| -> Vec<Option<f64>> {
            let mean = mean(&s.values).filter(|m| *m > 0.0);
            s.values.iter().map(|v| mean.map(|m| v / m)).collect()
        };
        let mut series = vec![("error text".to_owned(), color(5), relative(error))];
        for (text, color) in texts_beside_error(sensitivities) {
            if let Some(control) = find_density(sensitivities, &error.model, text) {
                series.push((format!("{text} text"), color, relative(control)));
            }
        }
        let caption = format!(
            "Sensitivity by block of {}, in units of its mean over blocks ({}, {}, {} batches).",
            error.model, error.metric, error.reduction, error.n_batches
        );
        let labels = (0..error.values.len()).map(|b| b.to_string()).collect();
        let groups = Groups { labels, series, x: "Block, from the embedding up", y: "Sensitivity / mean" };
        let name = format!("sensitivity-{}", slug(&error.model));
        figures.push(bars(Label { name, table: "error-density", caption, details: Vec::new() }, &groups)?);
    }
    Ok(figures)
}

fn texts_beside_error(sensitivities: &[SensitivityResult]) -> impl Iterator<Item = (&str, RGBColor)> {
    controls(sensitivities).into_iter().zip(CONTROL_COLORS.into_iter().cycle().map(color))
}

/// Error density D of each model, on error text and on every other text, beside the paper's. None without sensitivities.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub fn density_bars(sensitivities: &[SensitivityResult]) -> Result<Option<Figure>> {
    let mut labels: Vec<String> = Vec::new();
    for s in sensitivities.iter().filter(|s| find_density(sensitivities, &s.model, "error").is_some()) {
        if !labels.contains(&s.model) {
            labels.push(s.model.clone());
        }
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let of = |text: &str| -> Vec<Option<f64>> {
        let gain = |model: &String| {
            let s = find_density(sensitivities, model, text)?;
            error_density(&s.values, TOP_SHARE).ok().map(|d| d.gain_percent)
        };
        labels.iter().map(gain).collect()
    };
    let paper = labels.iter().map(|m| paper::column_for(m).map(paper::density_percent)).collect();
    let mut series = vec![("error text".to_owned(), color(5), of("error"))];
    series.extend(texts_beside_error(sensitivities).map(|(text, color)| (format!("{text} text"), color, of(text))));
    series.push(("paper".to_owned(), color(0), paper));
    series.retain(|(_, _, values)| values.iter().any(Option::is_some));
    let batches = sensitivities.iter().map(|s| s.n_batches);
    let caption = format!(
        "Error density D: by how much, in percent, the mean sensitivity of the top 20 % of blocks exceeds the rest's; one \
         estimate per model from {} batches. Error text stands out only as far as it exceeds the other texts. The paper's \
         models are other ones.",
        range(batches)
    );
    let groups = Groups { labels, series, x: "Model", y: "D, %" };
    bars(Label { name: "error-density".to_owned(), table: "error-density", caption, details: Vec::new() }, &groups)
        .map(Some)
}

/// Step time and counted FLOPs of each method in units of DPO's, averaged over models. None without DPO's cost.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub fn cost_bars(results: &Results) -> Result<Option<Figure>> {
    let models = results.models();
    let over_models = |method: &str, of| -> Option<f64> {
        let ratios: Option<Vec<f64>> = models.iter().map(|m| cost_ratio(results, method, m, of)).collect();
        mean(&ratios?)
    };
    let rows: Vec<_> = RQ1_METHODS
        .iter()
        .map(|(method, _)| (title(results, method), over_models(method, step_ms), over_models(method, flops_per_step)))
        .filter(|(_, time, flops)| time.is_some() || flops.is_some())
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let series = vec![
        ("step time".to_owned(), color(5), rows.iter().map(|r| r.1).collect()),
        ("counted FLOP".to_owned(), color(6), rows.iter().map(|r| r.2).collect()),
    ];
    let methods = RQ1_METHODS.map(|(method, _)| method);
    let caption = format!(
        "Cost of one step in DPO steps, mean over {}; the paper's IRepair takes {:.2} of DPO's time. {}",
        counted(models.len(), "model"),
        paper::IREPAIR_STEP_PER_DPO_STEP,
        whence(results, &methods, &[])
    );
    let labels = rows.into_iter().map(|r| r.0).collect();
    let groups = Groups { labels, series, x: "", y: "DPO steps" };
    let details = vec![
        "Step time: median wall time of a step of a run, averaged over seeds. Counted FLOP: matrix multiplications of a \
         step, counted from shapes."
            .to_owned(),
    ];
    bars(Label { name: "cost".to_owned(), table: "rq2", caption, details }, &groups).map(Some)
}

fn bars(label: Label, groups: &Groups) -> Result<Figure> {
    draw(label, PLANE + legend_height(groups.series.len()), |canvas| paint(canvas, groups))
}

fn paint(canvas: &super::Canvas<'_>, groups: &Groups) -> Drawn {
    let (plane, below) = canvas.split_vertically(PLANE);
    let heights = groups.series.iter().flat_map(|(_, _, values)| values.iter().flatten().copied());
    let n = groups.labels.len();
    let y_range = span(heights, Some(0.0));
    let mut chart = ChartBuilder::on(&plane)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(-0.5..n as f64 - 0.5, y_range.clone())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(0)
        .y_labels(N_LABELS)
        .y_label_formatter(&ticks(&y_range, N_LABELS))
        .x_desc(groups.x)
        .y_desc(groups.y)
        .axis_desc_style(text(LABEL))
        .label_style(text(LABEL))
        .draw()?;
    // Written by hand: a name of two words takes two lines, and of many blocks only some are named.
    let centred = text(LABEL).pos(Pos::new(HPos::Center, VPos::Top));
    for (group, label) in groups.labels.iter().enumerate().step_by(n.div_ceil(MAX_LABELS).max(1)) {
        let (x, y) = chart.backend_coord(&(group as f64, 0.0));
        for (line, words) in label.splitn(2, ' ').enumerate() {
            plane.draw(&Text::new(words.to_owned(), (x, y + 6 + 16 * line as i32), centred.clone()))?;
        }
    }
    let width = 0.8 / groups.series.len() as f64;
    for (i, (_, color, values)) in groups.series.iter().enumerate() {
        let bars = values.iter().enumerate().filter_map(|(group, height)| {
            let left = group as f64 - 0.4 + i as f64 * width;
            height.map(|h| Rectangle::new([(left, 0.0), (left + 0.92 * width, h)], color.filled()))
        });
        chart.draw_series(bars)?;
    }
    legend(&below, &groups.series.iter().map(|(name, color, _)| (name.clone(), *color)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sensitivities;

    #[test]
    fn every_text_has_its_bars_beside_those_of_error_text() {
        let mut all = sensitivities();
        let bars = |all: &[SensitivityResult]| {
            let mut figures = sensitivity_bars(all).unwrap();
            figures.extend(density_bars(all).unwrap());
            let named = |f: &Figure, text: &str| usize::from(f.svg.contains(&format!("{text} text\n")));
            let texts = |f: &Figure| ["error", "neutral", "chosen"].map(|text| named(f, text));
            figures.iter().map(|f| (f.name.clone(), texts(f))).collect::<Vec<_>>()
        };
        let names = ["sensitivity-gpt2", "sensitivity-gpt-neo", "error-density"].map(str::to_owned);
        let expected = |texts: [[usize; 3]; 3]| names.clone().into_iter().zip(texts).collect::<Vec<_>>();
        assert_eq!(bars(&all), expected([[1, 1, 0], [1, 1, 0], [1, 1, 0]]));
        all.push(SensitivityResult { text: "chosen".into(), ..all[0].clone() });
        assert_eq!(bars(&all), expected([[1, 1, 1], [1, 1, 0], [1, 1, 1]]), "one model has chosen text");
    }
}
