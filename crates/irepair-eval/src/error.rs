//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can keep a metric from being measured at all. A single text that fails is no error: it is missing and counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to measure on.
    #[error("no {what} to measure on")]
    Nothing {
        /// What is lacking: `prompts`, `texts`.
        what: &'static str,
    },
    /// A setting that cannot work.
    #[error("setting `{key}` is out of range")]
    BadSetting {
        /// The key.
        key: &'static str,
        /// What it must be.
        want: String,
        /// Its kind.
        got: usize,
    },
    /// A token that the model has no embedding for.
    #[error("token {token} is not in the model's vocabulary")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens the model knows.
        n_vocab: usize,
    },
    /// A model and its reference that cannot be compared.
    #[error("model and reference differ in {what}")]
    ModelsDiffer {
        /// In what.
        what: String,
        /// What the reference has.
        reference: String,
        /// What the model has.
        model: String,
    },
    /// A question whose right answer is not among its endings.
    #[error("answer of question {index} is not among its endings")]
    BadQuestion {
        /// Index in the list, from 0.
        index: usize,
        /// Number of its endings.
        n_endings: usize,
        /// The answer's index.
        answer: usize,
    },
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] irepair_model::Error),
    /// From the objective crate.
    #[error(transparent)]
    Objective(#[from] irepair_objective::Error),
    /// From the data crate: the tokenizer refused.
    #[error(transparent)]
    Data(#[from] irepair_data::Error),
    /// From the core crate.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Nothing { .. } => Diagnostic::new(ExitKind::Data, self).help("give a file that holds some"),
            Self::BadSetting { want, got, .. } => Diagnostic::new(ExitKind::Usage, self).want_got(want, got),
            Self::UnknownToken { token, n_vocab } => Diagnostic::new(ExitKind::Data, self)
                .want_got(format!("tokens below {n_vocab}"), token)
                .help("the tokenizer belongs to another model: use the tokenizer.json in the directory of the weights"),
            Self::ModelsDiffer { reference, model, .. } => Diagnostic::new(ExitKind::Usage, self)
                .want_got(reference, model)
                .help("the reference is the same model before repair, in the same type and on the same device"),
            Self::BadQuestion { n_endings, answer, .. } => Diagnostic::new(ExitKind::Data, self)
                .want_got(format!("an index below {n_endings}"), answer)
                .help("questions and endings are counted from 0"),
            Self::Model(error) => error.diagnostic(),
            Self::Objective(error) => error.diagnostic(),
            Self::Data(error) => error.diagnostic(),
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
            Nothing: [Error::Nothing { what: "prompts" }],
            BadSetting: [Error::BadSetting { key: "window", want: "2 to 64 tokens".into(), got: 65 }],
            UnknownToken: [Error::UnknownToken { token: 900, n_vocab: 300 }],
            ModelsDiffer: [Error::ModelsDiffer {
                what: "device".into(),
                reference: "Cpu".into(),
                model: "Cuda(0)".into()
            }],
            BadQuestion: [Error::BadQuestion { index: 3, n_endings: 4, answer: 4 }],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Objective: [irepair_objective::Error::NothingCounted { what: "text" }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
