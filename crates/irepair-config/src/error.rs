//! The crate's error type.

use irepair_core::{Diagnostic, ExitKind};

use crate::Problem;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with settings.
    pub enum Error {
        /// Every problem found, in the order of the file; `place` is the file, or `the command line`.
        Problems { place: String, problems: Vec<Problem> } = "{} in {place}", count(problems) =>
            (Diagnostic::new(ExitKind::Usage, format!("{} in {place}{}", count(problems), list(problems))));
        /// A file or directory that cannot be read.
        Core(error: irepair_core::Error);
    }
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
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
