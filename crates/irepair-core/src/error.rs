//! The crate's error type.

use std::path::PathBuf;

use crate::{BlockId, Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a shared value or a file operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sensitivity is NaN, infinite or negative.
    #[error("sensitivity of block {block} is {value}")]
    BadSensitivity {
        /// The offending block.
        block: BlockId,
        /// Its value.
        value: f64,
    },
    /// A model without blocks has no sensitivities.
    #[error("no blocks to rank")]
    NoBlocks,
    /// A slice size that selects nothing, or more than everything.
    #[error("slice size `{got}` is out of range")]
    BadSliceSize {
        /// The text as given.
        got: String,
    },
    /// A batch without a single token.
    #[error("batch holds no tokens")]
    NoTokens,
    /// A directory that another process is at work in.
    #[error("another process works in this directory")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("{action} failed")]
    Io {
        /// What was being done: `read`, `write`, `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, from the operating system.
        source: std::io::Error,
    },
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::BadSensitivity { .. } => Diagnostic::new(ExitKind::Outcome, self)
                .help("the model or its gradients diverged: lower the learning rate, or check the weights for NaN"),
            Self::NoBlocks => {
                Diagnostic::new(ExitKind::Data, self).help("a model wants one block at least: see its config.json")
            }
            Self::BadSliceSize { got } => Diagnostic::new(ExitKind::Usage, self)
                .want_got("a number of blocks like `1b`, or percent of the blocks over 0 and up to 100", got)
                .help("`--top-k 20` keeps the top 20 % of the blocks, `--top-k 3b` keeps three"),
            Self::NoTokens => Diagnostic::new(ExitKind::Data, self).help("give at least one text that is not empty"),
            Self::Busy { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("wait until it is done, or give another directory; a process that died holds none"),
            Self::Io { action, path, source } => {
                Diagnostic::new(ExitKind::Data, format!("{action} failed: {source}")).at(path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(crate::every_diagnostic!(Error {
            BadSensitivity: [Error::BadSensitivity { block: BlockId(3), value: f64::NAN }],
            NoBlocks: [Error::NoBlocks],
            BadSliceSize: [Error::BadSliceSize { got: "101%".into() }],
            NoTokens: [Error::NoTokens],
            Busy: [Error::Busy { path: "runs/a".into() }],
            Io: [Error::Io { action: "write", path: "runs/a".into(), source: std::io::Error::other("disk full") }],
        }));
    }
}
