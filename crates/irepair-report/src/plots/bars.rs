//! Bar charts: sensitivity by block, error density by model, cost by method.

use irepair_config::{FigureKey, Row};
use irepair_stats::{TOP_SHARE, error_density, mean};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plane::{Axis, plane};
use super::{Drawn, Figure, LABEL, color, draw_with_legend, slug, span, text};
use crate::Result;
use crate::definition::{counted, provenance, range};
use crate::report::Report;
use crate::result::{Cost, SensitivityResult};
use crate::tables::{controls, cost_ratio, find_density, flops_per_step, methods, models, step_ms};

/// Height of the plane, its axes included.
const PLANE: u32 = 320;
/// About so many numbers at the axis.
const N_LABELS: usize = 8;
/// More groups than this are not all labelled.
const MAX_LABELS: usize = 13;

/// Bars in groups: one group per label, one bar per series; `None` is a missing bar, not one of height 0.
struct Groups {
    labels: Vec<String>,
    series: Vec<(String, RGBColor, Vec<Option<f64>>)>,
    x: &'static str,
    y: String,
}

/// Colours of the texts other than error text.
const CONTROL_COLORS: [usize; 3] = [1, 2, 4];

/// Sensitivity by block of each model, on error text and on every other text given.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn sensitivity_bars(sensitivities: &[SensitivityResult]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for error in sensitivities.iter().filter(|s| find_density(sensitivities, &s.model, "error") == Some(s)) {
        let relative = |s: &SensitivityResult| -> Vec<Option<f64>> {
            let mean = mean(&s.values).filter(|m| *m > 0.0);
            s.values.iter().map(|v| mean.map(|m| v / m)).collect()
        };
        let mut series = vec![("error text".to_owned(), color(5), relative(error))];
        for (text, color) in other_texts(sensitivities) {
            if let Some(control) = find_density(sensitivities, &error.model, text) {
                series.push((format!("{text} text"), color, relative(control)));
            }
        }
        let caption = format!(
            "Sensitivity by block of {}, in units of its mean over blocks ({}, {}, {} batches).",
            error.model, error.metric, error.reduction, error.n_batches
        );
        let labels = (0..error.values.len()).map(|b| b.to_string()).collect();
        let groups = Groups { labels, series, x: "Block, from the embedding up", y: "Sensitivity / mean".to_owned() };
        let name = format!("sensitivity-{}", slug(&error.model));
        figures.push(bars(Figure { name, table: "error-density", caption, ..Figure::default() }, &groups)?);
    }
    Ok(figures)
}

fn other_texts(sensitivities: &[SensitivityResult]) -> impl Iterator<Item = (&str, RGBColor)> {
    controls(sensitivities).into_iter().zip(CONTROL_COLORS.into_iter().cycle().map(color))
}

/// Error density D of each model, on error text and on every other text, and the paper's. None without sensitivities.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn density_bars(report: &Report) -> Result<Option<Figure>> {
    let sensitivities = &report.sensitivities;
    let with_error = |model: &&str| find_density(sensitivities, model, "error").is_some();
    let labels: Vec<String> = models(sensitivities).into_iter().filter(with_error).map(str::to_owned).collect();
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
    let paper = |model: &String| report.experiment.paper_model(model)?.density_percent;
    let paper = labels.iter().map(paper).collect();
    let mut series = vec![("error text".to_owned(), color(5), of("error"))];
    series.extend(other_texts(sensitivities).map(|(text, color)| (format!("{text} text"), color, of(text))));
    series.push(("paper".to_owned(), color(0), paper));
    series.retain(|(_, _, values)| values.iter().any(Option::is_some));
    let batches = sensitivities.iter().map(|s| s.n_batches);
    let caption = format!(
        "Error density D: by how much, in percent, the mean sensitivity of the top 20 % of blocks exceeds the rest's; one \
         estimate per model from {} batches. Only the difference from the other texts is specific to error text. The paper's \
         models are different ones.",
        range(batches)
    );
    let groups = Groups { labels, series, x: "Model", y: "D, %".to_owned() };
    let figure = Figure { name: "error-density".to_owned(), table: "error-density", caption, ..Figure::default() };
    bars(figure, &groups).map(Some)
}

