//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while measuring a sensitivity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The metric compares with a text that was not given.
    #[error("metric `{metric}` needs {what}")]
    Missing {
        /// The metric.
        metric: &'static str,
        /// What it lacks.
        what: &'static str,
    },
    /// The metric has no value at a mean gradient.
    #[error("metric `{metric}` has no norm of the mean gradient")]
    NoMeanGradient {
        /// The metric.
        metric: &'static str,
    },
    /// The metric compares the outputs of blocks, and the model does not show them.
    #[error("metric `{metric}` needs the output of every block, and the model shows its probe {got} of {want}")]
    NoBlockOutputs {
        /// The metric.
        metric: &'static str,
        /// Number of blocks.
        want: usize,
        /// Outputs shown.
        got: usize,
    },
    /// From the objective crate.
    #[error(transparent)]
    Objective(#[from] irepair_objective::Error),
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] irepair_model::Error),
    /// From the core crate: a value that is not finite.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Missing { .. } => {
                Diagnostic::new(ExitKind::Usage, self).help("use grad-l2, the paper's metric, or give that text")
            }
            Self::NoMeanGradient { .. } => Diagnostic::new(ExitKind::Usage, self)
                .help("it is made from single texts, activations or noise: use --reduction mean-of-norm"),
            Self::NoBlockOutputs { .. } => Diagnostic::new(ExitKind::Usage, self).help(
                "call `Probe::block` after each block in `hidden_states_probed`, or use grad-l2, which needs no probe",
            ),
            Self::Objective(error) => error.diagnostic(),
            Self::Model(error) => error.diagnostic(),
            Self::Core(error) => error.diagnostic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Missing: [Error::Missing { metric: "contrast", what: "chosen text" }],
            NoMeanGradient: [Error::NoMeanGradient { metric: "fisher" }],
            NoBlockOutputs: [Error::NoBlockOutputs { metric: "act-dist", want: 12, got: 0 }],
            Objective: [irepair_objective::Error::NothingCounted { what: "rejected text" }.into()],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Core: [irepair_core::Error::NoBlocks.into()],
        }));
    }
}
