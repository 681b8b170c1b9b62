//! The one-file HTML page: tables, figures, samples masked until clicked. No network, no script.

use minijinja::{Environment, context};
use serde::Serialize;

use crate::Result;
use crate::plots::Figure;
use crate::report::Report;
use crate::result::{RowResult, Sample};
use crate::table::{Cell, MISSING, Table};

/// Samples shown for each method and model.
const MAX_SAMPLES: usize = 6;

/// The name ends in `.html`, which turns escaping on.
const TEMPLATE_NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");

#[derive(Serialize)]
struct PageTable<'a> {
    key: &'a str,
    title: &'a str,
    caption: &'a str,
    details: Vec<String>,
    header: Vec<PageCell>,
    rows: Vec<Vec<PageCell>>,
}

#[derive(Serialize)]
struct PageCell {
    text: String,
    class: &'static str,
}

#[derive(Serialize)]
struct PageFigure<'a> {
    caption: &'a str,
    svg: &'a str,
}

#[derive(Serialize)]
struct PageSamples<'a> {
    title: String,
    samples: &'a [Sample],
}

/// Fills in the page.
///
/// # Errors
/// [`crate::Error::Page`] when the template cannot be rendered.
pub(crate) fn render_page(report: &Report, tables: &[Table], figures: &[Figure]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template(TEMPLATE_NAME, TEMPLATE)?;
    let page = environment.get_template(TEMPLATE_NAME)?.render(context! {
        title => report.title,
        notes => report.notes,
        tables => tables.iter().map(page_table).collect::<Vec<_>>(),
        figures => figures.iter().map(|f| PageFigure { caption: &f.caption, svg: &f.svg }).collect::<Vec<_>>(),
        samples => samples(report),
    })?;
    Ok(page)
}

fn page_table(table: &Table) -> PageTable<'_> {
    let class = |column: usize| if table.is_numeric_column(column) { "number" } else { "" };
    let header = table.header.iter().enumerate().map(|(i, h)| PageCell { text: h.clone(), class: class(i) });
    let cell = |(column, cell): (usize, &Cell)| {
        let text = cell.to_string();
        let class = if text == MISSING { "missing" } else { class(column) };
        PageCell { text, class }
    };
    PageTable {
        key: &table.key,
        title: &table.title,
        caption: &table.caption,
        details: table.details.iter().cloned().chain(table.definitions.iter().map(ToString::to_string)).collect(),
        header: header.collect(),
        rows: table.rows.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect(),
    }
}

/// The first seed of every method and model that kept samples.
fn samples(report: &Report) -> Vec<PageSamples<'_>> {
    let results = &report.results;
    let first_run = |method, model| -> Option<&RowResult> { results.runs(method, model).first().copied() };
    let pairs = results.models().into_iter().flat_map(|model| results.methods().into_iter().map(move |m| (m, model)));
    pairs
        .filter_map(|(method, model)| first_run(method, model))
        .filter(|run| !run.samples.is_empty())
        .map(|run| PageSamples {
            title: format!("{}, {}, seed {}", run.title, run.model, run.seed),
            samples: &run.samples[..run.samples.len().min(MAX_SAMPLES)],
        })
        .collect()
}
