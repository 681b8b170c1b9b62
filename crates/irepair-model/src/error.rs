//! The crate's error type and its wording.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

use crate::checkpoint::some_of;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a model, its files or its device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory lacks a file that every checkpoint has.
    #[error("file is missing")]
    MissingFile {
        /// The file looked for.
        path: PathBuf,
    },
    /// A file is there but cannot be understood.
    #[error("file cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in a few words.
        reason: String,
    },
    /// The `config.json` is missing, broken, or of a model that is not computed.
    #[error(transparent)]
    Config(#[from] irepair_arch::Error),
    /// Tensors the model needs are in no file.
    #[error("checkpoint lacks {}", match tensors.len() { 1 => "a tensor".to_owned(), n => format!("{n} tensors") })]
    MissingTensors {
        /// Checkpoint directory.
        path: PathBuf,
        /// The names of all of them, in the order of the forward pass.
        tensors: Vec<String>,
    },
    /// A tensor has another shape than `config.json` implies.
    #[error("checkpoint tensor has the wrong shape")]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor's name as stored.
        tensor: String,
        /// The shape that the config implies.
        want: Vec<usize>,
        /// The shape stored.
        got: Vec<usize>,
    },
    /// A tensor is stored in a type we do not read.
    #[error("checkpoint tensor has an unsupported type")]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name as stored.
        tensor: String,
        /// The type stored.
        got: String,
    },
    /// A sequence is longer than the model's position table.
    #[error("text is longer than the model's context")]
    ContextOverflow {
        /// Positions the model has.
        n_positions: usize,
        /// Positions asked for.
        got: usize,
    },
    /// Next-token logits that no token can be chosen by.
    #[error("logits are not finite")]
    NotFinite,
    /// There is not one seed for every prompt.
    #[error("samples need a seed for every prompt")]
    SeedCount {
        /// Prompts.
        want: usize,
        /// Seeds.
        got: usize,
    },
    /// A device or dtype name we do not know.
    #[error("unknown {what} `{got}`")]
    UnknownName {
        /// `device` or `dtype`.
        what: &'static str,
        /// Names we know.
        want: &'static str,
        /// The name given.
        got: String,
    },
    /// The device asked for is not there.
    #[error("device `{device}` is not available")]
    NoDevice {
        /// The device asked for.
        device: String,
        /// What is there instead.
        found: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ backtrace; the first line says what happened.
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
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
                data().at(path.display()).help("get the file again, then compare its size")
            }
            Self::Config(error) => error.diagnostic(),
            Self::MissingTensors { path, tensors } => {
                let word = if tensors.len() == 1 { "tensor" } else { "tensors" };
                data().at(format!("{}, {word} {}", path.display(), some_of(tensors, 20))).help(
                    "the files do not hold the model that config.json describes: a shard or the right config is missing",
                )
            }
            Self::WrongShape { path, tensor, want, got } => data()
                .at(format!("{}, tensor `{tensor}`", path.display()))
                .want_got(format!("{want:?}"), format!("{got:?}"))
                .help("config.json and the weights belong to different models, or a projection was stored transposed"),
            Self::WrongDtype { path, tensor, got } => data()
                .at(format!("{}, tensor `{tensor}`", path.display()))
                .want_got("F32, F16 or BF16", got)
                .help("re-save the checkpoint in one of those types"),
            Self::ContextOverflow { n_positions, got } => data()
                .want_got(format!("at most {n_positions} positions"), got)
                .help("shorten the text or lower --max-prompt / --max-continuation"),
            Self::NotFinite => Diagnostic::new(ExitKind::Outcome, self)
                .help("weights of this size overflow: the training that made them diverged, or the file is damaged"),
            Self::SeedCount { want, got } => Diagnostic::new(ExitKind::Bug, self).want_got(want, got),
            Self::UnknownName { want, got, .. } => Diagnostic::new(ExitKind::Usage, self).want_got(want, got),
            Self::NoDevice { device, found } => Diagnostic::new(ExitKind::Device, self).want_got(device, found).help(
                "use `--device cpu`, or install the CUDA build: `cargo xtask setup` on a machine with an NVIDIA driver",
            ),
            Self::Core(error) => error.diagnostic(),
            Self::Torch(said) if said.contains("out of memory") || said.contains("can't allocate memory") => {
                Diagnostic::new(ExitKind::Device, self).help(
                    "give shorter texts, a smaller --batch-size or --dtype bf16, or use a device with more memory",
                )
            }
            Self::Torch(_) => Diagnostic::new(ExitKind::Bug, self)
                .help("this should not happen: please report it with the command you ran"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let weights = || PathBuf::from("gpt2/model.safetensors");
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            MissingFile: [Error::MissingFile { path: "gpt2/config.json".into() }],
            Unreadable: [Error::Unreadable { path: weights(), reason: "its header is cut short".into() }],
            Config: [
                irepair_arch::Error::from(irepair_core::Error::MissingFile { path: "gpt2/config.json".into() }).into()
            ],
            MissingTensors: [
                Error::MissingTensors { path: "gpt2".into(), tensors: vec!["wte.weight".into()] },
                Error::MissingTensors {
                    path: "gpt2".into(),
                    tensors: (0..30).map(|i| format!("h.{i}.ln_1.weight")).collect()
                },
            ],
            WrongShape: [Error::WrongShape {
                path: weights(),
                tensor: "wpe.weight".into(),
                want: vec![1024, 768],
                got: vec![768, 1024]
            }],
            WrongDtype: [Error::WrongDtype { path: weights(), tensor: "wpe.weight".into(), got: "I64".into() }],
            ContextOverflow: [Error::ContextOverflow { n_positions: 1024, got: 1025 }],
            NotFinite: [Error::NotFinite],
            SeedCount: [Error::SeedCount { want: 4, got: 3 }],
            UnknownName: [Error::UnknownName { what: "device", want: "`cpu`, `cuda` or `cuda:N`", got: "gpu".into() }],
            NoDevice: [Error::NoDevice { device: "cuda:1".into(), found: "1 CUDA device".into() }],
            Core: [irepair_core::Error::NoTokens.into()],
            Torch: [
                Error::Torch("expected scalar type Float but found Half".into()),
                Error::Torch("CUDA out of memory. Tried to allocate 2.00 GiB".into()),
            ],
        }));
    }
}
