//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind, printable};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a GGUF file, or keep it from becoming a Hugging Face directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed.
    #[error(transparent)]
    File(#[from] irepair_core::Error),
    /// A file of another format.
    #[error("file is not GGUF")]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        got: String,
    },
    /// A version of the format that is not read.
    #[error("version of the GGUF format is not read")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: String,
    },
    /// A file that contradicts the format or itself.
    #[error("file is broken: {reason}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The metadata key or tensor.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// A quantisation that is not read.
    #[error("tensor type is not read")]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        got: String,
    },
    /// Metadata that is missing or says something that is not supported.
    #[error("metadata cannot be used")]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is supported.
        want: String,
        /// What the file says.
        got: String,
    },
    /// A tensor that is missing, not known, or of another shape.
    #[error("tensors do not make the model of the metadata")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the architecture has there.
        want: String,
        /// What the file has.
        got: String,
    },
    /// Weights that are NaN or infinite.
    #[error("weights are not finite")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The output directory is in use.
    #[error("output is there already")]
    OutExists {
        /// The directory.
        path: PathBuf,
    },
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        let data = || Diagnostic::new(ExitKind::Data, self);
        let at = |path: &PathBuf, what: &str, name: &str| format!("{}, {what} `{}`", path.display(), printable(name));
        match self {
            Self::File(error) => error.diagnostic(),
            Self::NotGguf { path, got } => {
                data().at(path.display()).want_got("a file that begins with `GGUF`", got).help("give a .gguf file")
            }
            Self::Version { path, got } => data()
                .at(path.display())
                .want_got("little-endian version 2 or 3", got)
                .help("convert the model again with a current converter"),
            Self::Broken { path, place, .. } => data()
                .at(at(path, "reading", place))
                .help("get the file again, then compare its size; or convert the model again"),
            Self::TensorType { path, tensor, got } => data()
                .at(at(path, "tensor", tensor))
                .want_got("F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K", got)
                .help("take a file of the same model in one of these types, best of all F16 or BF16"),
            Self::Metadata { path, key, want, got } => data()
                .at(at(path, "metadata", key))
                .want_got(want, got)
                .help("use the Hugging Face directory that the file was converted from"),
            Self::Tensor { path, tensor, want, got } => data()
                .at(at(path, "tensor", tensor))
                .want_got(want, got)
                .help("the file is of another architecture, or was changed after it was converted"),
            Self::NotFinite { path, tensor } => data()
                .at(at(path, "tensor", tensor))
                .help("the file is damaged, or its quantisation overflowed: get it again, or take another type"),
            Self::OutExists { path } => Diagnostic::new(ExitKind::Usage, self)
                .at(path.display())
                .help("give a new or empty directory: nothing is written over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let path = || PathBuf::from("model.gguf");
        let metadata = |key: &str, want: &str, got: &str| Error::Metadata {
            path: path(),
            key: key.into(),
            want: want.into(),
            got: got.into(),
        };
        let tensor = |want: &str, got: &str| Error::Tensor {
            path: path(),
            tensor: "blk.0.attn_q.weight".into(),
            want: want.into(),
            got: got.into(),
        };
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            File: [irepair_core::Error::NoTokens.into()],
            NotGguf: [Error::NotGguf { path: path(), got: "other bytes at its start".into() }],
            Version: [Error::Version { path: path(), got: "1".into() }],
            Broken: [Error::Broken {
                path: path(),
                place: "blk.0.attn_q.weight".into(),
                reason: "the file ends before the tensor does".into()
            }],
            TensorType: [Error::TensorType { path: path(), tensor: "output.weight".into(), got: "IQ4_XS".into() }],
            Metadata: [
                metadata("general.architecture", "`llama`", "`gemma2`"),
                metadata("llama.rope.freq_base", "a number", "nothing"),
            ],
            Tensor: [tensor("shape [576, 576]", "shape [192, 576]"), tensor("shape [576, 576]", "nothing")],
            NotFinite: [Error::NotFinite { path: path(), tensor: "output.weight".into() }],
            OutExists: [Error::OutExists { path: "model".into() }],
        }));
    }
}
