//! TOML settings; the first byte selects the kind.

use std::path::Path;

use irepair_config::{
    CheckOptions, Error, EvalOptions, FixOptions, GenerateOptions, Job, LearningRates, PairsOptions, PretrainOptions,
    Profile, RelearnOptions, RepairOptions, Row, ScoreOptions, ScorerEvalOptions, ScorerTrainOptions,
    SensitivityOptions, Validate, from_str,
};
use irepair_report::Suite;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shared::said;

/// Accepted settings read back equal after writing; a refusal names its problems, each with a line of the file.
///
/// # Panics
/// If that does not hold.
pub fn run(_: &Path, data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Kinds that came later stand at the end of the byte's range, so that older inputs keep theirs.
    match kind {
        252 => return same::<FixOptions>(text),
        253 => return same::<CheckOptions>(text),
        254 => return same::<Suite>(text),
        _ => {}
    }
    match kind % 14 {
        0 => same::<Job>(text),
        1 => same::<Row>(text),
        2 => same::<Profile>(text),
        3 => same::<LearningRates>(text),
        4 => same::<RepairOptions>(text),
        5 => same::<EvalOptions>(text),
        6 => same::<PretrainOptions>(text),
        7 => same::<ScorerTrainOptions>(text),
        8 => same::<ScorerEvalOptions>(text),
        9 => same::<SensitivityOptions>(text),
        10 => same::<ScoreOptions>(text),
        11 => same::<GenerateOptions>(text),
        12 => same::<RelearnOptions>(text),
        _ => same::<PairsOptions>(text),
    }
}

fn same<T: Serialize + DeserializeOwned + Validate>(text: &str) {
    match from_str::<T>(text, "fuzzed.toml") {
        Ok(value) => {
            let written = toml::to_string(&value).expect("settings are TOML");
            let again = from_str::<T>(&written, "again.toml");
            let again = again.unwrap_or_else(|error| panic!("refused when written again: {error:?}\n{written}"));
            assert_eq!(toml::to_string(&again).expect("settings are TOML"), written);
        }
        Err(error) => {
            said(&error);
            let Error::Problems { problems, .. } = &error else { panic!("{error}") };
            let n_lines = text.matches('\n').count() + 1;
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| problem.line.is_none_or(|line| (1..=n_lines).contains(&line))));
        }
    }
}
