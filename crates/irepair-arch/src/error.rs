//! The crate's error type.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a `config.json`.
    pub enum Error {
        /// A key has a value that is not supported.
        Unsupported { path: PathBuf, key: String, want: String, got: String } = "unsupported model setting" =>
            Usage.at_part(path, "key", key).want_got(want, got)
                .help("docs/FILES.md lists the model families and the settings that are supported");
        /// The file is missing or cannot be read.
        Core(error: irepair_core::Error);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
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
