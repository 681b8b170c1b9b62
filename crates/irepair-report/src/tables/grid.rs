//! Tables with one line per model and row, described by lists of rows and columns.

use irepair_config::{Method, Row, TableKey};
use irepair_core::metric::{MetricId, MetricKey};
use irepair_stats::{Estimate, mean};

use super::cost::cost_ratio;
use super::methods;
use crate::definition::{definitions, provenance};
use crate::report::Report;
use crate::result::{Cost, VANILLA};
use crate::results::Over;
use crate::table::{Cell, Table};

/// One column: the content of its cells.
pub(super) enum Column {
    /// The row's title.
    Method,
    /// Its slice policy.
    Policy,
    /// `on` if it has a KL term.
    KlTerm,
    /// Its slice size.
    SliceSize,
    /// Number of seeds.
    Seeds,
    /// Its learning rates, chosen on validation data.
    LearningRate,
    /// A metric.
    Metric(MetricKey),
    /// The paper's value of a metric, of its counterpart of row and model.
    Paper(MetricId),
    /// The paper's mean over models, for our mean over models.
    PaperMean(MetricId),
    /// Heading, unit, digits and value of a cost, mean over seeds; with its interval when the flag is set.
    Cost(&'static str, &'static str, usize, bool, fn(&Cost) -> f64),
    /// Heading and value of a cost, in units of the baseline's.
    Ratio(&'static str, fn(&Cost) -> f64),
    /// The paper's step time in steps of the baseline.
    PaperStepTime,
}

impl From<MetricId> for Column {
    fn from(metric: MetricId) -> Self {
        Self::Metric(metric.into())
    }
}

/// One line: a row on a model or over all of them.
struct Line<'a> {
    report: &'a Report,
    key: &'a str,
    row: &'a Row,
    over: Over<'a>,
}

impl Column {
    /// True when it is measured by us.
    fn is_ours(&self) -> bool {
        matches!(self, Self::Seeds | Self::LearningRate | Self::Metric(_) | Self::Cost(..) | Self::Ratio(..))
    }

    fn heading(&self, report: &Report) -> String {
        match self {
            Self::Method => "Method".to_owned(),
            Self::Policy => "Policy".to_owned(),
            Self::KlTerm => "KL term".to_owned(),
            Self::SliceSize => "Slice".to_owned(),
            Self::Seeds => "Seeds".to_owned(),
            Self::LearningRate => "Learning rate".to_owned(),
            Self::Metric(key) => key.heading(),
            Self::Paper(_) | Self::PaperMean(_) | Self::PaperStepTime => "paper".to_owned(),
            Self::Cost(heading, ..) => (*heading).to_owned(),
            Self::Ratio(heading, _) => format!("{heading} × {}", report.title(report.baseline().unwrap_or_default())),
        }
    }

    fn cell(&self, line: &Line<'_>) -> Cell {
        let Line { report, key, row, over } = *line;
        let (experiment, results) = (&report.experiment, &report.results);
        let is_vanilla = row.repair.method == Some(Method::Vanilla);
        let repair = || experiment.profile.repair_of(row);
        match self {
            Self::Method => Cell::text(&row.title),
            Self::Policy if is_vanilla => Cell::text(format!("none ({})", row.title)),
            Self::Policy => Cell::text(repair().policy().to_string()),
            Self::KlTerm if is_vanilla => Cell::text("–"),
            Self::KlTerm => Cell::text(if repair().gamma() > 0.0 { "on" } else { "off" }),
            Self::SliceSize => Cell::text(repair().top_k().to_string()),
            Self::Seeds if key == VANILLA => Cell::NotApplicable,
            Self::Seeds => Cell::number(Some(results.seeds(key, over).len() as f64), 0),
            Self::LearningRate => learning_rate(line),
            Self::Metric(metric) => metric_cell(line, metric),
            Self::Paper(metric) => Cell::paper_metric(paper_value(line, *metric), *metric),
            Self::PaperMean(metric) => {
                let value = (over == Over::Models).then(|| paper_value(line, *metric)).flatten();
                Cell::paper_metric(value, *metric)
            }
            Self::Cost(_, unit, digits, with_interval, of) => {
                let by_seed = results.by_seed(key, over, |run| run.cost.as_ref().map(of)).values;
                match with_interval {
                    true => Cell::estimate(Estimate::over_seeds(&by_seed), *digits).in_unit(unit),
                    false => Cell::number(mean(&by_seed), *digits).in_unit(unit),
                }
            }
            Self::Ratio(_, of) => match over {
                Over::Model(model) => Cell::number(cost_ratio(report, key, model, *of), 2),
                Over::Models => Cell::NotApplicable,
            },
            Self::PaperStepTime => Cell::paper(experiment.paper_method(row).and_then(|method| method.step_time), 2),
        }
    }
}

