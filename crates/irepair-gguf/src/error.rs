//! The crate's error type.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a GGUF file, or keep it from becoming a Hugging Face directory.
    pub enum Error {
        /// Reading or writing a file failed, or the output directory is in use.
        File(error: irepair_core::Error);
        /// A file of another format.
        NotGguf { path: PathBuf, got: String } = "file is not GGUF" =>
            Data.at(path.display()).want_got("a file that begins with `GGUF`", got).help("give a .gguf file");
        /// A version of the format that is not read.
        Version { path: PathBuf, got: String } = "version of the GGUF format is not supported" =>
            Data.at(path.display()).want_got("little-endian version 2 or 3", got)
                .help("convert the model again with a current converter");
        /// A file that contradicts the format or itself, at the metadata key or tensor `place`.
        Broken { path: PathBuf, place: String, reason: String } = "file is broken: {reason}" =>
            Data.at_part(path, "reading", place)
                .help("get the file again, then compare its size; or convert the model again");
        /// A quantisation that is not read.
        TensorType { path: PathBuf, tensor: String, got: String } = "tensor type is not supported" =>
            Data.at_part(path, "tensor", tensor)
                .want_got("F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K", got)
                .help("use a file of the same model in one of these types, preferably F16 or BF16");
        /// Metadata that is missing or not supported.
        Metadata { path: PathBuf, key: String, want: String, got: String } = "metadata is missing or not supported" =>
            Data.at_part(path, "metadata", key).want_got(want, got)
                .help("use the Hugging Face directory that the file was converted from");
        /// A tensor that is missing, unknown, or of another shape than the architecture gives it.
        Tensor { path: PathBuf, tensor: String, want: String, got: String } =
            "tensors do not fit the model that the metadata describe" =>
            Data.at_part(path, "tensor", tensor).want_got(want, got)
                .help("the file is of another architecture, or was changed after it was converted");
        /// A directory that is no repair of an import of the file: `part` says what differs.
        Mismatch { path: PathBuf, part: &'static str, name: String, want: String, got: String } =
            "directory does not hold the model of the GGUF file" =>
            Data.at_part(path, part, name).want_got(want, got)
                .help("give the directory that `irepair import` made of the file, or a repair of it");
        /// Weights that are NaN or infinite.
        NotFinite { path: PathBuf, tensor: String } = "weights are not finite" =>
            Data.at_part(path, "tensor", tensor)
                .help("the file is damaged, or its quantisation overflowed: get it again, or use another type");
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
            Mismatch: [
                Error::Mismatch {
                    path: PathBuf::from("repaired"),
                    part: "tensor",
                    name: "lm_head.weight".into(),
                    want: "no such tensor".into(),
                    got: "F32 [8, 4]".into(),
                },
                Error::Mismatch {
                    path: PathBuf::from("repaired"),
                    part: "config.json",
                    name: "rope_theta".into(),
                    want: "100000.0".into(),
                    got: "10000.0".into(),
                },
            ],
            NotFinite: [Error::NotFinite { path: path(), tensor: "output.weight".into() }],
        }));
    }
}
