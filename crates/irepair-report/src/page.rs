//! The HTML page, one file: tables with their figures, samples hidden until opened. No network, no script.

use minijinja::{Environment, context};
use serde::Serialize;

use crate::Result;
use crate::plots::Figure;
use crate::report::Report;
use crate::result::{RowResult, Sample, VANILLA};
use crate::table::{Cell, Table};

/// Prompts shown for each model.
const MAX_SAMPLES: usize = 6;

/// Leading column whose equal neighbours become one heading over their rows.
const GROUPED: &str = "Model";

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
    groups: Vec<PageGroup>,
    figures: Vec<&'a Figure>,
}

/// Rows under one heading; it is empty where the table has no groups.
#[derive(Serialize)]
struct PageGroup {
    name: String,
    rows: Vec<Vec<PageCell>>,
}

#[derive(Serialize)]
struct PageCell {
    text: String,
    /// Interval and remark, smaller, on lines of their own.
    small: Vec<String>,
    class: &'static str,
}

#[derive(Serialize)]
struct PageSamples<'a> {
    model: &'a str,
    samples: Vec<PageSample<'a>>,
}

#[derive(Serialize)]
struct PageSample<'a> {
    prompt: &'a str,
    before: &'a str,
    /// Method with its seed, and its continuation.
    after: Vec<(String, &'a str)>,
}

/// Fills in the page.
///
/// # Errors
/// [`crate::Error::Page`] when the template cannot be rendered.
pub(crate) fn render_page(report: &Report, tables: &[Table], figures: &[Figure]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template(TEMPLATE_NAME, TEMPLATE)?;
    let alone = figures.iter().filter(|f| !tables.iter().any(|t| belongs(f, t)));
    let page = environment.get_template(TEMPLATE_NAME)?.render(context! {
        title => report.title,
        warning => report.warning,
        notes => report.notes,
        tables => tables.iter().map(|t| page_table(t, figures)).collect::<Vec<_>>(),
        figures => alone.collect::<Vec<_>>(),
        samples => samples(report),
    })?;
    Ok(page)
}

/// Whether a figure belongs to a table; a report's warning is a prefix of the keys of its tables.
fn belongs(figure: &Figure, table: &Table) -> bool {
    table.key == figure.table || table.key.ends_with(&format!("-{}", figure.table))
}

fn page_table<'a>(table: &'a Table, figures: &'a [Figure]) -> PageTable<'a> {
    let is_grouped = table.header.first().is_some_and(|h| h == GROUPED) && table.header.len() > 1;
    let n_grouped = usize::from(is_grouped);
    let cells = |row: &[Cell]| row.iter().enumerate().skip(n_grouped).map(|(i, c)| page_cell(table, i, c)).collect();
    let group = |rows: &[Vec<Cell>]| PageGroup {
        name: rows[0].first().filter(|_| is_grouped).map(ToString::to_string).unwrap_or_default(),
        rows: rows.iter().map(|row| cells(row)).collect(),
    };
    let header = table.header.iter().enumerate().skip(n_grouped);
    PageTable {
        key: &table.key,
        title: &table.title,
        caption: &table.caption,
        details: table.details.iter().cloned().chain(table.definitions.iter().map(ToString::to_string)).collect(),
        header: header
            .map(|(i, h)| PageCell { text: heading(h), small: Vec::new(), class: column_class(table, i) })
            .collect(),
        groups: table.rows.chunk_by(|a, b| !is_grouped || a[0] == b[0]).map(group).collect(),
        figures: figures.iter().filter(|f| belongs(f, table)).collect(),
    }
}

fn page_cell(table: &Table, column: usize, cell: &Cell) -> PageCell {
    let class = match (cell, column_class(table, column)) {
        (Cell::Missing, _) => "missing",
        (Cell::NotApplicable, "number" | "number paper") => "number nothing",
        (Cell::NotApplicable, _) => "nothing",
        (_, class) => class,
    };
    let (text, small) = match cell {
        Cell::Number { value, interval, digits, remark, .. } => {
            let number = |v: f64| format!("{v:.digits$}").replace('-', "−");
            let interval = interval.map(|i| format!("[{}, {}]", number(i.low), number(i.high)));
            (number(*value), interval.into_iter().chain([remark.clone()]).filter(|s| !s.is_empty()).collect())
        }
        _ => (cell.to_string(), Vec::new()),
    };
    PageCell { text, small, class }
}

/// A column's name; its unit and arrow do not break into a line of their own.
fn heading(words: &str) -> String {
    [" ↓", " ↑", " %"].iter().fold(words.to_owned(), |words, end| words.replace(end, &end.replace(' ', "\u{a0}")))
}

/// The class of a column; the paper's numbers have one of their own.
fn column_class(table: &Table, column: usize) -> &'static str {
    let has_number =
        || table.rows.iter().any(|row| matches!(row[column], Cell::Number { .. } | Cell::P(_) | Cell::Missing));
    match table.header[column].starts_with("paper") {
        true => "number paper",
        false if has_number() => "number",
        false => "",
    }
}

