//! A ranking of units, as any locator can write it, and where the faulty units stand in it.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_arch::UnitMap;
use irepair_core::spec::UnitKind;
use irepair_core::{Unit, UnitList, fs, json_said, printable};
use serde::Deserialize;

use crate::{Error, Faults, Result};

/// A line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    unit: String,
    score: f64,
}

/// All units of one kind, from the one that a locator holds most likely to be faulty to the least.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    kind: UnitKind,
    order: Vec<Unit>,
    scores: Vec<f64>,
}

impl Ranking {
    /// Ranks units by scores, higher ones first; ties go to the lower unit.
    pub fn of_scores(kind: UnitKind, scores: impl IntoIterator<Item = (Unit, f64)>) -> Self {
        let mut scores: Vec<(Unit, f64)> = scores.into_iter().collect();
        // `+ 0.0`: a tie between the two zeros is one.
        scores.sort_by(|a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
        let (order, scores) = scores.into_iter().unzip();
        Self { kind, order, scores }
    }

    /// Reads a file of one JSON object a line, `{"unit": "3.head.5", "score": 0.25}`, in any order: every unit of one
    /// kind of the model once, with a finite score. It may come through a pipe.
    ///
    /// # Errors
    /// [`Error::BadLine`], [`Error::Incomplete`]; those of reading.
    pub fn read(path: &Path, map: &UnitMap) -> Result<Self> {
        let mut scores: BTreeMap<Unit, f64> = BTreeMap::new();
        let mut kind = None;
        let text = fs::read_stream_to_string(path)?;
        // Some programs write a byte order mark first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (i, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let bad = |reason: String| Error::BadLine { path: path.to_owned(), line: i + 1, reason };
            if !text.trim_start().starts_with('{') {
                return Err(bad("a line is one object, not a list or a word".to_owned()));
            }
            let line: Line = serde_json::from_str(text).map_err(|e| {
                let is_python = e.is_syntax() && ["NaN", "Infinity"].iter().any(|word| text.contains(word));
                bad(if is_python { "a score is not a finite number".to_owned() } else { printable(&json_said(&e)) })
            })?;
            let unit: Unit = line.unit.parse().map_err(|e: irepair_core::Error| bad(e.to_string()))?;
            map.check(unit).map_err(|e| bad(e.to_string()))?;
            match kind {
                Some(kind) if kind != unit.kind() => {
                    return Err(bad(format!(
                        "unit `{unit}` is of kind {}, those before are of kind {kind}",
                        unit.kind()
                    )));
                }
                _ => kind = Some(unit.kind()),
            }
            if scores.insert(unit, line.score).is_some() {
                return Err(bad(format!("unit `{unit}` occurs twice")));
            }
        }
        let Some(kind) = kind else {
            return Err(Error::BadLine { path: path.to_owned(), line: 1, reason: "no unit is ranked".to_owned() });
        };
        if let Some(first) = map.units(kind).find(|unit| !scores.contains_key(unit)) {
            let (n, n_got, first) = (map.units(kind).count(), scores.len(), first.to_string());
            return Err(Error::Incomplete { path: path.to_owned(), kind, n, n_got, first });
        }
        Ok(Self::of_scores(kind, scores))
    }

    /// The kind of its units.
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    /// The units, the first in rank first.
    pub fn order(&self) -> &[Unit] {
        &self.order
    }

    /// Their scores, in the same order.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// The units that hold a fault and of which no unit of the ranking is a part, nor holds it.
    pub fn unranked(&self, faults: &Faults) -> UnitList {
        let ranked: UnitList = self.order.iter().copied().collect();
        faults.units().iter().filter(|fault| !ranked.overlaps(*fault)).collect()
    }

    /// How many other units have the score of a unit of these ranks, from 1: the order among them means nothing.
    pub fn n_tied(&self, ranks: &[usize]) -> usize {
        let of_faulty: Vec<f64> =
            ranks.iter().filter_map(|rank| self.scores.get(rank.checked_sub(1)?).copied()).collect();
        let others = (1..).zip(&self.scores).filter(|(rank, _)| !ranks.contains(rank));
        others.filter(|(_, score)| of_faulty.contains(score)).count()
    }

