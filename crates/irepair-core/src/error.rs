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
    /// A name that is in no row of a table of [`spec`](crate::spec).
    #[error("no {what} is called `{got}`")]
    UnknownName {
        /// What the table lists.
        what: &'static str,
        /// The name as given.
        got: String,
        /// The names there are.
        want: String,
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
    /// A directory that went while it was written to.
    #[error("directory was removed while it was written to")]
    Removed {
        /// The directory.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("{action} failed")]
    Io {
        /// What was being done: `read`, `write`, `rename`, `remove`.
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
            Self::UnknownName { want, got, .. } => Diagnostic::new(ExitKind::Usage, self).want_got(want, got),
            Self::NoTokens => Diagnostic::new(ExitKind::Data, self).help("give at least one text that is not empty"),
            Self::Busy { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("wait until it is done, or give another directory; a process that died holds none"),
            Self::Removed { path } => Diagnostic::new(ExitKind::Data, self)
                .at(path.display())
                .help("what it held is gone: the same command starts anew"),
            Self::Io { action, path, source } => {
                let (why, help) = reason(source);
                let diagnostic = Diagnostic::new(ExitKind::Data, format!("{action} failed: {why}")).at(path.display());
                match help {
                    Some(help) if *action != "read" => diagnostic.help(help),
                    _ => diagnostic,
                }
            }
        }
    }
}

/// What the operating system says, in words, and what can be done where something cannot be written.
fn reason(source: &std::io::Error) -> (String, Option<&'static str>) {
    use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kept = |why: &str, help| (why.to_owned(), Some(help));
    match source.kind() {
        StorageFull => {
            kept("no space left", "free some space, then the same command goes on: what was finished is kept")
        }
        QuotaExceeded => kept(
            "no space left in your quota",
            "free some space, then the same command goes on: what was finished is kept",
        ),
        FileTooLarge => kept(
            "file is larger than may be written here",
            "raise the limit (`ulimit -f`) or take another file system, then the same command goes on: what was finished is kept",
        ),
        ReadOnlyFilesystem | PermissionDenied => {
            (source.to_string(), Some("give a place that may be written to; what was there is untouched"))
        }
        _ => (source.to_string(), None),
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
            UnknownName: ["dynamik".parse::<crate::spec::Policy>().unwrap_err()],
            NoTokens: [Error::NoTokens],
            Busy: [Error::Busy { path: "runs/a".into() }],
            Removed: [Error::Removed { path: "runs/a".into() }],
            Io: [Error::Io { action: "write", path: "runs/a".into(), source: std::io::Error::other("disk full") }],
        }));
    }

    #[test]
    fn a_full_disk_says_how_to_go_on() {
        let text = |kind: std::io::ErrorKind, action: &'static str| {
            Error::Io { action, path: "out/model.safetensors".into(), source: kind.into() }.diagnostic().to_string()
        };
        assert_eq!(
            text(std::io::ErrorKind::StorageFull, "write"),
            "error: write failed: no space left\n   at: out/model.safetensors\n help: free some space, then the same command \
             goes on: what was finished is kept"
        );
        assert!(text(std::io::ErrorKind::QuotaExceeded, "write").contains("no space left in your quota"));
        assert!(text(std::io::ErrorKind::FileTooLarge, "write").contains("`ulimit -f`"));
        assert!(text(std::io::ErrorKind::PermissionDenied, "write").contains("a place that may be written to"));
        assert!(!text(std::io::ErrorKind::PermissionDenied, "read").contains("help:"));
    }
}
