//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with data, a tokenizer, or a draw from them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Opening, reading or writing a file failed.
    #[error(transparent)]
    File(#[from] irepair_core::Error),
    /// The file is something else under the name of a data file.
    #[error("data file is {found}")]
    NotData {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: Impostor,
    },
    /// The file was read to its end and held nothing to use.
    #[error("file holds no {wanted}")]
    NoRecords {
        /// The file.
        path: PathBuf,
        /// What was looked for: `pairs`, `texts`, `prompts`.
        wanted: &'static str,
    },
    /// A line longer than any real record.
    #[error("line is longer than {max_bytes} bytes")]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// A line that is not UTF-8.
    #[error("line is not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
    /// A line that is not JSON.
    #[error("line is not JSON")]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A record whose value is missing or of the wrong type.
    #[error("record has a wrong `{key}`")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// The key, dotted when nested.
        key: String,
        /// What it should hold.
        want: &'static str,
        /// What it holds.
        got: String,
    },
    /// No tokenizer files in a directory.
    #[error("directory has no tokenizer")]
    NoTokenizer {
        /// The directory.
        dir: PathBuf,
    },
    /// A tokenizer file that cannot be used.
    #[error("tokenizer file cannot be used: {why}")]
    BadTokenizer {
        /// The file.
        path: PathBuf,
        /// Why, from the tokenizers library or from our own check.
        why: String,
    },
    /// A tokenizer whose end-of-text token is not known.
    #[error("tokenizer has no end-of-text token")]
    NoEos {
        /// The directory.
        dir: PathBuf,
    },
    /// The tokenizers library refused to train, encode or decode.
    #[error("tokenizer failed to {action}: {why}")]
    Tokenize {
        /// What was being done: `encode`, `decode`, `train`.
        action: &'static str,
        /// Why, from the library.
        why: String,
    },
    /// More examples asked for than there are.
    #[error("too few examples")]
    TooFew {
        /// What was wanted.
        wanted: usize,
        /// What there is.
        n: usize,
    },
    /// The planted language has no more new texts of a kind.
    #[error("planted language has too few different {part} for the sizes asked for")]
    LanguageTooSmall {
        /// The part that could not be filled.
        part: &'static str,
    },
}

/// What a file is when it is not data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impostor {
    /// A git-LFS pointer: the file itself was never fetched.
    LfsPointer,
    /// A web page, most often an error page saved by a downloader.
    WebPage,
    /// Nothing at all.
    Empty,
}

impl std::fmt::Display for Impostor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LfsPointer => "a git-LFS pointer",
            Self::WebPage => "a web page",
            Self::Empty => "empty",
        })
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        let data = |what: &dyn std::fmt::Display| Diagnostic::new(ExitKind::Data, what);
        let line_of = |path: &PathBuf, line: usize| format!("{}, line {line}", path.display());
        match self {
            Self::File(error) => error.diagnostic(),
            Self::NotData { path, found } => data(self).at(path.display()).help(match found {
                Impostor::LfsPointer => "fetch the file itself with `git lfs pull`",
                Impostor::WebPage => "the download went wrong: fetch the raw file again",
                Impostor::Empty => "an earlier copy or download was cut short: make the file again",
            }),
            Self::NoRecords { path, .. } => {
                data(self).at(path.display()).help("give a file that holds some; is this the one you meant?")
            }
            Self::LineTooLong { path, line, .. } => {
                data(self).at(line_of(path, *line)).help("one record a line: is this really a line-based file?")
            }
            Self::NotUtf8 { path, line } => data(self).at(line_of(path, *line)).help("convert the file to UTF-8"),
            Self::NotJson { path, line, source } => {
                // Each record is one line to the parser: its "line 1" is not the file's.
                let got = source.to_string().replace(" at line 1 column", " at column");
                data(self).at(line_of(path, *line)).want_got("one JSON object", got)
            }
            Self::BadKey { path, line, key, want, got } => {
                data(self).at(format!("{}, key `{key}`", line_of(path, *line))).want_got(want, got)
            }
            Self::NoTokenizer { dir } => data(self)
                .at(dir.display())
                .help("a model directory holds `tokenizer.json`, or `vocab.json` with `merges.txt`"),
            Self::BadTokenizer { path, .. } => {
                data(self).at(path.display()).help("copy it again from where the model came from")
            }
            Self::NoEos { dir } => {
                data(self).at(dir.display()).help("name it as `eos_token` in `tokenizer_config.json`")
            }
            Self::Tokenize { .. } => data(self),
            Self::TooFew { wanted, n } => {
                data(self).want_got(format!("at least {wanted}"), n).help("ask for fewer, or give more data")
            }
            Self::LanguageTooSmall { .. } => Diagnostic::new(ExitKind::Usage, self).help("ask for smaller parts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let path = || PathBuf::from("pairs.jsonl");
        let not_json = serde_json::from_str::<serde_json::Value>("{\"prompt\":").unwrap_err();
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            File: [irepair_core::Error::NoTokens.into()],
            NotData: [
                Error::NotData { path: path(), found: Impostor::LfsPointer },
                Error::NotData { path: path(), found: Impostor::WebPage },
                Error::NotData { path: path(), found: Impostor::Empty },
            ],
            NoRecords: [Error::NoRecords { path: path(), wanted: "pairs" }],
            LineTooLong: [Error::LineTooLong { path: path(), line: 3, max_bytes: 1024 }],
            NotUtf8: [Error::NotUtf8 { path: path(), line: 3 }],
            NotJson: [Error::NotJson { path: path(), line: 3, source: not_json }],
            BadKey: [Error::BadKey {
                path: path(),
                line: 3,
                key: "prompt.text".into(),
                want: "text",
                got: "a number".into()
            }],
            NoTokenizer: [Error::NoTokenizer { dir: "gpt2".into() }],
            BadTokenizer: [Error::BadTokenizer { path: "gpt2/tokenizer.json".into(), why: "it has no model".into() }],
            NoEos: [Error::NoEos { dir: "gpt2".into() }],
            Tokenize: [Error::Tokenize { action: "decode", why: "id 9 is unknown".into() }],
            TooFew: [Error::TooFew { wanted: 65, n: 64 }],
            LanguageTooSmall: [Error::LanguageTooSmall { part: "prompts" }],
        }));
    }
}
