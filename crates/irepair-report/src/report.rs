//! A report: its tables and figures, and its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use irepair_config::{Comparison, Experiment, FigureKey, Method, RepairOptions, Row, TableKey};
use irepair_core::fs::write_atomic;
use irepair_core::metric;
use irepair_stats::mean;

use crate::json::tables_json;
use crate::page::render_page;
use crate::plots::{self, Figure};
use crate::points::{Form, within_budget};
use crate::result::{RowResult, SensitivityResult, VANILLA};
use crate::results::Results;
use crate::table::{CSV_HEADER, Table};
use crate::tables;
use crate::{Error, Result};

/// The data of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Printed above every table, for numbers that are no result; none otherwise.
    pub warning: Option<String>,
    /// Lines under the heading: profile, commit, machine, preconditions, rows that failed.
    pub notes: Vec<String>,
    /// Rows as their files describe them, and the paper's numbers.
    pub experiment: Experiment,
    /// The measured results.
    pub results: Results,
    /// Sensitivities for error density.
    pub sensitivities: Vec<SensitivityResult>,
    /// Runs of the search for learning rates, named `dpo@3e-6`: their points on validation data are part of fronts.
    pub searched: Vec<RowResult>,
}

impl Report {
    /// A report of results without experiment files: every row is in every figure and in every table but RQ3 and the
    /// ablation, which need its settings. The last method is compared with the others, and costs are relative to the
    /// first trained one.
    pub fn of(results: Results) -> Self {
        let tables: Vec<TableKey> =
            TableKey::ALL.iter().copied().filter(|t| ![TableKey::Rq3, TableKey::Ablation].contains(t)).collect();
        let row = |(i, method): (usize, &str)| {
            let title = results.rows().iter().find(|r| r.method() == method).map(|r| r.title.clone());
            let repair = (method == VANILLA).then_some(Method::Vanilla);
            let row = Row {
                title: title.unwrap_or_default(),
                tables: tables.clone(),
                figures: FigureKey::ALL.to_vec(),
                order: Some(i as u32),
                repair: RepairOptions { method: repair, ..RepairOptions::default() },
                ..Row::default()
            };
            (method.to_owned(), row)
        };
        let trained = || results.methods().into_iter().filter(|m| *m != VANILLA).map(str::to_owned);
        let mut experiment =
            Experiment { rows: results.methods().into_iter().enumerate().map(row).collect(), ..Experiment::default() };
        experiment.profile.compare = Comparison { subject: trained().next_back(), baseline: trained().next() };
        Self { experiment, results, ..Self::default() }
    }

    /// Rows that name a table and have results, in order.
    pub(crate) fn rows_in(&self, table: TableKey) -> Vec<(&str, &Row)> {
        self.rows(|key, row| row.tables.contains(&table) && self.results.has(key))
    }

    /// True when the texts of a run's weights fail the degeneration guard, against those of its base model.
    pub(crate) fn is_degenerate(&self, run: &RowResult) -> bool {
        let form = |run: &RowResult| Form {
            mean_length: run.value(metric::MEAN_LENGTH),
            distinct: run.value(metric::DISTINCT_1),
            blank: run.value(metric::EMPTY_SHARE),
            repeated: run.value(metric::REPETITION_4),
            copied: run.value(metric::COPIED_SHARE),
        };
        let base = self.results.runs(VANILLA, &run.model);
        base.first().is_some_and(|base| !form(run).passes(&form(base)))
    }

    /// Rows that name a table and have results or a counterpart in the paper; none unless one has results.
    pub(crate) fn rows_in_or_missing(&self, table: TableKey) -> Vec<(&str, &Row)> {
        if self.rows_in(table).is_empty() {
            return Vec::new();
        }
        self.rows(|key, row| row.tables.contains(&table) && (self.results.has(key) || row.paper.is_some()))
    }