/// For each model, its first prompts with what the vanilla model and the first seed of every row wrote.
fn samples(report: &Report) -> Vec<PageSamples<'_>> {
    let results = &report.results;
    let methods = crate::tables::methods(&report.experiment.ordered());
    let of_model = |model| -> PageSamples<'_> {
        let runs: Vec<&RowResult> = methods
            .iter()
            .filter_map(|method| results.runs(method, model).first().copied())
            .filter(|run| !run.samples.is_empty())
            .collect();
        let mut shown: Vec<&Sample> = Vec::new();
        for sample in runs.iter().flat_map(|run| &run.samples) {
            if shown.len() < MAX_SAMPLES && shown.iter().all(|s| s.prompt != sample.prompt) {
                shown.push(sample);
            }
        }
        let after = |prompt: &str| -> Vec<(String, &str)> {
            let repaired = runs.iter().filter(|run| run.method() != VANILLA);
            let wrote = repaired.filter_map(|run| Some((run, run.samples.iter().find(|s| s.prompt == prompt)?)));
            wrote.map(|(run, s)| (format!("{}, seed {}", run.title, run.seed), s.after.as_str())).collect()
        };
        let samples = shown
            .into_iter()
            .map(|s| PageSample { prompt: &s.prompt, before: &s.before, after: after(&s.prompt) })
            .collect();
        PageSamples { model, samples }
    };
    results.models().into_iter().map(of_model).filter(|group| !group.samples.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_config::TableKey;

    use crate::results::Results;
    use crate::tests::{report, row, rows};

    #[test]
    fn models_are_headings_and_intervals_stand_apart() {
        let report = Report { warning: Some("NOT A RESULT".into()), ..report() };
        let table = report.table(TableKey::Rq1).unwrap();
        let figures = crate::plots::pareto(&report).unwrap();
        let page = page_table(&table, &figures);
        assert_eq!(
            page.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(),
            ["gpt2", "gpt-neo", "mean over models"]
        );
        assert_eq!((page.header[0].text.as_str(), page.header[3].class), ("Method", "number paper"));
        assert_eq!(page.figures.len(), 3, "figures find their table under a warning");
        let toxicity = &page.groups[1].rows[3][2];
        assert_eq!(
            (toxicity.text.as_str(), &toxicity.small[..]),
            ("7.20", &["[4.66, 9.74]", "2 of 3 seeds"].map(str::to_owned)[..])
        );
        assert_eq!(page.groups[0].rows[1][2].class, "missing");
        let headlines = report.table(TableKey::Headlines).unwrap();
        let ungrouped = page_table(&headlines, &[]).groups;
        assert_eq!((ungrouped.len(), ungrouped[0].name.as_str()), (1, ""));
    }

    #[test]
    fn a_prompt_stands_once_with_what_every_method_wrote() {
        let sample = |prompt: &str, after: &str| Sample {
            prompt: prompt.to_owned(),
            before: "rude".to_owned(),
            after: after.to_owned(),
        };
        let mut rows = rows();
        rows.push(row("random", "gpt2", 0, 1.0, 1.0));
        for row in &mut rows {
            row.samples = match (row.method(), row.model.as_str(), row.seed) {
                (VANILLA, "gpt2", _) => vec![sample("a", "rude")],
                ("dpo", "gpt2", 0) => vec![sample("a", "mild"), sample("b", "mild")],
                ("random", "gpt2", 0) => vec![sample("a", "odd")],
                ("irepair", "gpt2", 0) => vec![sample("b", "kind"), sample("a", "kind")],
                _ => Vec::new(),
            };
        }
        let report = Report { results: Results::new(rows).unwrap(), ..report() };
        let groups = samples(&report);
        let [group] = &groups[..] else { panic!("{} groups", groups.len()) };
        let wrote: Vec<_> = group.samples.iter().map(|s| (s.prompt, s.before, s.after.clone())).collect();
        let all = ["DPO mild", "RANDOM odd", "IREPAIR kind"].map(|words| words.split_once(' ').unwrap());
        let all = all.map(|(who, wrote)| (format!("{who}, seed 0"), wrote)).to_vec();
        let both = vec![all[0].clone(), all[2].clone()];
        assert_eq!((group.model, wrote), ("gpt2", vec![("a", "rude", all), ("b", "rude", both)]));
    }

    #[test]
    fn code_is_marked_and_everything_escaped() {
        let report = Report { notes: vec!["a `b<c>` & \"d\"".into()], ..Report::default() };
        let page = render_page(&report, &[], &[]).unwrap();
        assert!(page.contains("<li>a <code>b&lt;c&gt;</code> &amp; &quot;d&quot;</li>"), "{page}");
    }
}
