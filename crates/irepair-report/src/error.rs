//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in result files, or in writing a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A result file is not JSON of the expected form.
    #[error("result file cannot be read")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: serde_json::Error,
    },
    /// A result file of another schema version.
    #[error("result file has schema {got}, this version reads {want}")]
    Schema {
        /// The file, or the row when it was not read from a file.
        place: String,
        /// The version this crate reads.
        want: u32,
        /// The version found.
        got: u32,
    },
    /// Results of two profiles in one report.
    #[error("results of profiles `{first}` and `{second}` cannot share a table")]
    MixedProfiles {
        /// One profile.
        first: String,
        /// The other.
        second: String,
        /// The row of the second.
        row: String,
    },
    /// One metric, two definitions.
    #[error("metric `{metric}` is defined in two ways")]
    MixedDefinitions {
        /// The metric's key.
        metric: String,
        /// Definition, unit and version seen first.
        first: String,
        /// Those of this row.
        second: String,
        /// The row that differs.
        row: String,
    },
    /// The same row, model and seed twice.
    #[error("row `{row}` of model `{model}` has seed {seed} twice")]
    RepeatedSeed {
        /// The row.
        row: String,
        /// Its model.
        model: String,
        /// The repeated seed.
        seed: u64,
    },
    /// A step selected a block whose number is higher than any model's.
    #[error("a selected block has an impossible number")]
    NoSuchBlock {
        /// The row.
        row: String,
        /// Upper limit of the number of blocks.
        max: usize,
        /// The block.
        block: usize,
    },
    /// A plot could not be drawn.
    #[error("plot `{name}` cannot be drawn: {why}")]
    Plot {
        /// File name of the plot.
        name: String,
        /// The plot library's error.
        why: String,
    },
    /// The page could not be filled in.
    #[error("report page cannot be rendered")]
    Page(#[from] minijinja::Error),
    /// Reading or writing a file failed.
    #[error(transparent)]
    File(#[from] irepair_core::Error),
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Json { path, source } => Diagnostic::new(ExitKind::Data, format!("{self}: {source}"))
                .at(path.display())
                .help("delete this file and run the row again"),
            Self::Schema { place, want, got } => {
                Diagnostic::new(ExitKind::Data, "result file has another schema version")
                    .at(place)
                    .want_got(want, got)
                    .help("another version of irepair wrote it: run the row again with `--fresh`")
            }
            Self::MixedProfiles { row, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .help("write one report for each profile"),
            Self::MixedDefinitions { first, second, row, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .want_got(first, second)
                .help("a table cannot mix scorers or definitions: run the older rows again"),
            Self::NoSuchBlock { row, max, block } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .want_got(format!("under {max}"), block)
                .help("the result file is damaged: delete it and run the row again"),
            Self::RepeatedSeed { .. } => {
                Diagnostic::new(ExitKind::Data, self).help("remove one of the two result directories")
            }
            Self::Plot { .. } => Diagnostic::new(ExitKind::Bug, self),
            Self::Page(source) => Diagnostic::new(ExitKind::Bug, format!("{self}: {source}")),
            Self::File(error) => error.diagnostic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let not_json = serde_json::from_str::<serde_json::Value>("{\"schema\":").unwrap_err();
        let page = minijinja::Error::new(minijinja::ErrorKind::UndefinedError, "`rows` is not there");
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Json: [Error::Json { path: "runs/a/result.json".into(), source: not_json }],
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
            Page: [page.into()],
            File: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
