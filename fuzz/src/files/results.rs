//! `result.json` and sensitivities, one per line, and their report.

use std::path::Path;

use irepair_report::{
    Report, Results, RowResult, SensitivityResult, read_result, tables_csv, tables_json, tables_markdown, write_result,
};

use super::shared::{put, said};

/// Lines read of one input.
const MAX_LINES: usize = 6;

/// An accepted result reads back equal after writing, and its report is drawn or refused.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let again = dir.join("again.json");
    let (mut rows, mut sensitivities) = (Vec::new(), Vec::new());
    for line in data.split(|byte| *byte == b'\n').take(MAX_LINES) {
        let path = put(dir, "fuzzed.json", line);
        match read_result::<RowResult>(&path) {
            Ok(row) => {
                write_result(&again, &row).expect("the target's own directory");
                assert_eq!(read_result::<RowResult>(&again).expect("just written"), row);
                rows.push(row);
            }
            Err(error) => said(&error),
        }
        if let Ok(result) = read_result::<SensitivityResult>(&path) {
            write_result(&again, &result).expect("the target's own directory");
            assert_eq!(read_result::<SensitivityResult>(&again).expect("just written"), result);
            sensitivities.push(result);
        }
    }
    if rows.is_empty() && sensitivities.is_empty() {
        return;
    }
    match Results::new(rows) {
        Ok(results) => {
            let report = Report { sensitivities, ..Report::of(results) };
            let tables = report.tables();
            let written = [tables_markdown(&tables), tables_csv(&tables), tables_json(&report, &tables)];
            assert!(!written.iter().any(|text| text.contains("NaN")), "{written:?}");
            if let Err(error) = report.figures() {
                said(&error);
            }
        }
        Err(error) => said(&error),
    }
}