    /// Rows that name a figure and have results, in order.
    pub(crate) fn rows_of(&self, figure: FigureKey) -> Vec<(&str, &Row)> {
        self.rows(|key, row| row.figures.contains(&figure) && self.results.has(key))
    }

    pub(crate) fn rows(&self, keep: impl Fn(&str, &Row) -> bool) -> Vec<(&str, &Row)> {
        self.experiment.ordered().into_iter().filter(|(key, row)| keep(key, row)).collect()
    }

    /// Runs of a row at every rate, those of the search first: all its points on validation data.
    pub(crate) fn runs_at_all_rates(&self, key: &str, model: &str) -> Vec<&RowResult> {
        let rates_of = self.experiment.rows.get(key).and_then(|row| row.rates_of.as_deref());
        let is_rate = |run: &&RowResult| run.model == model && run.is_of(key);
        let searched = self.searched.iter().filter(|_| rates_of.is_none());
        searched.chain(self.results.rows()).filter(is_rate).collect()
    }

    /// Runs of a row at the rate of least error within a KL budget on validation data, mean over its seeds; the lowest
    /// of such rates. Of all rates with a test result; none before the rate that the row's own search chose for the
    /// budget has run.
    pub(crate) fn runs_within(&self, key: &str, model: &str, budget: f64) -> Vec<&RowResult> {
        let searched = self.experiment.learning_rates.within(key, model, budget);
        let of_row = || self.results.rows().iter().filter(|run| run.model == model && run.is_of(key));
        if searched.is_some() && of_row().all(|run| run.lr != searched) {
            return Vec::new();
        }
        let error = |run: &&RowResult| within_budget(&run.trajectory, budget)?.toxicity;
        let rates: BTreeSet<&str> = of_row().map(RowResult::method).collect();
        let at_rate = |method| {
            let runs = self.results.runs(method, model);
            let errors: Vec<f64> = runs.iter().map(error).collect::<Option<_>>()?;
            Some((mean(&errors)?, runs.first()?.lr.unwrap_or(0.0), runs))
        };
        let best = rates
            .into_iter()
            .filter_map(at_rate)
            .min_by(|(error, lr, _), (other, other_lr, _)| error.total_cmp(other).then(lr.total_cmp(other_lr)));
        best.map_or_else(|| self.results.runs(key, model), |(.., runs)| runs)
    }

    /// Title of a method in tables.
    pub(crate) fn title<'a>(&'a self, method: &'a str) -> &'a str {
        self.experiment.rows.get(method).map_or(method, |row| row.title.as_str())
    }

    /// The row whose cost is the unit of relative costs.
    pub(crate) fn baseline(&self) -> Option<&str> {
        self.experiment.profile.compare.baseline.as_deref()
    }

    /// One table; none without content.
    pub fn table(&self, key: TableKey) -> Option<Table> {
        let table = match key {
            TableKey::Headlines => tables::headlines(self),
            TableKey::Rq1 => tables::rq1(self),
            TableKey::Budgets => tables::error_within_budgets(self),
            TableKey::Compare => tables::three_comparisons(self),
            TableKey::Trajectory => tables::trajectory(self),
            TableKey::Relearning => tables::relearning(self),
            TableKey::Scorers => tables::scorers(self),
            TableKey::General => tables::general(self),
            TableKey::Guard => tables::guard(self),
            TableKey::Pairwise => tables::pairwise(self),
            TableKey::Rq2 => tables::rq2(self),
            TableKey::Rq3 => tables::rq3(self),
            TableKey::Ablation => tables::ablation(self),
        };
        table.map(|table| self.warned(table))
    }

    /// The tables with content, in reading order.
    pub fn tables(&self) -> Vec<Table> {
        let more = [tables::against_baseline(self), tables::error_density(self)].into_iter().flatten();
        let more = more.map(|table| self.warned(table));
        TableKey::ALL.iter().filter_map(|key| self.table(*key)).chain(more).collect()
    }