    /// Ranks, from 1, of the units that hold a fault: those in which one was planted, larger ones that contain such a
    /// unit, and parts of one.
    ///
    /// # Errors
    /// [`Error::NoneFaulty`] when there are none of this kind.
    pub fn faulty_ranks(&self, faults: &Faults) -> Result<Vec<usize>> {
        let planted = faults.units();
        let faulty = (1..).zip(&self.order).filter(|(_, unit)| planted.overlaps(**unit));
        let ranks: Vec<usize> = faulty.map(|(rank, _)| rank).collect();
        if ranks.is_empty() {
            return Err(Error::NoneFaulty { kind: self.kind, faults: planted.to_string() });
        }
        Ok(ranks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;
    use irepair_arch::Architecture;
    use irepair_core::spec::Operator;

    fn read(text: &str) -> Result<Ranking> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ranking.jsonl");
        std::fs::write(&path, text).unwrap();
        // Two blocks of two heads, eight neurons each.
        Ranking::read(&path, &UnitMap::new(&Architecture::gpt2(2, 2, 2, 4, 5)))
    }

    fn line(unit: &str, score: f64) -> String {
        format!("{{\"unit\": \"{unit}\", \"score\": {score}}}\n")
    }

    fn faults(units: &str) -> Faults {
        Faults::new(vec![Fault::new(units.parse().unwrap(), Operator::SignFlip, None, 0)])
    }

    #[test]
    fn units_with_the_score_of_a_faulty_one_are_counted() {
        let scores = [("0", 0.5), ("1", 0.5), ("2", 0.5), ("3", 0.25), ("4", 0.75)];
        let ranking = Ranking::of_scores(UnitKind::Block, scores.map(|(unit, score)| (unit.parse().unwrap(), score)));
        assert_eq!(ranking.n_tied(&[1]), 0, "block 4 stands alone");
        assert_eq!(ranking.n_tied(&[2]), 2, "blocks 1 and 2 stand where block 0 does");
        assert_eq!(ranking.n_tied(&[2, 3]), 1);
        assert_eq!(ranking.n_tied(&[2, 3, 4]), 0, "an order among faulty ones changes nothing");
    }

    #[test]
    fn higher_scores_come_first_and_ties_go_to_the_lower_unit() {
        let text = [("1.head.1", 0.5), ("0.head.1", 0.0), ("1.head.0", -0.0), ("0.head.0", -3.0)];
        let ranking = read(&text.map(|(unit, score)| line(unit, score)).concat()).unwrap();
        let order: Vec<String> = ranking.order().iter().map(ToString::to_string).collect();
        assert_eq!(order, ["1.head.1", "0.head.1", "1.head.0", "0.head.0"]);
        for (units, ranks) in [
            ("1.head.0", vec![3]),
            ("1", vec![1, 3]),
            ("0.attention,1.head.1", vec![1, 2, 4]),
            ("0.head.0,0.mlp", vec![4]),
        ] {
            assert_eq!(ranking.faulty_ranks(&faults(units)).unwrap(), ranks, "{units}");
        }
        assert!(matches!(ranking.faulty_ranks(&faults("0.mlp,1.neuron.3")), Err(Error::NoneFaulty { .. })));
    }

    #[test]
    fn a_block_is_faulty_when_a_part_of_it_is() {
        let ranking = read(&(line("0", 1.0) + &line("1", 2.0))).unwrap();
        assert_eq!(ranking.faulty_ranks(&faults("0.head.1")).unwrap(), [2]);
        assert_eq!(ranking.faulty_ranks(&faults("0.neuron.1,1")).unwrap(), [1, 2]);
    }

    #[test]
    fn hostile_rankings_are_refused_by_line() {
        let said = |text: String| match read(&text) {
            Err(Error::BadLine { line, reason, .. }) => format!("{line}: {reason}"),
            Err(Error::Incomplete { n, n_got, first, .. }) => format!("{n_got} of {n}, without {first}"),
            other => panic!("{text}: {other:?}"),
        };
        insta::assert_snapshot!(
            [
                said(String::new()),
                said("[]".into()),
                said("{\"unit\": \"0\"}".into()),
                said("{\"unit\": \"0\", \"score\": NaN}".into()),
                said("{\"unit\": \"0\", \"score\": 1e999}".into()),
                said("{\"unit\": \"0\", \"score\": 1, \"rank\": 1}".into()),
                said(line("0-1", 1.0)),
                said(line("2", 1.0)),
                said(line("0.head.2", 1.0)),
                said(line("0", 1.0) + "\n" + &line("0", 2.0)),
                said(line("0", 1.0) + &line("1.mlp", 2.0)),
                said(line("0.mlp", 1.0) + &line("1.mlp", 2.0)),
                said("{\"unit\": \"\u{1b}[2J\", \"score\": 1}".into()),
            ]
            .join("\n")
        );
    }
}
