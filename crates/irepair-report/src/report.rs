//! A whole report: which tables and figures it has, and its files.

use std::path::{Path, PathBuf};

use irepair_core::fs::write_atomic;

use crate::json::tables_json;
use crate::page::render_page;
use crate::plots::{self, Figure};
use crate::result::SensitivityResult;
use crate::results::Results;
use crate::table::{CSV_HEADER, Table};
use crate::tables::{self, AblationCell};
use crate::{Error, Result};

/// Everything a report is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Words over every table, for numbers that must not be taken for results; none otherwise.
    pub warning: Option<String>,
    /// Lines under the heading: profile, commit, machine, preconditions, rows that failed.
    pub notes: Vec<String>,
    /// The rows.
    pub results: Results,
    /// Sensitivities for error density.
    pub sensitivities: Vec<SensitivityResult>,
    /// Lines of the ablation table; its rows are among `results`.
    pub ablation: Vec<AblationCell>,
}

impl Report {
    /// The tables there is something to say in, in reading order.
    pub fn tables(&self) -> Vec<Table> {
        let (results, sensitivities) = (&self.results, &self.sensitivities);
        [
            tables::headlines(results, sensitivities),
            tables::rq1(results),
            tables::trajectory(results),
            tables::scorers(results),
            tables::general(results),
            tables::guard(results),
            tables::pairwise(results),
            tables::rq2(results),
            tables::rq3(results),
            tables::error_density(sensitivities),
            tables::ablation(results, &self.ablation),
        ]
        .into_iter()
        .flatten()
        .map(|table| match &self.warning {
            // In the title people read and in the key programs read: a table may be quoted alone.
            Some(warning) => Table {
                key: format!("{}-{}", warning.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-"), table.key),
                title: format!("{warning}: {}", table.title),
                ..table
            },
            None => table,
        })
        .collect()
    }

    /// The figures there is something to show in.
    ///
    /// # Errors
    /// [`Error::Plot`] when the plot library refuses.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let mut figures = plots::pareto(&self.results)?;
        figures.extend(plots::trajectories(&self.results)?);
        figures.extend(plots::selection_heat_map(&self.results)?);
        figures.extend(plots::sensitivity_heat_map(&self.sensitivities)?);
        figures.extend(plots::sensitivity_bars(&self.sensitivities)?);
        figures.extend(plots::density_bars(&self.sensitivities)?);
        figures.extend(plots::cost_bars(&self.results)?);
        Ok(figures)
    }
}

/// All tables as one Markdown document.
pub fn tables_markdown(tables: &[Table]) -> String {
    tables.iter().map(Table::to_markdown).collect::<Vec<_>>().join("\n")
}

/// All tables as one CSV file; see [`Table::to_csv`].
pub fn tables_csv(tables: &[Table]) -> String {
    CSV_HEADER.to_owned() + &tables.iter().map(Table::to_csv).collect::<String>()
}