    /// Adds the warning to a table's title and key, because a table may be quoted alone.
    fn warned(&self, table: Table) -> Table {
        let Some(warning) = &self.warning else { return table };
        Table {
            key: format!("{}-{}", warning.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-"), table.key),
            title: format!("{warning}: {}", table.title),
            ..table
        }
    }

    /// The figures with content.
    ///
    /// # Errors
    /// [`Error::Plot`] when the plot library refuses.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for key in FigureKey::ALL {
            figures.extend(match key {
                FigureKey::Pareto => plots::pareto(self)?,
                FigureKey::Trajectory => plots::trajectories(self)?,
                FigureKey::Front => plots::fronts(self)?,
                FigureKey::Compute => plots::against_compute(self)?,
                FigureKey::Selection => plots::selection_heat_maps(self)?,
                FigureKey::Cost => plots::cost_bars(self)?.into_iter().collect(),
            });
        }
        figures.extend(plots::sensitivity_heat_map(&self.sensitivities)?);
        figures.extend(plots::sensitivity_bars(&self.sensitivities)?);
        figures.extend(plots::density_bars(self)?);
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

/// Writes `tables.md`, `tables.csv`, `results.json`, `report.html` and one SVG per figure into `dir`; returns the path
/// of the page.
///
/// Each file is written completely or not at all. The page holds its figures and needs no other file.
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
    use crate::Cell;
    use crate::tests::{experiment, row, rows, sensitivities};

    fn report() -> Report {
        let mut rows = rows();
        for model in ["gpt2", "gpt-neo"] {
            rows.push(row("random", model, 0, 21.0, 19.5));
            rows.push(row("dynamic-20", model, 0, 7.0, 19.2));
        }
        Report {
            title: "Made up <results>".into(),
            notes: vec!["commit & machine".into()],
            experiment: experiment(),
            results: Results::new(rows).unwrap(),
            sensitivities: sensitivities(),
            ..Report::default()
        }
    }

    #[test]
    fn every_table_of_a_small_result_set() {
        insta::assert_snapshot!(tables_markdown(&report().tables()));
    }

    #[test]
    fn a_failed_number_is_missing_and_never_zero() {
        let tables = report().tables();
        let rq1 = report().table(TableKey::Rq1).unwrap().to_markdown();
        assert!(rq1.contains("missing"), "{rq1}");
        for line in tables_csv(&tables).lines().filter(|l| l.contains("missing")) {
            assert!(line.contains(",,,,missing"), "{line}");
        }
    }

    #[test]
    fn a_warning_is_above_every_table_in_every_form() {
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
    fn the_page_needs_no_other_file_and_is_escaped() {
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
                "selection-irepair-gpt2.svg",
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
    fn a_row_is_in_the_tables_and_figures_of_its_file_alone() {
        let mut report = report();
        let mut rows = report.results.rows().to_vec();
        rows.extend(["gpt2", "gpt-neo"].map(|model| row("foo", model, 0, 30.0, 18.0)));
        report.results = Results::new(rows).unwrap();
        let shown = |report: &Report| -> Vec<String> {
            let words = |row: &Vec<Cell>| row.iter().any(|cell| cell.to_string() == "Foo");
            let mut places: Vec<String> =
                report.tables().into_iter().filter(|t| t.rows.iter().any(words)).map(|t| t.key).collect();
            let figures = report.figures().unwrap().into_iter();
            places.extend(figures.filter(|f| f.svg.contains("Foo\n") || f.caption.contains("Foo")).map(|f| f.name));
            places
        };
        assert_eq!(shown(&report), [""; 0]);
        let text = "title = 'Foo'\ntables = ['rq1']\nfigures = ['pareto']\n[repair]\nmethod = 'dpo'\n";
        report.experiment.rows.insert("foo".into(), irepair_config::from_str(text, "foo.toml").unwrap());
        assert_eq!(shown(&report), ["rq1", "pareto-gpt2", "pareto-gpt-neo", "pareto-mean"]);
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
