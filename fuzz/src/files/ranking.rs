//! `ranking.jsonl`, a locator's scores of the units of a model.

use std::path::Path;

use irepair_arch::{Architecture, UnitMap};
use irepair_core::Unit;
use irepair_fault::Ranking;
use serde_json::Value;

use super::shared::{put, said};

/// An accepted ranking has every unit of its kind once, and higher scores of the file first.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    // Two blocks of two heads and 16 neurons.
    let map = UnitMap::new(&Architecture::gpt2(2, 4, 2, 8, 5));
    match Ranking::read(&put(dir, "ranking.jsonl", data), &map) {
        Ok(ranking) => {
            let order = ranking.order();
            let mut sorted = order.to_vec();
            sorted.sort();
            assert_eq!(sorted, map.units(ranking.kind()).collect::<Vec<_>>());
            let text = std::str::from_utf8(data).expect("accepted as text");
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let score = |line: Value| -> Option<(Unit, f64)> {
                Some((line["unit"].as_str()?.parse().ok()?, line["score"].as_f64()?))
            };
            let lines = lines.map(|line| serde_json::from_str(line).ok().and_then(score).expect("accepted as a line"));
            let scores: std::collections::BTreeMap<Unit, f64> = lines.collect();
            assert!(order.windows(2).all(|two| scores[&two[0]] >= scores[&two[1]]));
        }
        Err(error) => said(&error),
    }
}
