//! Error density: how much more sensitive the top 20 % of the blocks are (METHOD §4).

use irepair_stats::{
    ErrorDensity, TOP_SHARE, error_density as density, geometric_mean_ratio, pooled_gain_percent, spearman,
};

use super::PAPER;
use crate::definition::range;
use crate::report::Report;
use crate::result::SensitivityResult;
use crate::results::unique;
use crate::table::{Cell, Table};

/// The sensitivity the paper uses; H4 is computed from it alone.
const MAIN_METRIC: (&str, &str) = ("grad_l2", "norm_of_mean");

/// Text with the error; every other text is a control.
const ERROR: &str = "error";

/// Columns before those of the controls.
const FIXED: &str = "Model | Sensitivity | Text | Batches | Top blocks | Top mean | Rest mean | D % | paper D % | Gini | \
                     Top share of squares";

/// Density of each model by metric, reduction and text, then pooled over models; on error text also the difference from
/// the density of each other text, such as `neutral`. None without sensitivities.
pub(crate) fn error_density(report: &Report) -> Option<Table> {
    let (sensitivities, experiment) = (&report.sensitivities, &report.experiment);
    if sensitivities.is_empty() {
        return None;
    }
    let controls = controls(sensitivities);
    let compared = |control: &&str| [format!("D − D of {control}, points"), format!("Rank correlation with {control}")];
    let header = FIXED.split(" | ").map(str::to_owned).chain(controls.iter().flat_map(compared));
    let mut table = Table::new("error-density", "Error density: top 20 % of the blocks against the rest", header);
    for s in models(sensitivities).into_iter().flat_map(|m| sensitivities.iter().filter(move |s| s.model == m)) {
        let is_main = (s.metric.as_str(), s.reduction.as_str()) == MAIN_METRIC && s.text == ERROR;
        let paper = experiment.paper_model(&s.model).filter(|_| is_main).and_then(|model| model.density_percent);
        let d = density(&s.values, TOP_SHARE).ok();
        let top = d.map_or(Cell::Missing, |d| Cell::text(format!("{} of {}", d.n_top, s.values.len())));
        let mut row = vec![
            Cell::text(&s.model),
            Cell::text(format!("{}, {}", s.metric, s.reduction)),
            Cell::text(&s.text),
            Cell::number(Some(s.n_batches as f64), 0),
            top,
            Cell::number(d.map(|d| d.top_mean), 4),
            Cell::number(d.map(|d| d.rest_mean), 4),
            Cell::number(d.map(|d| d.gain_percent), 1).in_unit("%"),
            Cell::paper(paper, 1).in_unit("%"),
            Cell::number(d.map(|d| d.gini), 3),
            Cell::number(d.map(|d| d.top_share_of_squares), 3),
        ];
        for control in &controls {
            row.extend(against(s, sensitivities.iter().find(|c| same_but_text(c, s) && c.text == *control)));
        }
        table.rows.push(row);
    }
    let main = main(sensitivities);
    if main.len() > 1 {
        let geometric = geometric_mean_ratio(&main).map(|r| 100.0 * (r - 1.0));
        summary(&mut table, "pooled over models", pooled_gain_percent(&main), experiment.paper.pooled_density_percent);
        summary(&mut table, "geometric mean over models", geometric, None);
    }
    let compared = if controls.is_empty() {
        "No other text was measured, so that the density may not be specific to the error.".to_owned()
    } else {
        format!(
            "The other texts ({}) are controls of the same model: a D of error text no higher than theirs, or a rank \
             correlation near 1, means that the density is not specific to the error.",
            controls.join(", ")
        )
    };
    table.caption = format!(
        "Profile `{}`; one estimate per model from {} batches, no interval. D: by how much, in percent, the mean \
         sensitivity of the top 20 % of blocks exceeds that of the rest. {compared}",
        sensitivities[0].profile,
        range(sensitivities.iter().map(|s| s.n_batches)),
    );
    table.details = vec![
        "D = 100 (mean sensitivity of the top floor(0.2 L) of L blocks / mean of the rest − 1), at least one block on top. \
         `norm_of_mean` is the norm of the gradient averaged over batches, `mean_of_norm` the average of the norms. The \
         pooled number adds models up and is dominated by the one with the largest raw gradients; D per model is the \
         honest one."
            .to_owned(),
        format!(
            "Summary rows and the paper's numbers are for {} with {} on error text; the exact method behind the paper's \
             pooled number is not known. {PAPER}",
            MAIN_METRIC.0, MAIN_METRIC.1
        ),
    ];
    Some(table)
}

