//! Locators of other programs: the mutants for them to rank, and the grades of their rankings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_arch::UnitMap;
use irepair_config::Metric;
use irepair_core::fs::sha256_hex;
use irepair_core::{Diagnostic, ExitKind, Unit};
use irepair_fault::{FAULT_FILE, Ranking};
use irepair_stats::mean;

use super::graded::{Grade, Graded};
use super::locate::{Program, pairs_of};
use super::mutant::Case;
use crate::error::diagnostic;

/// The file of an exported mutant that says what it was made from.
const IDENTITY: &str = "identity";

/// What another program ranks by: the mutant as `model` without the file that names its fault, `pairs.jsonl` and
/// `neutral.jsonl`, in a directory of the mutant's name. One that is there already stays.
///
/// # Errors
/// A command that fails; a directory that cannot be written.
pub(super) fn export(case: &Case<'_>, graded: &Graded, program: &Program, to: &Path) -> Result<()> {
    let (out, identity) = (to.join(case.name()), case.inputs.key());
    if !graded.is_ranked() {
        return Ok(());
    }
    if out.exists() {
        if fs::read_to_string(out.join(IDENTITY)).is_ok_and(|found| found.trim() == identity) {
            return Ok(());
        }
        let other = "this mutant was written from another base model or other settings";
        return Err(Diagnostic::new(ExitKind::Usage, other)
            .at(out.display())
            .help("remove it, or choose another directory")
            .into());
    }
    program.begin()?;
    let (mutant, _) = pairs_of(case, graded.strength, program)?;
    // Whole, or not there.
    let half = to.join(format!(".{}", case.name()));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    let model = half.join("model");
    fs::create_dir_all(&model).with_context(|| format!("making {}", model.display()))?;
    for entry in fs::read_dir(&mutant)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != FAULT_FILE {
            fs::copy(entry.path(), model.join(entry.file_name()))?;
        }
    }
    fs::copy(program.dir.join("pairs.jsonl"), half.join("pairs.jsonl"))?;
    fs::copy(&case.tests.neutral, half.join("neutral.jsonl"))?;
    fs::write(half.join(IDENTITY), identity + "\n")?;
    fs::rename(&half, &out).with_context(|| format!("writing {}", out.display()))?;
    program.clear()
}

/// The name of a directory of rankings, which is that of its row.
///
/// # Errors
/// A path without one.
pub(super) fn name(rankings: &Path) -> Result<String> {
    let name = rankings.file_name().with_context(|| format!("{} has no name", rankings.display()))?;
    let name = name.to_string_lossy().into_owned();
    if Metric::ALL.iter().any(|metric| metric.to_string() == name) {
        let what = format!("`{name}` is a locator of this program: give the directory of rankings another name");
        return Err(Diagnostic::new(ExitKind::Usage, what).at(rankings.display()).into());
    }
    Ok(name)
}

/// The grade of the ranking `<mutant>.jsonl` of a directory; none for a mutant that no locator is graded on.
///
/// # Errors
/// A ranking that is missing, or broken: one that leaves mutants out is not compared.
pub(super) fn grade(case: &Case<'_>, graded: &Graded, rankings: &Path) -> Result<Option<Grade>> {
    if !graded.is_ranked() {
        return Ok(None);
    }
    let path: PathBuf = rankings.join(format!("{}.jsonl", case.name()));
    if !path.exists() {
        let missing = Diagnostic::new(ExitKind::Data, "a ranking is missing: a locator ranks every mutant of a table");
        return Err(missing.at(path.display()).into());
    }
    let map: UnitMap = case.tests.map()?;
    let ranking = Ranking::read(&path, &map).map_err(diagnostic)?;
    if ranking.kind() != case.kind {
        let what =
            format!("the units ranked are of kind {}, those of the mutant of kind {}", ranking.kind(), case.kind);
        return Err(Diagnostic::new(ExitKind::Data, what).at(path.display()).into());
    }
    Ok(Some(Grade::of(case, &ranking, None)))
}

impl Grade {
    /// Of a ranking that took so long, where that is known.
    pub(super) fn of(case: &Case<'_>, ranking: &Ranking, seconds: Option<f64>) -> Self {
        let (order, faulty) = (drawn(ranking, &case.name()), case.place.iter().collect::<BTreeSet<&Unit>>());
        let ranks = order.iter().enumerate().filter(|(_, unit)| case.has_ranks() && faulty.contains(unit));
        let ranks: Vec<usize> = ranks.map(|(i, _)| i + 1).collect();
        let first = order[..ranks.len().max(1)].to_vec();
        Self { ranks, first, last: order[order.len() - 1], outlier: outlier(ranking.scores()), seconds, numbers: 0 }
    }
}

/// The order of a ranking, in which units of equal scores stand in an order that a name draws: the lower unit first
/// would be right more often than chance where faults lie low.
fn drawn(ranking: &Ranking, name: &str) -> Vec<Unit> {
    let mut drawn = Vec::with_capacity(ranking.order().len());
    let scored: Vec<(&Unit, &f64)> = ranking.order().iter().zip(ranking.scores()).collect();
    for equal in scored.chunk_by(|a, b| a.1 == b.1) {
        let mut equal: Vec<Unit> = equal.iter().map(|(unit, _)| **unit).collect();
        if equal.len() > 1 {
            equal.sort_by_cached_key(|unit| sha256_hex(format!("{name} {unit}").as_bytes()));
        }
        drawn.append(&mut equal);
    }
    drawn
}

/// How far the largest value stands out from all: in standard deviations from the mean; 0 where all are equal.
fn outlier(values: &[f64]) -> f64 {
    let (n, mean) = (values.len() as f64, mean(values).unwrap_or_default());
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if deviation > 0.0 { (largest - mean) / deviation } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use irepair_config::UnitKind;

    use super::*;

    #[test]
    fn equal_scores_stand_in_an_order_that_the_name_draws() {
        let unit = |i: usize| i.to_string().parse::<Unit>().unwrap();
        let scores = |i: usize| if i == 7 { 1.0 } else { 0.0 };
        let ranking = Ranking::of_scores(UnitKind::Block, (0..12).map(|i| (unit(i), scores(i))));
        let mut second = BTreeSet::new();
        for seed in 0..200 {
            let order = drawn(&ranking, &format!("mutant-{seed}"));
            assert_eq!(order, drawn(&ranking, &format!("mutant-{seed}")));
            assert_eq!((order[0], order.iter().collect::<BTreeSet<_>>().len()), (unit(7), 12));
            second.insert(order[1]);
        }
        assert_eq!(second.len(), 11, "every one of them comes first now and then");
    }

    #[test]
    fn one_score_above_equal_ones_stands_out_by_the_root_of_how_many_they_are() {
        assert!((outlier(&[1.0, 1.0, 5.0, 1.0, 1.0]) - 2.0).abs() < 1e-12);
        assert_eq!(outlier(&[3.0; 4]), 0.0);
        let scaled = [0.5, 2.0, 7.0].map(|value| 3.0 * value + 1.0);
        assert!((outlier(&scaled) - outlier(&[0.5, 2.0, 7.0])).abs() < 1e-12, "neither scale nor origin counts");
    }
}
