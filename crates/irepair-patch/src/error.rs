//! The crate's error type.

use std::path::PathBuf;

use irepair_core::weights::Fault;
use irepair_core::{Diagnose, Diagnostic, ExitKind, printable};

use crate::{Difference, Side};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a patch, a checkpoint, or the two together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed.
    #[error(transparent)]
    File(#[from] irepair_core::Error),
    /// A file of a model directory, or the patch, is not there.
    #[error("file is missing")]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not what its name says.
    #[error("file cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A safetensors file that is no patch.
    #[error("file is not a patch")]
    NotAPatch {
        /// The file.
        path: PathBuf,
    },
    /// Metadata of a patch that contradicts itself or its tensors.
    #[error("patch metadata is wrong: {reason}")]
    BadMetadata {
        /// The patch.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Two models whose tensors do not line up cannot be told apart by a patch.
    #[error("repaired model has other tensors than its base")]
    Misfit {
        /// Directory of the repaired model.
        path: PathBuf,
        /// The first tensor by name that differs.
        tensor: String,
        /// Type and shape in the base.
        want: String,
        /// Type and shape in the repaired model.
        got: String,
    },
    /// A model that is not the one a patch was made for.
    #[error("model is not the {side} of this patch")]
    WrongModel {
        /// Directory of the model.
        path: PathBuf,
        /// What it should have been.
        side: Side,
        /// The first differing tensor by name.
        tensor: String,
        /// What the patch says of it: a hash, or type and shape.
        want: String,
        /// What it is.
        got: String,
        /// Whether the tensor is that of the patch's other side.
        is_other_side: bool,
    },
    /// A model that is neither of a patch's two.
    #[error("model is neither the base nor the result of this patch")]
    Neither {
        /// Directory of the model.
        path: PathBuf,
        /// The first tensor by name that is not the base's.
        from_base: Box<Difference>,
        /// The first tensor by name that is not the result's.
        from_result: Box<Difference>,
    },
    /// The tensors of a patch do not lead to the result it promises.
    #[error("patch is corrupt")]
    Corrupt {
        /// The patch.
        path: PathBuf,
        /// The first such tensor by name.
        tensor: String,
        /// The hash promised.
        want: String,
        /// The hash that came out.
        got: String,
    },
    /// Adding or taking away a float difference does not lead to the same bits.
    #[error("{n_tensors} {} would not come out bit for bit", if *n_tensors == 1 { "tensor" } else { "tensors" })]
    Lossy {
        /// The patch.
        path: PathBuf,
        /// How many tensors.
        n_tensors: usize,
        /// The first of them by name.
        tensor: String,
        /// The hash wanted.
        want: String,
        /// The hash that came out.
        got: String,
    },
    /// Only the base model has the bytes that are needed.
    #[error("base model is needed: {why}")]
    NeedsBase {
        /// The patch.
        path: PathBuf,
        /// What for.
        why: &'static str,
    },
    /// A float difference of something else than f32, f16 or bf16.
    #[error("tensor type has no float difference")]
    NotFloat {
        /// The model or patch.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        got: String,
    },
    /// The place to write to is taken.
    #[error("output is there already")]
    OutExists {
        /// The directory or file.
        path: PathBuf,
    },
    /// Two patches that do not go together.
    #[error("patches do not go together: {why}")]
    Conflict {
        /// The first patch.
        first: PathBuf,
        /// The second.
        second: PathBuf,
        /// In what way.
        why: &'static str,
        /// The tensors in conflict, by name.
        tensors: Vec<String>,
    },
    /// The patch named as parent does not lead to the base.
    #[error("parent patch does not lead to the base model")]
    NotParent {
        /// The parent.
        path: PathBuf,
        /// The parent's result id.
        want: String,
        /// The base's id.
        got: String,
    },
}

/// Tensors a message lists before it counts the rest.
const N_LISTED: usize = 12;

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing(path) => Self::MissingFile { path },
            Fault::Unreadable(path, reason) => Self::Unreadable { path, reason },
            Fault::File(error) => error.into(),
        }
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        let data = || Diagnostic::new(ExitKind::Data, self);
        let usage = || Diagnostic::new(ExitKind::Usage, self);
        let tensor_of = |path: &PathBuf, tensor: &str| format!("{}, tensor `{}`", path.display(), printable(tensor));
        match self {
            Self::File(error) => error.diagnostic(),
            Self::MissingFile { path } => data().at(path.display()).help(
                "a model directory holds `config.json` and `model.safetensors`, or shards with \
                 `model.safetensors.index.json`",
            ),
            Self::Unreadable { path, .. } => {
                data().at(path.display()).help("get the file again, then compare its size")
            }
            Self::NotAPatch { path } => {
                data().at(path.display()).help("a patch is a file that `irepair patch create` or `repair --patch` made")
            }
            Self::BadMetadata { path, key, .. } => data()
                .at(format!("{}, metadata `{key}`", path.display()))
                .help("the file was changed after it was made, or by another version: get it again"),
            Self::Misfit { path, tensor, want, got } => data()
                .at(tensor_of(path, tensor))
                .want_got(want, got)
                .help("a patch holds values alone: both models must have the same tensors, types and shapes"),
            Self::WrongModel { path, side, tensor, want, got, is_other_side } => {
                data().at(tensor_of(path, tensor)).want_got(want, got).help(match (is_other_side, side) {
                    (true, Side::Base) => "the patch is applied here already: `irepair patch revert` undoes it",
                    (true, Side::Result) => "this looks like the base: the patch was never applied here",
                    (false, _) => "a patch fits one model, bit for bit: give the directory it was made for",
                })
            }
            Self::Neither { path, from_base, from_result } => {
                let Difference { tensor, want, got } = &**from_result;
                Diagnostic::new(ExitKind::Outcome, self)
                    .at(tensor_of(path, &from_base.tensor))
                    .want_got(format!("{} in the base", from_base.want), &from_base.got)
                    .help(format!("in the result, tensor `{}` is {want}; here {got}", printable(tensor)))
            }
            Self::Corrupt { path, tensor, want, got } => data()
                .at(tensor_of(path, tensor))
                .want_got(want, got)
                .help("the patch was damaged after it was made: get it again"),
            Self::Lossy { path, tensor, want, got, .. } => Diagnostic::new(ExitKind::Outcome, self)
                .at(tensor_of(path, tensor))
                .want_got(want, got)
                .help("a float difference rounds: take --allow-lossy to accept that, or a patch of kind xor"),
            Self::NeedsBase { path, .. } => usage().at(path.display()).help("give it with --base DIR"),
            Self::NotFloat { path, tensor, got } => usage()
                .at(tensor_of(path, tensor))
                .want_got("F32, F16 or BF16", got)
                .help("patches of kind xor and replace take every type"),
            Self::OutExists { path } => usage().at(path.display()).help("give another place: nothing is written over"),
            Self::Conflict { first, second, tensors, .. } => {
                let mut list: Vec<String> =
                    tensors.iter().take(N_LISTED).map(|t| format!("`{}`", printable(t))).collect();
                if tensors.len() > N_LISTED {
                    list.push(format!("and {} more", tensors.len() - N_LISTED));
                }
                usage()
                    .at(format!("{} and {}, tensors {}", first.display(), second.display(), list.join(", ")))
                    .help("patches compose when they change different tensors of one base, or when the second was made for the first's result")
            }
            Self::NotParent { path, want, got } => {
                usage().at(path.display()).want_got(want, got).help("give the patch whose result --base is, or none")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let (fix, w) = (|| PathBuf::from("fix.safetensors"), || "h.0.ln_1.weight".to_owned());
        let wrong = |side, is_other_side| Error::WrongModel {
            path: "model".into(),
            side,
            tensor: w(),
            want: "sha256 aa".into(),
            got: "sha256 bb".into(),
            is_other_side,
        };
        let other =
            |hash: &str| Box::new(Difference { tensor: w(), want: format!("sha256 {hash}"), got: "sha256 cc".into() });
        let lossy = |n_tensors| Error::Lossy {
            path: fix(),
            n_tensors,
            tensor: w(),
            want: "sha256 aa".into(),
            got: "sha256 bb".into(),
        };
        let conflict = |n| Error::Conflict {
            first: fix(),
            second: "more.safetensors".into(),
            why: "both change some tensors",
            tensors: (0..n).map(|i| format!("h.{i}.ln_1.weight")).collect(),
        };
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            File: [irepair_core::Error::NoTokens.into()],
            MissingFile: [Error::MissingFile { path: "base/config.json".into() }],
            Unreadable: [Error::Unreadable { path: fix(), reason: "its header is cut short".into() }],
            NotAPatch: [Error::NotAPatch { path: fix() }],
            BadMetadata: [Error::BadMetadata { path: fix(), key: "kind", reason: "unknown kind `or`".into() }],
            Misfit: [Error::Misfit {
                path: "repaired".into(),
                tensor: w(),
                want: "F32 [2]".into(),
                got: "F32 [3]".into()
            }],
            WrongModel: [wrong(Side::Base, true), wrong(Side::Result, true), wrong(Side::Base, false)],
            Neither: [Error::Neither { path: "model".into(), from_base: other("aa"), from_result: other("bb") }],
            Corrupt: [Error::Corrupt { path: fix(), tensor: w(), want: "sha256 aa".into(), got: "sha256 bb".into() }],
            Lossy: [lossy(1), lossy(2)],
            NeedsBase: [Error::NeedsBase { path: fix(), why: "a patch of kind replace does not hold it" }],
            NotFloat: [Error::NotFloat { path: fix(), tensor: w(), got: "I64".into() }],
            OutExists: [Error::OutExists { path: "patched".into() }],
            Conflict: [conflict(1), conflict(14)],
            NotParent: [Error::NotParent { path: fix(), want: "aa".into(), got: "bb".into() }],
        }));
    }
}