/// Writes `tables.md`, `tables.csv`, `results.json`, `report.html` and one SVG per figure into `dir`; returns the path of the page.
///
/// Each file is whole or not there. The page holds its figures and needs no other file.
///
/// # Errors
/// [`Error::File`] when a file cannot be written; [`Error::Plot`], [`Error::Page`] when something cannot be drawn.
pub fn write_report(dir: &Path, report: &Report) -> Result<PathBuf> {
    let (tables, figures) = (report.tables(), report.figures()?);
    let page = render_page(report, &tables, &figures)?;
    let write = |name: &str, text: &str| write_atomic(&dir.join(name), text.as_bytes()).map_err(Error::from);
    write("tables.md", &tables_markdown(&tables))?;
    write("tables.csv", &tables_csv(&tables))?;
    write("results.json", &tables_json(report, &tables))?;
    for figure in &figures {
        write(&format!("{}.svg", figure.name), &figure.svg)?;
    }
    write("report.html", &page)?;
    Ok(dir.join("report.html"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{results, row, sensitivities};

    fn report() -> Report {
        let mut rows = results().rows().to_vec();
        for model in ["gpt2", "gpt-neo"] {
            rows.push(row("random", model, 0, 21.0, 19.5));
            rows.push(row("dynamic-20", model, 0, 7.0, 19.2));
        }
        let cell = |policy: &str, slice_size: &str, method: &str| AblationCell {
            policy: policy.into(),
            slice_size: slice_size.into(),
            method: method.into(),
        };
        Report {
            title: "Made up <results>".into(),
            warning: None,
            notes: vec!["commit & machine".into()],
            results: Results::new(rows).unwrap(),
            sensitivities: sensitivities(),
            ablation: vec![cell("dynamic", "20%", "dynamic-20"), cell("dynamic", "50%", "dynamic-50")],
        }
    }

    #[test]
    fn every_table_of_a_small_result_set() {
        insta::assert_snapshot!(tables_markdown(&report().tables()));
    }

    #[test]
    fn a_failed_number_is_missing_and_never_zero() {
        let tables = report().tables();
        let ablation = tables.iter().find(|t| t.key == "ablation").unwrap().to_markdown();
        assert!(ablation.contains("missing"), "{ablation}");
        for line in tables_csv(&tables).lines().filter(|l| l.contains("missing")) {
            assert!(line.contains(",,,,missing"), "{line}");
        }
    }

    #[test]
    fn a_warning_stands_over_every_table_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report { warning: Some("NOT A RESULT".into()), ..report() };
        write_report(dir.path(), &report).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let n = report.tables().len();
        assert!(n > 5);
        assert_eq!(read("tables.md").matches("### NOT A RESULT: ").count(), n);
        assert!(read("report.html").matches("NOT A RESULT: ").count() >= n);
        assert!(read("tables.csv").lines().skip(1).all(|line| line.starts_with("not-a-result-")));
    }

    #[test]
    fn every_row_is_as_long_as_its_header() {
        for table in report().tables() {
            assert!(table.rows.iter().all(|r| r.len() == table.header.len()), "{}", table.key);
            assert!(!table.caption.is_empty(), "{}", table.key);
        }
    }

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_shows() {
        let dir = tempfile::tempdir().unwrap();
        let page = write_report(dir.path(), &report()).unwrap();
        let html = std::fs::read_to_string(page).unwrap();
        assert!(html.contains("Made up &lt;results&gt;") && !html.contains("<results>"));
        assert!(html.contains("the &lt;b&gt;fox&lt;&#x2f;b&gt;") && !html.contains("<b>fox"), "samples are escaped");
        assert!(html.contains("<details class=\"sample\"><summary>Sample 1"), "samples are masked");
        for loaded in ["src=", "@import", "url(", "<script", "<link"] {
            assert!(!html.contains(loaded), "{loaded}");
        }
        let mut files: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(
            files,
            [
                "cost.svg",
                "error-density.svg",
                "pareto-gpt-neo.svg",
                "pareto-gpt2.svg",
                "pareto-mean.svg",
                "report.html",
                "results.json",
                "selection-gpt2.svg",
                "sensitivity-gpt-neo.svg",
                "sensitivity-gpt2.svg",
                "sensitivity-map-gpt-neo.svg",
                "sensitivity-map-gpt2.svg",
                "tables.csv",
                "tables.md",
                "trajectory-gpt2.svg"
            ]
        );
    }

    #[test]
    fn a_report_of_nothing_is_an_empty_page() {
        let dir = tempfile::tempdir().unwrap();
        let report = Report { title: "Nothing".into(), ..Report::default() };
        assert!(report.tables().is_empty());
        assert!(write_report(dir.path(), &report).unwrap().exists());
    }

    #[test]
    fn the_same_results_make_the_same_report() {
        assert_eq!(report().tables(), report().tables());
        assert_eq!(report().figures().unwrap(), report().figures().unwrap());
    }
}
