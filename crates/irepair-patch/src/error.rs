//! The crate's error type.

use std::path::{Path, PathBuf};

use irepair_core::printable;

use crate::{Difference, Side};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a patch, a checkpoint, or the two together.
    pub enum Error {
        /// A file is missing, cannot be read or cannot be written.
        File(error: irepair_core::Error);
        /// The patch is not there.
        MissingPatch { path: PathBuf } = "patch file is missing" =>
            Data.at(path.display()).help("a patch is a file that `irepair patch create` or `repair --patch` made");
        /// A safetensors file that is no patch.
        NotAPatch { path: PathBuf } = "file is not a patch" =>
            Data.at(path.display()).help("a patch is a file that `irepair patch create` or `repair --patch` made");
        /// Metadata of a patch that contradicts itself or its tensors.
        BadMetadata { path: PathBuf, key: &'static str, reason: String } = "patch metadata is wrong: {reason}" =>
            Data.at_part(path, "metadata", key)
                .help("the file was changed after it was made, or made by another version: get it again");
        /// Two models with different tensors: no patch leads from one to the other. Fields: type and shape in base and
        /// result.
        Misfit { path: PathBuf, tensor: String, want: String, got: String } =
            "repaired model has other tensors than its base" =>
            Data.at_part(path, "tensor", tensor).want_got(want, got)
                .help("a patch holds values alone: both models must have the same tensors, types and shapes");
        /// A model that is not the one a patch was made for: the first tensor that differs, by name, and whether it is
        /// that of the patch's other side.
        WrongModel { path: PathBuf, side: Side, tensor: String, want: String, got: String, is_other_side: bool } =
            "model is not the {side} of this patch" =>
            Data.at_part(path, "tensor", tensor).want_got(want, got).help(match (is_other_side, side) {
                (true, Side::Base) => "the patch is applied here already: `irepair patch revert` undoes it",
                (true, Side::Result) => "this looks like the base: the patch was never applied here",
                (false, _) => "a patch fits one model, bit for bit: give the directory it was made for",
            });
        /// A model that is neither of a patch's two: the first tensors that are not the base's and not the result's.
        Neither { path: PathBuf, from_base: Box<Difference>, from_result: Box<Difference> } =
            "model is neither the base nor the result of this patch" =>
            Outcome.at_part(path, "tensor", &from_base.tensor)
                .want_got(format!("{} in the base", from_base.want), &from_base.got)
                .help(from_result.as_result());
        /// The tensors of a patch do not lead to the result it promises.
        Corrupt { path: PathBuf, tensor: String, want: String, got: String } = "patch is corrupt" =>
            Data.at_part(path, "tensor", tensor).want_got(want, got)
                .help("the patch was damaged after it was made: get it again");
        /// Adding or subtracting a float difference does not lead to the same bits; the first of the tensors by name.
        Lossy { path: PathBuf, n_tensors: usize, tensor: String, want: String, got: String } =
            "result differs by rounding in {n_tensors} of the changed tensors" =>
            Outcome.at_part(path, "tensor", tensor).want_got(want, got)
                .help("a float difference rounds: accept that with --allow-lossy, or use a patch of kind xor");
        /// Only the base model has the bytes that are needed.
        NeedsBase { path: PathBuf, why: &'static str } = "base model is needed: {why}" =>
            Usage.at(path.display()).help("give it with --base DIR");
        /// A float difference of another type than f32, f16 or bf16.
        NotFloat { path: PathBuf, tensor: String, got: String } = "tensor type has no float difference" =>
            Usage.at_part(path, "tensor", tensor).want_got("F32, F16 or BF16", got)
                .help("use kind xor or replace: they take every type");
        /// Two patches that cannot be composed, and the tensors in conflict.
        Conflict { first: PathBuf, second: PathBuf, why: &'static str, tensors: Vec<String> } =
            "patches cannot be composed: {why}" =>
            Usage.at(conflict(first, second, tensors)).help(
                "patches compose when they change different tensors of one base, or when the second was made for the \
                 first's result"
            );
        /// The patch named as parent does not lead to the base: the id of its result and of the base.
        NotParent { path: PathBuf, want: String, got: String } = "parent patch does not lead to the base model" =>
            Usage.at(path.display()).want_got(want, got).help("give the patch whose result --base is, or none");
    }
}

impl Difference {
    fn as_result(&self) -> String {
        format!("in the result, tensor `{}` is {}; here {}", printable(&self.tensor), self.want, self.got)
    }
}

/// Two patches and the tensors in conflict, of which a dozen are listed and the rest counted.
fn conflict(first: &Path, second: &Path, tensors: &[String]) -> String {
    const N_LISTED: usize = 12;
    let mut list: Vec<String> = tensors.iter().take(N_LISTED).map(|t| format!("`{}`", printable(t))).collect();
    if tensors.len() > N_LISTED {
        list.push(format!("and {} more", tensors.len() - N_LISTED));
    }
    format!("{} and {}, tensors {}", first.display(), second.display(), list.join(", "))
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
            MissingPatch: [Error::MissingPatch { path: fix() }],
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
            Conflict: [conflict(1), conflict(14)],
            NotParent: [Error::NotParent { path: fix(), want: "aa".into(), got: "bb".into() }],
        }));
    }
}