/// Step time and counted FLOPs of each method in units of the baseline's, averaged over models. None without the
/// baseline's cost.
///
/// # Errors
/// `Plot` when the plot library refuses.
pub(crate) fn cost_bars(report: &Report) -> Result<Option<Figure>> {
    let (models, rows) = (report.results.models(), report.rows_of(FigureKey::Cost));
    let over_models = |key: &str, of: fn(&Cost) -> f64| -> Option<f64> {
        let ratios: Option<Vec<f64>> = models.iter().map(|m| cost_ratio(report, key, m, of)).collect();
        mean(&ratios?)
    };
    let shown: Vec<_> = methods(&rows)
        .into_iter()
        .map(|key| (key, (over_models(key, step_ms), over_models(key, flops_per_step))))
        .filter(|(_, (time, flops))| time.is_some() || flops.is_some())
        .collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let series = vec![
        ("step time".to_owned(), color(5), shown.iter().map(|(_, ratios)| ratios.0).collect()),
        ("counted FLOP".to_owned(), color(6), shown.iter().map(|(_, ratios)| ratios.1).collect()),
    ];
    let unit = report.title(report.baseline().unwrap_or_default());
    let paper = |(_, row): &(&str, &Row)| {
        let time = report.experiment.paper_method(row)?.step_time?;
        Some(format!("; the paper's {} takes {time:.2} of {unit}'s time", row.title))
    };
    let caption = format!(
        "Cost of one step in {unit} steps, mean over {}{}. {}",
        counted(models.len(), "model"),
        rows.iter().filter_map(paper).collect::<String>(),
        provenance(&report.results, &methods(&rows), &[])
    );
    let labels = shown.iter().map(|(key, _)| report.title(key).to_owned()).collect();
    let groups = Groups { labels, series, x: "", y: format!("{unit} steps") };
    let details = vec![
        "Step time: median wall time of a step of a run, averaged over seeds. Counted FLOP: matrix multiplications of a \
         step, counted from shapes."
            .to_owned(),
    ];
    let name = "cost".to_owned();
    bars(Figure { name, table: "rq2", caption, details, ..Figure::default() }, &groups).map(Some)
}

fn bars(figure: Figure, groups: &Groups) -> Result<Figure> {
    let legend = groups.series.iter().map(|(name, color, _)| (name.clone(), *color)).collect();
    draw_with_legend(figure, PLANE, legend, |area| paint(area, groups))
}

fn paint(area: &super::Canvas<'_>, groups: &Groups) -> Drawn {
    let heights = groups.series.iter().flat_map(|(_, _, values)| values.iter().flatten().copied());
    let n = groups.labels.len();
    let y_range = span(heights, Some(0.0));
    let x = Axis { has_grid: false, ..Axis::new(groups.x, -0.5..n as f64 - 0.5, 0) };
    let mut chart = plane(area, &x, &Axis::new(&groups.y, y_range, N_LABELS))?;
    // Labels of our own: a name of two words takes two lines, and only some of many blocks are named.
    let centred = text(LABEL).pos(Pos::new(HPos::Center, VPos::Top));
    for (group, label) in groups.labels.iter().enumerate().step_by(n.div_ceil(MAX_LABELS).max(1)) {
        let (x, y) = chart.backend_coord(&(group as f64, 0.0));
        for (line, words) in label.splitn(2, ' ').enumerate() {
            area.draw(&Text::new(words.to_owned(), (x, y + 6 + 16 * line as i32), centred.clone()))?;
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{report, sensitivities};

    #[test]
    fn every_text_has_its_bars() {
        let mut all = sensitivities();
        let bars = |all: &[SensitivityResult]| {
            let mut figures = sensitivity_bars(all).unwrap();
            figures.extend(density_bars(&Report { sensitivities: all.to_vec(), ..report() }).unwrap());
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
