//! The HTML page, one file: tables with their figures, samples hidden until opened. No network, no script.

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};

use crate::plots::Figure;
use crate::report::Report;
use crate::result::{RowResult, Sample, VANILLA};
use crate::table::{Cell, Table};
use crate::{Error, Result};

/// Prompts shown for each model.
const MAX_SAMPLES: usize = 6;

/// Leading column whose equal neighbours become one heading over their rows.
const GROUPED: &str = "Model";

/// The name ends in `.html`, which turns escaping on.
const TEMPLATE_NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");

/// Fills in the page.
///
/// # Errors
/// [`Error::Page`] when the template cannot be rendered.
pub(crate) fn render_page(report: &Report, tables: &[Table], figures: &[Figure]) -> Result<String> {
    let alone = figures.iter().filter(|f| !tables.iter().any(|t| belongs(f, t)));
    let values = context! {
        title => Serde(&report.title),
        warning => Serde(&report.warning),
        notes => Serde(&report.notes),
        tables => Serde(tables.iter().map(|t| page_table(t, figures)).collect::<Vec<_>>()),
        figures => Serde(alone.collect::<Vec<_>>()),
        samples => Serde(samples(report)),
    };
    let page = Environment::new().render_named_str(TEMPLATE_NAME, TEMPLATE, values);
    page.map_err(|error| Error::Page { why: error.to_string() })
}

/// Whether a figure belongs to a table; a report's warning is a prefix of the keys of its tables.
fn belongs(figure: &Figure, table: &Table) -> bool {
    table.key == figure.table || table.key.ends_with(&format!("-{}", figure.table))
}

/// A table for the template: `groups` are rows under one heading, which is empty where the table has no groups.
fn page_table(table: &Table, figures: &[Figure]) -> Value {
    let is_grouped = table.header.first().is_some_and(|h| h == GROUPED) && table.header.len() > 1;
    let n_grouped = usize::from(is_grouped);
    let cells = |row: &Vec<Cell>| -> Vec<Value> {
        row.iter().enumerate().skip(n_grouped).map(|(i, c)| page_cell(table, i, c)).collect()
    };
    let group = |rows: &[Vec<Cell>]| {
        let name = rows[0].first().filter(|_| is_grouped).map(ToString::to_string).unwrap_or_default();
        json!({ "name": name, "rows": rows.iter().map(cells).collect::<Vec<_>>() })
    };
    let header = table.header.iter().enumerate().skip(n_grouped);
    let header = header.map(|(i, h)| json!({ "text": heading(h), "class": column_class(table, i) }));
    let definitions = table.definitions.iter().map(ToString::to_string);
    json!({
        "key": table.key,
        "title": table.title,
        "caption": table.caption,
        "details": table.details.iter().cloned().chain(definitions).collect::<Vec<_>>(),
        "header": header.collect::<Vec<_>>(),
        "groups": table.rows.chunk_by(|a, b| !is_grouped || a[0] == b[0]).map(group).collect::<Vec<_>>(),
        "figures": figures.iter().filter(|f| belongs(f, table)).collect::<Vec<_>>(),
    })
}

/// A cell for the template: `small` are interval and remark, on lines of their own.
fn page_cell(table: &Table, column: usize, cell: &Cell) -> Value {
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
            (number(*value), interval.into_iter().chain([remark.clone()]).filter(|s| !s.is_empty()).collect::<Vec<_>>())
        }
        _ => (cell.to_string(), Vec::new()),
    };
    json!({ "text": text, "small": small, "class": class })
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
fn samples(report: &Report) -> Vec<Value> {
    let results = &report.results;
    let methods = crate::tables::methods(&report.experiment.ordered());
    let of_model = |model| {
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
        let shown = shown.into_iter();
        let samples = shown.map(|s| json!({ "prompt": s.prompt, "before": s.before, "after": after(&s.prompt) }));
        let samples: Vec<Value> = samples.collect();
        (!samples.is_empty()).then(|| json!({ "model": model, "samples": samples }))
    };
    results.models().into_iter().filter_map(of_model).collect()
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
        let groups = page["groups"].as_array().unwrap();
        let names: Vec<&Value> = groups.iter().map(|group| &group["name"]).collect();
        assert_eq!(names, ["gpt2", "gpt-neo", "mean over models"]);
        assert_eq!(
            (&page["header"][0]["text"], &page["header"][3]["class"]),
            (&json!("Method"), &json!("number paper"))
        );
        assert_eq!(page["figures"].as_array().unwrap().len(), 3, "figures find their table under a warning");
        let toxicity = &groups[1]["rows"][3][2];
        assert_eq!((&toxicity["text"], &toxicity["small"]), (&json!("7.20"), &json!(["[4.66, 9.74]", "2 of 3 seeds"])));
        assert_eq!(groups[0]["rows"][1][2]["class"], "missing");
        let headlines = report.table(TableKey::Headlines).unwrap();
        let ungrouped = page_table(&headlines, &[])["groups"].clone();
        assert_eq!((ungrouped.as_array().unwrap().len(), &ungrouped[0]["name"]), (1, &json!("")));
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
        let all = ["DPO mild", "RANDOM odd", "IREPAIR kind"].map(|words| words.split_once(' ').unwrap());
        let all = all.map(|(who, wrote)| (format!("{who}, seed 0"), wrote));
        let both = [&all[0], &all[2]];
        let (a, b) = (
            json!({"prompt": "a", "before": "rude", "after": all}),
            json!({"prompt": "b", "before": "rude", "after": both}),
        );
        assert_eq!(*group, json!({"model": "gpt2", "samples": [a, b]}));
    }

    #[test]
    fn code_is_marked_and_everything_escaped() {
        let report = Report { notes: vec!["a `b<c>` & \"d\"".into()], ..Report::default() };
        let page = render_page(&report, &[], &[]).unwrap();
        assert!(page.contains("<li>a <code>b&lt;c&gt;</code> &amp; &quot;d&quot;</li>"), "{page}");
    }
}
