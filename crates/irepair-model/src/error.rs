//! The crate's error type and its wording.

use std::path::PathBuf;

use crate::checkpoint::some_of;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a model, its files or its device.
    pub enum Error {
        /// The `config.json` is missing, broken, or of a model that is not computed.
        Config(error: irepair_arch::Error);
        /// Tensors that the model needs are in no file; all of them, in the order of the forward pass.
        MissingTensors { path: PathBuf, tensors: Vec<String> } =
            "checkpoint lacks {}", match tensors.len() { 1 => "a tensor".to_owned(), n => format!("{n} tensors") } =>
            Data.at(format!(
                "{}, tensor{} {}", path.display(), if tensors.len() == 1 { "" } else { "s" }, some_of(tensors, 20)
            )).help("the files do not hold the model that config.json describes: a shard or the right config is missing");
        /// A tensor has another shape than `config.json` implies.
        WrongShape { path: PathBuf, tensor: String, want: Vec<usize>, got: Vec<usize> } =
            "checkpoint tensor has the wrong shape" =>
            Data.at_part(path, "tensor", tensor).want_got(format!("{want:?}"), format!("{got:?}"))
                .help("config.json and the weights belong to different models, or a projection was stored transposed");
        /// A tensor is stored in a type that is not read.
        WrongDtype { path: PathBuf, tensor: String, got: String } = "checkpoint tensor has an unsupported type" =>
            Data.at_part(path, "tensor", tensor).want_got("F32, F16 or BF16", got)
                .help("re-save the checkpoint in one of those types");
        /// Tensors of an adapter, or weights that it wraps, among the weights of a model.
        NotMerged { path: PathBuf, tensor: String } = "checkpoint holds an adapter that is not merged" =>
            Data.at_part(path, "tensor", tensor)
                .help("merge it in Python, and give the directory that is saved: `model.merge_and_unload().save_pretrained(DIR)`");
        /// A sequence is longer than the model's position table.
        ContextOverflow { n_positions: usize, got: usize } = "text is longer than the model's context" =>
            Data.want_got(format!("at most {n_positions} positions"), got)
                .help("shorten the text, or ask for fewer tokens of the prompt or the continuation");
        /// Two models whose difference is no adapter.
        NotLowRank { place: String, why: String } = "the repair is no adapter of projections: {why}" =>
            Data.at(place)
                .help("give the base and a repair with `--lora-rank`, and its rank; any other is a patch: `irepair patch create`");
        /// A rank above that of every matrix of the model.
        RankTooLarge { most: usize, got: usize } = "rank is larger than that of any projection of the model" =>
            Usage.want_got(format!("at most {most}"), got).help("give the rank of the repair, its --lora-rank, up to this bound");
        /// Next-token logits that no token can be chosen by.
        NotFinite = "logits are not finite" =>
            Outcome.help("weights of this size overflow: the training that made them diverged, or the file is damaged");
        /// A device or dtype name that is not known.
        UnknownName { what: &'static str, want: &'static str, got: String } = "unknown {what} `{got}`" =>
            Usage.want_got(want, got);
        /// The device asked for is not there; `found` is.
        NoDevice { device: String, found: String } = "device `{device}` is not available" =>
            Device.want_got(device, found).help(
                "use `--device cpu`, or install the CUDA build: `cargo xtask setup` on a machine with an NVIDIA driver"
            );
        /// Another rank is gone, or failed.
        Ranks(error: irepair_ranks::Error);
        /// A file that is missing or broken, or an operation on it that failed.
        Core(error: irepair_core::Error);
        /// libtorch has no memory left.
        OutOfMemory { said: String } = "libtorch: {said}" =>
            Device.help("give shorter texts, a smaller --batch-size or --dtype bf16, or use a device with more memory");
        /// libtorch refused an operation.
        Torch { said: String } = "libtorch: {said}" =>
            Bug.help("this should not happen: please report it with the command you ran");
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // libtorch appends a C++ backtrace; the first line says what happened.
        let said = error.to_string().lines().next().unwrap_or_default().to_owned();
        if said.contains("out of memory") || said.contains("can't allocate memory") {
            return Self::OutOfMemory { said };
        }
        Self::Torch { said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let weights = || PathBuf::from("gpt2/model.safetensors");
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
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
            NotMerged: [Error::NotMerged {
                path: weights(),
                tensor: "base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight".into()
            }],
            ContextOverflow: [Error::ContextOverflow { n_positions: 1024, got: 1025 }],
            NotLowRank: [Error::NotLowRank {
                place: "repaired, tensor `h.3.attn.c_attn.weight`".into(),
                why: "its change is not of rank 2: 1.3e-3 of up to 4.0e-3 are left over".into()
            }],
            RankTooLarge: [Error::RankTooLarge { most: 768, got: 65536 }],
            NotFinite: [Error::NotFinite],
            UnknownName: [Error::UnknownName { what: "device", want: "`cpu`, `cuda` or `cuda:N`", got: "gpu".into() }],
            NoDevice: [Error::NoDevice { device: "cuda:1".into(), found: "1 CUDA device".into() }],
            Ranks: [irepair_ranks::Error::OutOfStep { rank: 1, reason: "its gradients are too short".into() }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
            OutOfMemory: [Error::OutOfMemory { said: "CUDA out of memory. Tried to allocate 2.00 GiB".into() }],
            Torch: [Error::Torch { said: "expected scalar type Float but found Half".into() }],
        }));
    }

    #[test]
    fn a_lack_of_memory_is_recognised_by_the_words_of_libtorch() {
        let of = |said: &str| Error::from(tch::TchError::Torch(format!("{said}\nframe #0")));
        assert!(matches!(of("CUDA out of memory. Tried"), Error::OutOfMemory { said } if !said.contains("frame")));
        assert!(matches!(of("expected scalar type Float"), Error::Torch { .. }));
    }
}
