//! The crate's error type.

use irepair_core::spec::{Number, Policy};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// An error in a policy or its arguments.
    pub enum Error {
        /// A number of the policy is out of range.
        OutOfRange { kind: Policy, number: Number, got: f64 } = "`{number}` is out of range for policy {kind}" =>
            Usage.want_got(number.row().range, got);
        /// The policy needs sensitivities at this step and got none.
        NoSensitivities { kind: Policy, step: u64 } = "policy {kind} has no sensitivities at step {step}" => Bug.help(
            "call needs_sensitivities and needs_fixed_estimate first, or restore the memory of the interrupted run"
        );
        /// Sensitivities of another model: the number of its blocks, and that of the sensitivities.
        WrongBlockCount { want: usize, got: usize } = "sensitivities are of a model with another number of blocks" =>
            Data.want_got(format!("{want} blocks"), got).help("resume with the model that the run started with");
        /// A model without blocks, or remembered sensitivities that are not finite.
        Core(error: irepair_core::Error);
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
