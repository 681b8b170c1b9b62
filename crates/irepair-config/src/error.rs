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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let help = Some("did you mean `batch_size`?".into());
        let unknown = Problem { line: Some(4), help, ..Problem::new("batch_sise", "unknown key") };
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Problems: [
                Error::Problems {
                    place: "job.toml".into(),
                    problems: vec![Problem::new("lr", "must be over 0"), unknown]
                },
                Error::Problems {
                    place: "the command line".into(),
                    problems: vec![Problem::new("lr", "must be over 0")]
                },
            ],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