/// The paper's value of a metric for a row's counterpart: on the model's counterpart, or the mean.
fn paper_value(line: &Line<'_>, metric: MetricId) -> Option<f64> {
    let method = line.report.experiment.paper_method(line.row)?;
    let values = match line.over {
        Over::Model(model) => method.models.get(&line.report.experiment.paper_model(model)?.name)?,
        Over::Models => &method.mean,
    };
    values.get(&metric.into()).copied()
}

/// A metric, with a remark when some of its seeds are missing.
fn metric_cell(line: &Line<'_>, metric: &MetricKey) -> Cell {
    let (results, definition) = (&line.report.results, metric.metric.definition());
    let by_seed = results.by_seed(line.key, line.over, |run| run.value(metric));
    let cell = Cell::estimate(results.estimate(line.key, line.over, metric), definition.digits);
    let cell = cell.in_unit(definition.unit);
    match by_seed.values.len() {
        n if n < by_seed.n_seeds => cell.remarked(&format!("{n} of {} seeds", by_seed.n_seeds)),
        _ => cell,
    }
}

fn learning_rate(line: &Line<'_>) -> Cell {
    let Over::Model(model) = line.over else { return Cell::NotApplicable };
    let runs = line.report.results.runs(line.key, model);
    let mut rates: Vec<String> = runs.iter().filter_map(|r| r.lr).map(|lr| format!("{lr:e}")).collect();
    rates.dedup();
    if rates.is_empty() { Cell::NotApplicable } else { Cell::text(rates.join(", ")) }
}

/// A table before it is filled in.
pub(super) struct Grid<'a> {
    pub(super) key: TableKey,
    pub(super) title: &'a str,
    pub(super) rows: Vec<(&'a str, &'a Row)>,
    /// Lines for the mean over models as well, when there are several; of a row that runs on some, the paper's
    /// numbers alone.
    pub(super) with_mean: bool,
    pub(super) columns: Vec<Column>,
    /// The caption after profile, seeds and counts.
    pub(super) caption: String,
    pub(super) details: Vec<String>,
}

impl Grid<'_> {
    /// Fills it in; none without rows.
    pub(super) fn table(self, report: &Report) -> Option<Table> {
        if self.rows.is_empty() {
            return None;
        }
        let headings = self.columns.iter().map(|column| column.heading(report));
        let header = std::iter::once("Model".to_owned()).chain(headings);
        let mut table = Table::new(&self.key.to_string(), self.title, header);
        let overs = report.results.each_model_and_mean().into_iter();
        for over in overs.filter(|over| self.with_mean || *over != Over::Models) {
            let models = report.results.models();
            let on_all = |row: &Row| models.iter().all(|model| row.runs_on(model));
            let is_of = |row: &Row| match over {
                Over::Model(model) => row.runs_on(model),
                Over::Models => on_all(row) || row.paper.is_some(),
            };
            for &(key, row) in self.rows.iter().filter(|(_, row)| is_of(row)) {
                let line = Line { report, key, row, over };
                let of_paper_alone = over == Over::Models && !on_all(row);
                let cells = self.columns.iter().map(|column| match column {
                    column if of_paper_alone && column.is_ours() => Cell::NotApplicable,
                    column => column.cell(&line),
                });
                table.rows.push(std::iter::once(Cell::text(over.to_string())).chain(cells).collect());
            }
        }
        let metric = |column: &Column| if let Column::Metric(key) = column { Some(key.clone()) } else { None };
        let metrics: Vec<MetricKey> = self.columns.iter().filter_map(metric).collect();
        let methods = methods(&self.rows);
        table.definitions = definitions(&report.results, &methods, &metrics);
        table.caption = format!("{} {}", provenance(&report.results, &methods, &table.definitions), self.caption);
        table.details = self.details;
        Some(table)
    }
}
