//! The crate's error type.

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loss, gradient or weight stopped being a number.
    #[error("{what} is not finite at step {step}")]
    NotFinite {
        /// What went bad: the loss, or a parameter's gradient by name.
        what: String,
        /// Step, from 0.
        step: u64,
        /// Blocks that the step was to update.
        slice: String,
    },
    /// A setting that cannot work.
    #[error("setting `{key}` is out of range")]
    BadSetting {
        /// The key.
        key: &'static str,
        /// What it must be.
        want: &'static str,
        /// What it is.
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
            Self::NotFinite { slice, .. } => Diagnostic::new(ExitKind::Outcome, self)
                .at(format!("blocks {slice}"))
                .help("lower --lr or --clip-norm, or use --dtype f32; earlier checkpoints are untouched"),
            Self::BadSetting { want, got, .. } => Diagnostic::new(ExitKind::Usage, self).want_got(want, got),
            Self::TooLittle { want, got, .. } => {
                Diagnostic::new(ExitKind::Data, self).want_got(format!("at least {want}"), got)
            }
            Self::BadCheckpoint { path, .. } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give another --out, or delete that file to start over"),
            Self::Localise(diagnostic) => (**diagnostic).clone(),
            Self::Model(error) => error.diagnostic(),
            Self::Objective(error) => error.diagnostic(),
            Self::Data(error) => error.diagnostic(),
            Self::Core(error) => error.diagnostic(),
        }
    }
}
