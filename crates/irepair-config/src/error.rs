//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

use crate::Problem;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every problem found, in the order of the file.
    #[error("{} in {place}", count(.problems))]
    Problems {
        /// The file, or `the command line`.
        place: String,
        /// At least one.
        problems: Vec<Problem>,
    },
    /// A file or directory that cannot be read.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Problems { problems, .. } => {
                let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
                Diagnostic::new(ExitKind::Usage, format!("{self}{list}"))
            }
            Self::Core(error) => error.diagnostic(),
        }
    }
}
