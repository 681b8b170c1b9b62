//! The crate's error type.

use irepair_core::spec::{Number, Policy};
use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in a policy or its arguments.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number of the policy is out of range.
    #[error("`{number}` is out of range for policy {kind}")]
    OutOfRange {
        /// The policy.
        kind: Policy,
        /// The number.
        number: Number,
        /// The value.
        got: f64,
    },
    /// The policy needs sensitivities at this step and got none.
    #[error("policy {kind} has no sensitivities at step {step}")]
    NoSensitivities {
        /// The policy.
        kind: Policy,
        /// The step.
        step: u64,
    },
    /// Sensitivities of another model.
    #[error("sensitivities are of a model with another number of blocks")]
    WrongBlockCount {
        /// Blocks of the model.
        want: usize,
        /// Blocks of the sensitivities.
        got: usize,
    },
    /// A model without blocks, or remembered sensitivities that are not finite.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::OutOfRange { number, got, .. } => {
                Diagnostic::new(ExitKind::Usage, self).want_got(number.row().range, got)
            }
            Self::NoSensitivities { .. } => Diagnostic::new(ExitKind::Bug, self).help(
                "call needs_sensitivities and needs_fixed_estimate first, or restore the memory of the interrupted run",
            ),
            Self::WrongBlockCount { want, got } => Diagnostic::new(ExitKind::Data, self)
                .want_got(format!("{want} blocks"), got)
                .help("resume with the model that the run started with"),
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
            OutOfRange: [Error::OutOfRange { kind: Policy::Ema, number: Number::PolicyRho, got: 1.5 }],
            NoSensitivities: [Error::NoSensitivities { kind: Policy::Dynamic, step: 7 }],
            WrongBlockCount: [Error::WrongBlockCount { want: 12, got: 24 }],
            Core: [irepair_core::Error::NoBlocks.into()],
        }));
    }
}
