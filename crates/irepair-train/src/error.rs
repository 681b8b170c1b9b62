//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind, Scope};

use crate::SampledIndices;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loss, sensitivity, gradient or weight stopped being a number.
    #[error("{what} at step {step}")]
    NotFinite {
        /// What went bad, as `the loss is not finite`; weights and gradients by name.
        what: String,
        /// Step, from 0, whose forward pass or update it was.
        step: u64,
        /// What the step was to update, or the block of a weight; none before that is known.
        scope: Option<Scope>,
        /// The texts of the step.
        drawn: SampledIndices,
    },
    /// A setting that cannot work.
    #[error("setting `{key}` is out of range")]
    BadSetting {
        /// The key.
        key: &'static str,
        /// What it must be.
        want: &'static str,
        /// Its kind.
        got: String,
    },
    /// There is too little data for what was asked.
    #[error("not enough {what}")]
    TooLittle {
        /// Which data.
        what: &'static str,
        /// How many are needed.
        want: usize,
        /// How many there are.
        got: usize,
    },
    /// A checkpoint that does not belong to this run.
    #[error("checkpoint does not fit this run: {reason}")]
    BadCheckpoint {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Choosing the blocks failed.
    #[error("choosing the slice failed: {}", .0.what)]
    Localise(Box<Diagnostic>),
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] irepair_model::Error),
    /// From the objective crate.
    #[error(transparent)]
    Objective(#[from] irepair_objective::Error),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] irepair_data::Error),
    /// From the core crate.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::NotFinite { scope, drawn, .. } => {
                let scope = match scope {
                    Some(Scope::Everything) => "every parameter; ".to_owned(),
                    Some(Scope::Blocks(slice)) => format!("blocks {slice}; "),
                    None => String::new(),
                };
                Diagnostic::new(ExitKind::Outcome, self)
                    .at(format!("{scope}training pairs {} (counted from 0)", listed(&drawn.pairs)))
                    .help("lower the learning rate, and look at these texts; earlier checkpoints are untouched")
            }
            Self::BadSetting { want, got, .. } => Diagnostic::new(ExitKind::Usage, self).want_got(want, got),
            Self::TooLittle { want, got, .. } => {
                Diagnostic::new(ExitKind::Data, self).want_got(format!("at least {want}"), got)
            }
            Self::BadCheckpoint { path, .. } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("undo the change to resume, or start a new run: give another --out, or delete that file"),
            Self::Localise(diagnostic) => (**diagnostic).clone(),
            Self::Model(error) => error.diagnostic(),
            Self::Objective(error) => error.diagnostic(),
            Self::Data(error) => error.diagnostic(),
            Self::Core(error) => error.diagnostic(),
        }
    }
}

/// Pairs a message lists before it counts the rest.
const N_LISTED: usize = 16;

fn listed(indices: &[usize]) -> String {
    let shown: Vec<String> = indices.iter().take(N_LISTED).map(usize::to_string).collect();
    let rest = indices.len() - shown.len();
    shown.join(", ") + &if rest > 0 { format!(" and {rest} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let drawn = |n| SampledIndices { pairs: (0..n).collect(), utility: vec![] };
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            NotFinite: [
                Error::NotFinite {
                    what: "the loss is not finite".into(),
                    step: 7,
                    scope: Some(Scope::Everything),
                    drawn: drawn(2)
                },
                Error::NotFinite {
                    what: "weight `h.2.ln_1.weight` is not finite".into(),
                    step: 7,
                    scope: None,
                    drawn: drawn(40)
                },
            ],
            BadSetting: [Error::BadSetting { key: "lr", want: "a finite number over 0", got: "NaN".into() }],
            TooLittle: [Error::TooLittle { what: "training pairs", want: 1, got: 0 }],
            BadCheckpoint: [Error::BadCheckpoint {
                path: "run.safetensors".into(),
                reason: "a tensor is missing".into()
            }],
            Localise: [Error::Localise(Box::new(irepair_core::Error::NoBlocks.diagnostic()))],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Objective: [irepair_objective::Error::NothingCounted { what: "chosen text" }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