/// Difference of densities in percentage points, and rank correlation; not applicable unless it is error text with this
/// control.
fn against(error: &SensitivityResult, control: Option<&SensitivityResult>) -> [Cell; 2] {
    let Some(control) = control.filter(|_| error.text == ERROR) else {
        return [Cell::NotApplicable, Cell::NotApplicable];
    };
    let d = |s: &SensitivityResult| density(&s.values, TOP_SHARE).ok().map(|d| d.gain_percent);
    let above = d(error).zip(d(control)).map(|(error, control)| error - control);
    [
        Cell::number(above, 1).in_unit("percentage points"),
        Cell::number(spearman(&error.values, &control.values).ok(), 2),
    ]
}

/// Names of the texts other than error text, in order of first appearance.
pub(crate) fn controls(sensitivities: &[SensitivityResult]) -> Vec<&str> {
    unique(sensitivities.iter().map(|s| s.text.as_str()).filter(|text| *text != ERROR))
}

/// Densities of the paper's sensitivity on error text, one per model.
pub(crate) fn main(sensitivities: &[SensitivityResult]) -> Vec<ErrorDensity> {
    let found = models(sensitivities).into_iter().filter_map(|m| find(sensitivities, m, ERROR));
    found.filter_map(|s| density(&s.values, TOP_SHARE).ok()).collect()
}

/// The paper's sensitivity of one model on one kind of text.
pub(crate) fn find<'a>(
    sensitivities: &'a [SensitivityResult],
    model: &str,
    text: &str,
) -> Option<&'a SensitivityResult> {
    let is_main = |s: &&SensitivityResult| (s.metric.as_str(), s.reduction.as_str()) == MAIN_METRIC;
    sensitivities.iter().filter(is_main).find(|s| s.model == model && s.text == text)
}

/// Models in order of first appearance.
pub(crate) fn models(sensitivities: &[SensitivityResult]) -> Vec<&str> {
    unique(sensitivities.iter().map(|s| s.model.as_str()))
}

fn same_but_text(a: &SensitivityResult, b: &SensitivityResult) -> bool {
    (&a.model, &a.metric, &a.reduction) == (&b.model, &b.metric, &b.reduction)
}

fn summary(table: &mut Table, name: &str, value: Option<f64>, paper: Option<f64>) {
    let mut row = vec![Cell::text(name), Cell::text(MAIN_METRIC.0), Cell::text(ERROR)];
    row.extend(std::iter::repeat_n(Cell::NotApplicable, 4));
    row.extend([Cell::number(value, 1), Cell::paper(paper, 1)].map(|c| c.in_unit("%")));
    row.extend(std::iter::repeat_n(Cell::NotApplicable, table.header.len() - row.len()));
    table.rows.push(row);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{report, sensitivities};

    #[test]
    fn every_other_text_is_a_control_of_error_text() {
        let mut all = sensitivities();
        let mut chosen = all[0].clone();
        chosen.text = "chosen".into();
        // The same order of blocks, half the density: top 2.5, rest 1.
        chosen.values[2] = 2.5;
        all.insert(4, chosen);
        let table = error_density(&Report { sensitivities: all, ..report() }).unwrap();
        let controls = [
            "D − D of neutral, points",
            "Rank correlation with neutral",
            "D − D of chosen, points",
            "Rank correlation with chosen",
        ];
        assert_eq!(table.header[11..], controls);
        let words = |row: usize| table.rows[row][11..].iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(words(0), ["233.3", "0.35", "150.0", "1.00"]);
        assert_eq!(words(2), ["–"; 4], "the third text of the first model: a control is compared with nothing");
        assert_eq!(words(3), ["833.3", "0.00", "–", "–"], "the second model has no chosen text");
    }

    #[test]
    fn without_a_control_the_caption_says_so() {
        let all: Vec<_> = sensitivities().into_iter().filter(|s| s.text == ERROR).collect();
        let table = error_density(&Report { sensitivities: all, ..report() }).unwrap();
        assert_eq!(table.header.len(), FIXED.split(" | ").count());
        assert!(table.caption.contains("No other text was measured"), "{}", table.caption);
    }
}
