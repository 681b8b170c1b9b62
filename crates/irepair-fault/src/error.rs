//! The crate's error type.

use std::path::PathBuf;

use irepair_core::printable;
use irepair_core::spec::{Operator, UnitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a fault, the model that it is planted in, or a ranking.
    pub enum Error {
        /// A file, a list of units, or a unit that the model does not have.
        Core(error: irepair_core::Error);
        /// A strength that the operator does not take, or none where it needs one.
        Strength { operator: Operator, want: String, got: String } = "operator {operator} cannot have this strength" =>
            Usage.at("strength").want_got(want, got);
        /// A unit on which the operator does not act.
        Unsuited { operator: Operator, unit: String, want: String } = "operator {operator} does not act on this unit" =>
            Usage.at("units").want_got(want, unit);
        /// Pairs of an operator that reads none, or none of one that trains.
        Data { operator: Operator, want: &'static str, got: String } = "operator {operator} cannot have this data" =>
            Usage.at("data").want_got(*want, got);
        /// An operator that needs more than stored weights.
        Trains { operator: Operator } = "operator {operator} trains, and is not planted in stored weights" =>
            Usage.at("operator").help("`irepair plant` trains on pairs; this library gives it no data");
        /// A tensor of the model that is missing, or not what `config.json` says.
        Misfit { path: PathBuf, tensor: String, want: String, got: String } = "tensor does not fit config.json" =>
            Data.at_part(path, "tensor", &printable(tensor)).want_got(want, got)
                .help("the directory holds another model than its config.json says: get both from one place");
        /// A weight that would become infinite or NaN, or is so already.
        NotFinite { tensor: String, n: usize } = "{n} weights would not be finite" =>
            Outcome.at(format!("tensor `{}`", printable(tensor)))
                .help("take a smaller strength; weights that are infinite or NaN already cannot hold a planted fault");
        /// An operator that leaves every weight as it is.
        NoEffect { operator: Operator, units: String } = "the fault changes no weight" =>
            Unchanged.at(units).help(format!("{operator} of this strength leaves these units as they are: take another strength or operator"));
        /// A fault after which the model is the one that an earlier fault was planted in.
        Undone { fault: usize } = "the fault takes the model back to what it was before fault {fault}" =>
            Unchanged.at("units").help("take another operator, strength or seed, or other units");
        /// A fault that may take away an earlier one.
        Again { operator: Operator, unit: String, fault: usize } = "{operator} is in unit {unit} already, by fault {fault}" =>
            Unchanged.at("units").help("planted again it may take that fault away: take other units, or another operator");
        /// A model without a record of faults.
        NoFault { path: PathBuf } = "the model has no record of faults" =>
            Data.at(path.display()).help("`irepair plant` writes it next to the model that it makes");
        /// A model whose weights are not those that its faults were planted in.
        OtherModel { path: PathBuf } = "the weights are not those that the faults were planted in" =>
            Data.at(path.display()).help("the model was repaired, patched or trained since: plant in it again, or take the one that `irepair plant` wrote");
        /// A key of `fault.toml`.
        BadFault { path: PathBuf, reason: String } = "file is no record of faults: {reason}" =>
            Data.at(path.display()).help("docs/FILES.md has its keys; `irepair plant` writes it");
        /// A line of a ranking.
        BadLine { path: PathBuf, line: usize, reason: String } = "ranking cannot be read: {reason}" =>
            Data.at(format!("{}, line {line}", path.display()))
                .help("a line is {\"unit\": \"3.head.5\", \"score\": 0.25}: docs/FILES.md, Rankings");
        /// A ranking that does not rank every unit of its kind.
        Incomplete { path: PathBuf, kind: UnitKind, n: usize, n_got: usize, first: String } =
            "ranking leaves out units" =>
            Data.at(path.display()).want_got(format!("all {n} units of kind {kind}"), format!("{n_got}, without {first}"))
                .help("give every unit a score; those that the locator did not look at can share the lowest");
        /// A fault of which no unit of the ranking's kind is a part.
        NoneFaulty { kind: UnitKind, faults: String } = "no unit of kind {kind} holds the fault" =>
            Data.at(faults).help("rank units of a kind that the fault was planted in, or of a larger one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let operator = Operator::Noise;
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Core: [irepair_core::Error::NoTokens.into()],
            Strength: [
                Error::Strength { operator, want: "a number over 0".into(), got: "none".into() },
                Error::Strength { operator: Operator::SignFlip, want: "none".into(), got: "2".into() },
            ],
            Unsuited: [Error::Unsuited {
                operator: Operator::HeadSwap,
                unit: "3.mlp".into(),
                want: "units of kind head".into()
            }],
            Data: [
                Error::Data { operator: Operator::TrainIn, want: "pairs", got: "none".into() },
                Error::Data { operator, want: "none", got: "0a1b".into() },
            ],
            Trains: [Error::Trains { operator: Operator::TrainIn }],
            Misfit: [Error::Misfit {
                path: "gpt2".into(),
                tensor: "h.3.attn.c_proj.weight".into(),
                want: "[768, 768]".into(),
                got: "no such tensor".into()
            }],
            NotFinite: [Error::NotFinite { tensor: "h.3.mlp.c_proj.weight".into(), n: 12 }],
            NoEffect: [Error::NoEffect { operator: Operator::ScaleKeys, units: "3.mlp".into() }],
            Undone: [Error::Undone { fault: 1 }],
            Again: [Error::Again { operator: Operator::SignFlip, unit: "3.head.5".into(), fault: 2 }],
            NoFault: [Error::NoFault { path: "gpt2/fault.toml".into() }],
            OtherModel: [Error::OtherModel { path: "mutant/fault.toml".into() }],
            BadFault: [Error::BadFault { path: "mutant/fault.toml".into(), reason: "unknown key `unit`".into() }],
            BadLine: [Error::BadLine { path: "ranking.jsonl".into(), line: 7, reason: "unit `3` occurs twice".into() }],
            Incomplete: [Error::Incomplete {
                path: "ranking.jsonl".into(),
                kind: UnitKind::Head,
                n: 144,
                n_got: 143,
                first: "3.head.5".into()
            }],
            NoneFaulty: [Error::NoneFaulty { kind: UnitKind::Neuron, faults: "3.head.5".into() }],
        }));
    }
}
