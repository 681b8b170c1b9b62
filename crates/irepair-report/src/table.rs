//! A table with its caption, and its two text forms: Markdown for people, CSV for programs.

use irepair_core::metric::MetricId;
use irepair_stats::{Estimate, Interval};

use crate::definition::Definition;

/// Text of a cell whose number could not be measured. Never 0.
pub const MISSING: &str = "missing";

/// Text of a cell that has no number by nature: no seeds, no counterpart in the paper.
const NOT_APPLICABLE: &str = "–";

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number with its interval, when it has one, and a remark such as `2 of 3 seeds`.
    Number {
        /// The number.
        value: f64,
        /// Its interval.
        interval: Option<Interval>,
        /// Digits after the point.
        digits: usize,
        /// A remark; empty for none.
        remark: String,
        /// How many values it is the mean of; none when it is not a mean.
        n: Option<usize>,
        /// Its unit, for programs, because readers see it in the column's name. Empty for a pure number.
        unit: String,
    },
    /// A p-value.
    P(f64),
    /// A number that could not be measured.
    Missing,
    /// A number that does not apply here.
    NotApplicable,
}

impl Cell {
    /// Words.
    pub fn text(words: impl Into<String>) -> Self {
        Self::Text(words.into())
    }

    /// A bare number; [`Cell::Missing`] when there is none or it is not finite.
    pub fn number(value: Option<f64>, digits: usize) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Missing, |value| Self::Number {
            value,
            interval: None,
            digits,
            remark: String::new(),
            n: None,
            unit: String::new(),
        })
    }

    /// A number of the paper; [`Cell::NotApplicable`] where the paper has none.
    pub fn paper(value: Option<f64>, digits: usize) -> Self {
        value.map_or(Self::NotApplicable, |v| Self::number(Some(v), digits))
    }

    /// The paper's value of a metric; [`Cell::NotApplicable`] where the paper has none.
    pub fn paper_metric(value: Option<f64>, metric: MetricId) -> Self {
        Self::paper(value, metric.definition().digits).in_unit(metric.definition().unit)
    }

    /// A number with its interval; [`Cell::Missing`] when there is none.
    pub fn estimate(estimate: Option<Estimate>, digits: usize) -> Self {
        let mut cell = Self::number(estimate.map(|e| e.value), digits).within(estimate.and_then(|e| e.interval));
        if let Self::Number { n, .. } = &mut cell {
            *n = estimate.map(|e| e.n);
        }
        cell
    }

    /// Gives a number its interval; other cells stay as they are.
    #[must_use]
    pub fn within(mut self, ends: Option<Interval>) -> Self {
        if let Self::Number { interval, .. } = &mut self {
            *interval = ends;
        }
        self
    }

    /// Adds a remark to a number; other cells stay as they are.
    #[must_use]
    pub fn remarked(mut self, words: &str) -> Self {
        if let Self::Number { remark, .. } = &mut self {
            *remark = words.to_owned();
        }
        self
    }

    /// Gives a number its unit; other cells stay as they are.
    #[must_use]
    pub fn in_unit(mut self, words: &str) -> Self {
        if let Self::Number { unit, .. } = &mut self {
            *unit = words.to_owned();
        }
        self
    }

    /// True for cells that line up on the right.
    pub fn is_numeric(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(words) => f.write_str(words),
            Self::Number { value, interval, digits, remark, .. } => {
                write!(f, "{value:.digits$}")?;
                if let Some(i) = interval {
                    write!(f, " [{:.digits$}, {:.digits$}]", i.low, i.high)?;
                }
                if remark.is_empty() { Ok(()) } else { write!(f, " ({remark})") }
            }
            Self::P(p) if *p < 1e-4 => f.write_str("<0.0001"),
            Self::P(p) => write!(f, "{p:.4}"),
            Self::Missing => f.write_str(MISSING),
            Self::NotApplicable => f.write_str(NOT_APPLICABLE),
        }
    }
}

