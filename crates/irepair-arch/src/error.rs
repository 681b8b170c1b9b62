//! The crate's error type and its wording.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("model file is missing")]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
    },
    /// It is no JSON object.
    #[error("model file is unreadable: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in a few words.
        reason: String,
    },
    /// A key has a value that is not supported.
    #[error("unsupported model setting")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Values that are supported.
        want: String,
        /// The value found.
        got: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl Error {
    /// The same error about a key inside `place`.
    pub(crate) fn below(self, place: &str) -> Self {
        match self {
            Self::Unsupported { path, key, want, got } => {
                Self::Unsupported { path, key: format!("{place}.{key}"), want, got }
            }
            other => other,
        }
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        let data = || Diagnostic::new(ExitKind::Data, self);
        match self {
            Self::MissingFile { path } => data().at(path.display()).help(
                "give a Hugging Face model directory: config.json, model.safetensors (or shards with \
                 model.safetensors.index.json) and tokenizer.json",
            ),
            Self::Unreadable { path, .. } => {
                data().at(path.display()).help("fetch the file again, then compare its size")
            }
            Self::Unsupported { path, key, want, got } => Diagnostic::new(ExitKind::Usage, self)
                .at(format!("{}, key `{key}`", path.display()))
                .want_got(want, got)
                .help("docs/FILES.md lists the model families and the settings that are supported"),
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
            MissingFile: [Error::MissingFile { path: "gpt2/config.json".into() }],
            Unreadable: [Error::Unreadable { path: "gpt2/config.json".into(), reason: "not a JSON object".into() }],
            Unsupported: [Error::Unsupported {
                path: "gpt2/config.json".into(),
                key: "model_type".into(),
                want: "one of gpt2, gpt_neo, llama, qwen2".into(),
                got: "\"t5\"".into()
            }],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
