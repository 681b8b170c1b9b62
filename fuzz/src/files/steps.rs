//! `metrics.jsonl` and `trajectory.jsonl` of a resumed run.

use std::fmt::Debug;
use std::path::Path;

use irepair_core::StepRecord;
use irepair_report::TrajectoryPoint;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The content of a line does not change when it is written and read again.
///
/// # Panics
/// If it does.
pub fn run(_: &Path, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        same::<StepRecord>(line);
        same::<TrajectoryPoint>(line);
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(line: &str) {
    if let Ok(record) = serde_json::from_str::<T>(line) {
        let written = serde_json::to_string(&record).expect("plain data");
        assert_eq!(serde_json::from_str::<T>(&written).expect("just written"), record);
    }
}
