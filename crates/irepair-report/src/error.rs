//! The crate's error type.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// An error in result files, or in writing a report.
    pub enum Error {
        /// A result file is not JSON of the expected form; why, from the parser, with line and column.
        Json { path: PathBuf, why: String } = "result file cannot be read: {why}" =>
            Data.at(path.display()).help("delete this file and run the row again");
        /// A result file of another schema version, or a row that was not read from a file.
        Schema { place: String, want: u32, got: u32 } = "result file has another schema version" =>
            Data.at(place).want_got(want, got)
                .help("another version of irepair wrote it: run the row again with `--fresh`");
        /// Results of two profiles in one report; the row is of the second.
        MixedProfiles { first: String, second: String, row: String } =
            "results of profiles `{first}` and `{second}` cannot share a table" =>
            Data.at(format!("row `{row}`")).help("write one report for each profile");
        /// One metric with two definitions, units or versions; the row has the second.
        MixedDefinitions { metric: String, first: String, second: String, row: String } =
            "metric `{metric}` is defined in two ways" =>
            Data.at(format!("row `{row}`")).want_got(first, second)
                .help("a table cannot mix scorers or definitions: run the older rows again");
        /// The same row, model and seed twice.
        RepeatedSeed { row: String, model: String, seed: u64 } =
            "row `{row}` of model `{model}` has seed {seed} twice" =>
            Data.help("remove one of the two result directories");
        /// A step selected a block whose number is higher than any model's.
        NoSuchBlock { row: String, max: usize, block: usize } = "a selected block has an impossible number" =>
            Data.at(format!("row `{row}`")).want_got(format!("under {max}"), block)
                .help("the result file is damaged: delete it and run the row again");
        /// A plot could not be drawn; why, from the plot library.
        Plot { name: String, why: String } = "plot `{name}` cannot be drawn: {why}" => Bug;
        /// The page could not be filled in; why, from the template library.
        Page { why: String } = "report page cannot be rendered: {why}" => Bug;
        /// A suite that says what cannot be checked; why, all of it.
        BadSuite { path: PathBuf, why: String } = "suite cannot be read: {why}" =>
            Data.at(path.display()).help("correct it (docs/FILES.md), or write the suite again");
        /// A suite of another format version.
        OtherSuite { path: PathBuf, want: u32, got: i64 } = "suite has another format version" =>
            Data.at(path.display()).want_got(format!("version {want}"), format!("version {got}"))
                .help("use the program that wrote it, or write the suite again");
        /// A file that a suite names and that may not be read.
        OutsideSuite { path: PathBuf, file: String, why: &'static str } = "file of a suite {why}" =>
            Data.at(format!("{}, file {file:?}", path.display()))
                .help("a suite's files are in its directory, by their names relative to it");
        /// Reading or writing a file failed.
        File(error: irepair_core::Error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let not_json = serde_json::from_str::<serde_json::Value>("{\"schema\":").unwrap_err().to_string();
        let page = "undefined value: `rows` is not there".to_owned();
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Json: [Error::Json { path: "runs/a/result.json".into(), why: not_json }],
            Schema: [Error::Schema { place: "runs/a/result.json".into(), want: 1, got: 2 }],
            NoSuchBlock: [Error::NoSuchBlock { row: "dpo".into(), max: 64, block: 70 }],
            MixedProfiles: [Error::MixedProfiles { first: "planted".into(), second: "real".into(), row: "dpo".into() }],
            MixedDefinitions: [Error::MixedDefinitions {
                metric: "tox".into(),
                first: "lexicon, 1".into(),
                second: "linear, 1".into(),
                row: "dpo".into(),
            }],
            RepeatedSeed: [Error::RepeatedSeed { row: "dpo".into(), model: "small".into(), seed: 3 }],
            Plot: [Error::Plot { name: "tox.svg".into(), why: "no points".into() }],
            Page: [Error::Page { why: page }],
            BadSuite: [Error::BadSuite {
                path: "suite/suite.toml".into(),
                why: "`clauses[1].most`: must be from 0 to 1".into(),
            }],
            OtherSuite: [Error::OtherSuite { path: "suite/suite.toml".into(), want: 1, got: 2 }],
            OutsideSuite: [Error::OutsideSuite {
                path: "suite/suite.toml".into(),
                file: "../prompts.jsonl".into(),
                why: "is outside its directory",
            }],
            File: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
