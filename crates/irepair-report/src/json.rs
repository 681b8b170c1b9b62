//! The tables of a report for programs: one JSON document, every number unrounded with its interval, n and unit.

use serde_json::{Map, Value, json};

use crate::report::Report;
use crate::result::SCHEMA;
use crate::table::{Cell, Table};

/// All tables as one JSON document.
///
/// A row is an object by column name ([`Table::column_names`]). A cell of words is a string; a number is an object with
/// `value`, and where there are any `low` and `high`, `n`, `unit`, `remark`; `{"missing": true}` is a number that
/// should have been measured; `null` one that does not apply. `n` is how many values the number is the mean of: seeds,
/// or prompts where the table compares prompts.
pub fn tables_json(report: &Report, tables: &[Table]) -> String {
    let document = json!({
        "schema": SCHEMA,
        "title": report.title,
        "warning": report.warning,
        "profile": report.results.profile(),
        "notes": report.notes,
        "tables": tables.iter().map(table).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

fn table(table: &Table) -> Value {
    let names = table.column_names();
    let row = |row: &Vec<Cell>| names.iter().cloned().zip(row.iter().map(cell)).collect::<Map<_, _>>();
    json!({
        "key": table.key,
        "title": table.title,
        "caption": table.caption,
        "details": table.details,
        "definitions": table.definitions,
        "columns": names,
        "rows": table.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn cell(cell: &Cell) -> Value {
    match cell {
        Cell::Text(words) => json!(words),
        Cell::Number { value, interval, n, unit, remark, .. } => {
            let mut object = Map::new();
            object.insert("value".to_owned(), json!(value));
            if let Some(i) = interval {
                object.insert("low".to_owned(), json!(i.low));
                object.insert("high".to_owned(), json!(i.high));
            }
            if let Some(n) = n {
                object.insert("n".to_owned(), json!(n));
            }
            for (key, words) in [("unit", unit), ("remark", remark)] {
                if !words.is_empty() {
                    object.insert(key.to_owned(), json!(words));
                }
            }
            Value::Object(object)
        }
        Cell::P(p) => json!({ "value": p }),
        Cell::Missing => json!({ "missing": true }),
        Cell::NotApplicable => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_config::TableKey;

    use crate::tests::report;

    #[test]
    fn a_cell_is_unrounded_with_interval_n_and_unit_and_a_failure_is_missing() {
        let report = Report { title: "Made up".into(), ..report() };
        let tables = [TableKey::Rq1, TableKey::Pairwise].map(|key| report.table(key).unwrap());
        let read: Value = serde_json::from_str(&tables_json(&report, &tables)).unwrap();
        assert_eq!((&read["schema"], &read["profile"]), (&json!(1), &json!("planted")));
        let rq1 = &read["tables"][0];
        let irepair = rq1["rows"]
            .as_array()
            .and_then(|rows| rows.iter().find(|r| r["Model"] == "gpt-neo" && r["Method"] == "IREPAIR"))
            .unwrap();
        let toxicity = &irepair["Toxicity % ↓"];
        assert!((toxicity["value"].as_f64().unwrap() - 7.2).abs() < 1e-12, "{toxicity}");
        assert!(toxicity["low"].as_f64().unwrap() < 7.2 && toxicity["high"].as_f64().unwrap() > 7.2);
        assert_eq!(
            (&toxicity["n"], &toxicity["unit"], &toxicity["remark"]),
            (&json!(2), &json!("%"), &json!("2 of 3 seeds"))
        );
        assert_eq!(irepair["Toxicity % ↓, paper"], json!({"value": 4.94, "unit": "%"}));
        let dapt = &rq1["rows"][1];
        assert_eq!((&dapt["Toxicity % ↓"], &dapt["Learning rate"]), (&json!({"missing": true}), &Value::Null));
        assert_eq!(rq1["definitions"][0]["n_failed"], 14);
        let columns = read["tables"][1]["columns"].as_array().unwrap();
        assert!(
            columns.contains(&json!("p over prompts, Holm")),
            "columns of one name are numbered by the one before: {columns:?}"
        );
    }
}