/// A titled table. Caption, details and definitions together explain its numbers: definitions, versions, n, n failed,
/// seeds, and the method of the intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Short name for files and links, such as `rq1`.
    pub key: String,
    /// Heading.
    pub title: String,
    /// Seeds, n, failures, and how to read the table.
    pub caption: String,
    /// Formulas, intervals, origin of the paper's numbers; one paragraph each.
    pub details: Vec<String>,
    /// Definitions of the metrics.
    pub definitions: Vec<Definition>,
    /// Column names.
    pub header: Vec<String>,
    /// Rows, each as long as the header.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<H: ToString>(key: &str, title: &str, header: impl IntoIterator<Item = H>) -> Self {
        Self {
            key: key.to_owned(),
            title: title.to_owned(),
            caption: String::new(),
            details: Vec::new(),
            definitions: Vec::new(),
            header: header.into_iter().map(|name| name.to_string()).collect(),
            rows: Vec::new(),
        }
    }

    /// True for columns that line up on the right: those without words.
    pub fn is_numeric_column(&self, column: usize) -> bool {
        self.rows.iter().filter_map(|row| row.get(column)).all(Cell::is_numeric) && !self.rows.is_empty()
    }

    /// Names for programs: headings, with the column before them where two are the same.
    pub fn column_names(&self) -> Vec<String> {
        let name = |(i, heading): (usize, &String)| {
            let is_repeated = self.header.iter().filter(|h| *h == heading).count() > 1;
            if is_repeated && i > 0 { format!("{}, {heading}", self.header[i - 1]) } else { heading.clone() }
        };
        self.header.iter().enumerate().map(name).collect()
    }

    /// All paragraphs under the table.
    pub fn paragraphs(&self) -> Vec<String> {
        let definitions = self.definitions.iter().map(|d| format!("- {d}")).collect::<Vec<_>>().join("\n");
        let all = std::iter::once(&self.caption).chain(&self.details).chain([&definitions]);
        all.filter(|p| !p.is_empty()).cloned().collect()
    }

    /// Heading, padded Markdown table, caption, details and definitions, also readable on a terminal.
    pub fn to_markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let header: Vec<String> = self.header.iter().map(|h| escape(h)).collect();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|c| escape(&c.to_string())).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|r| r.get(column)).chain([&header[column]]);
            cells.map(|c| c.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &w))| {
                if self.is_numeric_column(i) { format!("{cell:>w$}") } else { format!("{cell:<w$}") }
            });
            format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
        };
        let dashes = |(i, &w): (usize, &usize)| {
            if self.is_numeric_column(i) { format!("{}:", "-".repeat(w - 1)) } else { "-".repeat(w) }
        };
        let rule: Vec<String> = widths.iter().enumerate().map(dashes).collect();
        let body: String = rows.iter().map(|row| line(row)).collect();
        format!(
            "### {}\n\n{}{}{body}\n{}\n",
            escape(&self.title),
            line(&header),
            line(&rule),
            self.paragraphs().join("\n\n")
        )
    }

    /// One line per cell that is not a row's name: `table,row,column,value,low,high,text`.
    ///
    /// All tables of a report share this form and one file. `row` is the row's words joined by ` / `, `column` one of
    /// [`Self::column_names`]; `value`, `low`, `high` are unrounded, empty where there is no number.
    pub fn to_csv(&self) -> String {
        let (mut csv, columns) = (String::new(), self.column_names());
        for row in &self.rows {
            let names = row.iter().enumerate().filter(|(i, _)| self.is_name_column(*i)).map(|(_, c)| c.to_string());
            let name = names.collect::<Vec<_>>().join(" / ");
            for (i, (column, cell)) in columns.iter().zip(row).enumerate() {
                if self.is_name_column(i) {
                    continue;
                }
                let (value, interval) = match cell {
                    Cell::Number { value, interval, .. } => (Some(*value), *interval),
                    Cell::P(p) => (Some(*p), None),
                    _ => (None, None),
                };
                let numbers = [value, interval.map(|i| i.low), interval.map(|i| i.high)];
                let [value, low, high] = numbers.map(|number| number.map(|n| n.to_string()).unwrap_or_default());
                let fields = [&self.key, &name, column, &value, &low, &high, &cell.to_string()].map(|f| quoted(f));
                csv += &(fields.join(",") + "\n");
            }
        }
        csv
    }

    /// Leading columns of words name the row.
    fn is_name_column(&self, column: usize) -> bool {
        (0..=column).all(|c| self.rows.iter().all(|row| matches!(row.get(c), Some(Cell::Text(_)))))
    }
}

/// First line of the CSV form.
pub const CSV_HEADER: &str = "table,row,column,value,low,high,text\n";

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("t", "Made up | numbers", ["Method", "TOX", "p"]);
        let interval = Some(Interval { low: 1.0, high: 2.26 });
        let value = Cell::estimate(Some(Estimate { value: 1.5, interval, n: 3 }), 1).remarked("2 of 3 seeds");
        table.rows.push(vec![Cell::text("A, \"B\""), value, Cell::P(1e-9)]);
        table.rows.push(vec![Cell::text("C|D"), Cell::number(Some(f64::NAN), 1), Cell::NotApplicable]);
        table.caption = "n = 3".to_owned();
        table
    }

    #[test]
    fn markdown_is_padded_and_a_failure_is_missing() {
        assert_eq!(
            table().to_markdown(),
            "### Made up \\| numbers\n\n\
             | Method |                           TOX |       p |\n\
             | ------ | ----------------------------: | ------: |\n\
             | A, \"B\" | 1.5 [1.0, 2.3] (2 of 3 seeds) | <0.0001 |\n\
             | C\\|D   |                       missing |       – |\n\n\
             n = 3\n"
        );
    }

    #[test]
    fn csv_has_one_line_per_number_and_no_zero_for_a_failure() {
        assert_eq!(
            table().to_csv(),
            "t,\"A, \"\"B\"\"\",TOX,1.5,1,2.26,\"1.5 [1.0, 2.3] (2 of 3 seeds)\"\n\
             t,\"A, \"\"B\"\"\",p,0.000000001,,,<0.0001\n\
             t,C|D,TOX,,,,missing\n\
             t,C|D,p,,,,–\n"
        );
    }
}
