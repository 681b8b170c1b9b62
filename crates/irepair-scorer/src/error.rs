//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a scorer, its training or its file. A single text that fails is no error: it is missing and
/// counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Labels of one kind only.
    #[error("{what} has texts of one label only")]
    OneClass {
        /// Which texts.
        what: &'static str,
        /// How many there are.
        n: usize,
    },
    /// The minimiser gave up.
    #[error("fitting the scorer failed: {why}")]
    Fit {
        /// Why, from the library.
        why: String,
    },
    /// A file that is no linear scorer.
    #[error("scorer file is unreadable: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in a few words.
        reason: String,
    },
    /// A scorer of another format version.
    #[error("scorer file has another format version")]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version read here.
        want: u32,
        /// The version found.
        got: u64,
    },
    /// From the core crate.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] irepair_data::Error),
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::OneClass { n, .. } => Diagnostic::new(ExitKind::Data, self)
                .want_got("toxic and other texts", format!("{n} texts of one label"))
                .help("give more labelled texts, of both kinds"),
            Self::Fit { .. } => Diagnostic::new(ExitKind::Bug, self),
            Self::Unreadable { path, .. } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .help("make it again with `irepair scorer train`"),
            Self::OtherVersion { path, want, got } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .want_got(format!("version {want}"), format!("version {got}"))
                .help("train the scorer again with this program, or use the program that made it"),
            Self::Core(error) => error.diagnostic(),
            Self::Data(error) => error.diagnostic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            OneClass: [Error::OneClass { what: "the training file", n: 40 }],
            Fit: [Error::Fit { why: "the line search found no step".into() }],
            Unreadable: [Error::Unreadable { path: "scorer.json".into(), reason: "a weight is missing".into() }],
            OtherVersion: [Error::OtherVersion { path: "scorer.json".into(), want: 1, got: 2 }],
            Core: [irepair_core::Error::NoTokens.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
        }));
    }
}
