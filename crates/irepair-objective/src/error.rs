//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with the input of an objective.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two tensors that must agree in shape do not.
    #[error("{what} has the wrong shape")]
    ShapeMismatch {
        /// Which tensor.
        what: &'static str,
        /// Shape it must have.
        want: Vec<i64>,
        /// Shape it has.
        got: Vec<i64>,
    },
    /// No token counts, so there is no mean.
    #[error("no token counts in the {what}")]
    NothingCounted {
        /// Which text.
        what: &'static str,
    },
    /// The objective needs a text or a reference that was not given.
    #[error("objective `{objective}` needs the {what}")]
    Missing {
        /// The objective.
        objective: String,
        /// What it lacks.
        what: &'static str,
    },
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::ShapeMismatch { want, got, .. } => {
                Diagnostic::new(ExitKind::Bug, self).want_got(format!("{want:?}"), format!("{got:?}"))
            }
            Self::NothingCounted { .. } => Diagnostic::new(ExitKind::Data, self)
                .help("a text of one token has nothing to predict: give longer texts or drop them"),
            Self::Missing { .. } => Diagnostic::new(ExitKind::Bug, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            ShapeMismatch: [Error::ShapeMismatch {
                what: "reference logits",
                want: vec![4, 24, 50257],
                got: vec![4, 23, 50257]
            }],
            NothingCounted: [Error::NothingCounted { what: "chosen text" }],
            Missing: [Error::Missing { objective: "dpo".into(), what: "reference" }],
        }));
    }
}
