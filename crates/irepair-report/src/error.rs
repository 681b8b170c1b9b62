//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with result files, or with writing a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A result file is not JSON of the expected form.
    #[error("result file cannot be read")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        source: serde_json::Error,
    },
    /// A result file of another schema version.
    #[error("result file has schema {got}, this version reads {want}")]
    Schema {
        /// The file, or the row when it did not come from a file.
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
        /// What this row says.
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
    /// A step selected a block that no model has.
    #[error("a selected block is none of any model")]
    NoSuchBlock {
        /// The row.
        row: String,
        /// No model has so many.
        max: usize,
        /// The block.
        block: usize,
    },
    /// A plot could not be drawn.
    #[error("plot `{name}` cannot be drawn: {why}")]
    Plot {
        /// File name of the plot.
        name: String,
        /// What the plot library says.
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
            Self::Schema { place, want, got } => Diagnostic::new(ExitKind::Data, "result file has another schema")
                .at(place)
                .want_got(want, got)
                .help("it was written by another version: run the row again with `--fresh`"),
            Self::MixedProfiles { row, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .help("numbers of different profiles are never mixed: make one report for each"),
            Self::MixedDefinitions { first, second, row, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .want_got(first, second)
                .help("numbers of different scorers or definitions are never mixed: run the older rows again"),
            Self::NoSuchBlock { row, max, block } => Diagnostic::new(ExitKind::Data, self)
                .at(format!("row `{row}`"))
                .want_got(format!("under {max}"), block)
                .help("the result file is damaged: delete it and run the row again"),
            Self::RepeatedSeed { .. } => {
                Diagnostic::new(ExitKind::Data, self).help("keep one of the two result directories")
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
