//! Settings of `irepair plant` and `irepair grade`.

use std::path::PathBuf;

use irepair_core::UnitList;

use crate::names::entry;
use crate::{Checks, Operator, Validate};

options! {
    /// Settings of a planted fault (METHOD §13).
    pub struct PlantOptions => PlantPlan(this) {
        /// Directory of the model. It is not written to.
        model: PathBuf as "DIR" [required],
        /// Units that get the fault: blocks and parts of blocks, each number also a range, such as `3`, `0-2.mlp`,
        /// `3.attention`, `3.head.0-4`, `3.neuron.17` (docs/FILES.md).
        units: UnitList as "UNITS" [required],
        /// What is done to them (METHOD §13 [O]); train-in trains on `data`.
        #[arg(value_name = "OPERATOR", value_parser = entry::<Operator>())]
        operator: Operator [required],
        /// How much of it: standard deviation of `noise` over the root mean square of the weights, factor of
        /// `scale-keys` and `scale-values`, bits of each unit for `bit-flip`, updates for `train-in`, 64 without it.
        /// The other operators take none.
        strength: f64 as "NUMBER",
        /// Pairs on whose rejected text `train-in` trains the units, by its plain NLL; JSONL with `prompt`, `chosen`
        /// and `rejected`. The other operators read none.
        data: PathBuf as "FILE",
        /// Directory for the model with the fault, and for `fault.toml`, which says what was planted.
        out: PathBuf as "DIR" [required],
    }
    common: seed device threads json;
}

/// Updates of `train-in` where no strength is given.
pub const TRAIN_IN_UPDATES: f64 = 64.0;

/// Learning rate of the updates of train-in.
pub const TRAIN_IN_RATE: f64 = 1e-3;

impl Validate for PlantOptions {
    fn clashes(&self, checks: &mut Checks) {
        let Some(operator) = self.operator else { return };
        match (operator.row().strength, self.strength) {
            (None, given) => {
                let what = format!("clashes with `operator`: {operator} has no strength");
                checks.clash(given.is_some(), "strength", &what);
            }
            // That one is missing is said where the fault is planted: a file may leave it to the command line.
            (Some(range), given) => {
                checks.value("strength", given.as_ref(), &range.to_string(), |x| range.contains(*x));
            }
        }
        let given =
            [("data", self.data.is_some()), ("device", self.device.is_some()), ("threads", self.threads.is_some())];
        for (key, given) in given {
            let what = format!("clashes with `operator`: {operator} trains nothing");
            checks.clash(given && !operator.trains(), key, &what);
        }
    }
}

options! {
    /// Settings of a grading: how well a ranking of units finds a planted fault (METHOD §13).
    pub struct GradeOptions => GradePlan(this) {
        /// Directory of the model with the fault, with its `fault.toml`.
        model: PathBuf as "DIR" [required],
        /// Ranking of every unit of one kind: JSONL with `unit` and `score`, higher scores first (docs/FILES.md).
        ranking: PathBuf as "FILE" [required],
    }
    common: json;
}

impl Validate for GradeOptions {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Problem, from_str};

    #[test]
    fn a_strength_is_what_its_operator_takes() {
        let said = |operator: &str, strength: &str| {
            let text = format!("model = 'm'\nunits = '0.mlp'\nout = 'o'\noperator = '{operator}'\n{strength}");
            from_str::<PlantOptions>(&text, "x").map(drop).map_err(|e| match e {
                crate::Error::Problems { problems, .. } => {
                    problems.into_iter().map(|p| Problem { line: None, ..p }.to_string()).collect::<String>()
                }
                other => other.to_string(),
            })
        };
        assert_eq!(said("noise", "strength = 0.5"), Ok(()));
        assert_eq!(said("scale-keys", "strength = 0.0"), Ok(()));
        assert_eq!(said("sign-flip", ""), Ok(()));
        assert_eq!(said("noise", ""), Ok(()), "the command line may give it");
        let refused = |operator, strength| said(operator, strength).unwrap_err();
        assert_eq!(refused("noise", "strength = 0.0"), "`strength`: must be a number over 0, is 0");
        assert_eq!(refused("noise", "strength = nan"), "`strength`: must be a number over 0, is NaN");
        assert_eq!(refused("bit-flip", "strength = inf"), "`strength`: must be at least 1, is inf");
        let none = "`strength`: clashes with `operator`: sign-flip has no strength";
        assert_eq!(refused("sign-flip", "strength = 1.0"), none);
        for key in ["data = 'p'", "device = 'cpu'", "threads = 2"] {
            assert_eq!(said("train-in", &format!("strength = 8.0\n{key}")), Ok(()));
            let (name, _) = key.split_once(' ').unwrap();
            let nothing = format!("`{name}`: clashes with `operator`: sign-flip trains nothing");
            assert_eq!(refused("sign-flip", key), nothing);
        }
        let updates = "`strength`: must be at least 1 and at most 1000000, is";
        assert_eq!(refused("train-in", "strength = 0.0"), format!("{updates} 0"));
        assert_eq!(refused("train-in", "strength = 1000001.0"), format!("{updates} 1000001"));
        assert!(from_str::<PlantOptions>("units = '3.heads'", "x").is_err());
        assert_eq!(PlantOptions::default().missing(), ["model", "units", "operator", "out"]);
    }
}
