//! Applying and reverting: from a model directory to the other model of the patch; all but the changed tensors stays
//! byte for byte.

use std::path::Path;

use irepair_core::fs::hex;
use irepair_core::{Checkpoint, refuse_used};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::companions::companions;
use crate::edit::maker_of_copy;
use crate::kind::Op;
use crate::manifest::Record;
use crate::output::Output;
use crate::rows::Change;
use crate::verify::{all_names, expect, sha256};
use crate::{Error, Patch, Result, Side, Step};

/// Whether rounding may change the outcome of a patch of kind `delta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lossy {
    /// An outcome that is not the one promised, bit for bit, is an error.
    Refuse,
    /// It is written, and the tensors are named in the report.
    Allow,
}

/// What applying or reverting did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// Which of the patch's models was written.
    pub model: Side,
    /// Tensors that were changed.
    pub n_tensors: usize,
    /// Tensors that came out rounded, by name: other bits than promised. Empty but for kind `delta`.
    pub inexact: Vec<String>,
    /// Names in the model's directory that were not copied: folders, and weights in other forms, which the patch does
    /// not reach.
    pub left_out: Vec<String>,
}

/// Writes the result of `patch` on the model in `base` to the directory `out`.
///
/// Every file is copied and only the changed tensors' bytes are overwritten, so files, headers and layout stay as they
/// were. `on_step` gets each step when it is done. A run that is killed leaves a directory without `config.json`, which
/// the same command finishes.
///
/// # Errors
/// [`Error::WrongModel`] with the first differing tensor, before anything is written; [`Error::Corrupt`];
/// [`Error::Lossy`]; `OutExists`; those of reading and writing.
pub fn apply(
    base: &Path,
    patch: &Patch,
    out: &Path,
    lossy: Lossy,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<Rewritten> {
    let model = Checkpoint::open(base)?;
    let op = patch.manifest().kind.forward();
    Rewrite { model: &model, patch, from: Side::Base, op, origin: None }.run(out, lossy, on_step)
}

/// Refuses a patch that does not lead from the model in `base` to the bits that it promises; nothing is written.
///
/// # Errors
/// Those of [`apply`].
pub fn check_apply(base: &Path, patch: &Patch) -> Result<()> {
    let model = Checkpoint::open(base)?;
    let op = patch.manifest().kind.forward();
    Rewrite { model: &model, patch, from: Side::Base, op, origin: None }.check(Lossy::Refuse).map(drop)
}

/// Writes the base of `patch`, restored from its result in `model`, to the directory `out`.
///
/// With `base`, the changed tensors come from there: a patch of kind `replace` needs that, and one of kind `delta` is
/// exact with it.
///
/// # Errors
/// Those of [`apply`], and [`Error::NeedsBase`].
pub fn revert(
    model: &Path,
    patch: &Patch,
    base: Option<&Path>,
    out: &Path,
    lossy: Lossy,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<Rewritten> {
    let op = match (base, patch.manifest().kind.backward()) {
        (Some(_), _) => Op::Take,
        (None, Some(op)) => op,
        (None, None) => {
            let why = "a patch of kind replace does not hold the tensors it replaced";
            return Err(Error::NeedsBase { path: patch.path().to_owned(), why });
        }
    };
    let model = Checkpoint::open(model)?;
    let origin = base.map(Checkpoint::open).transpose()?;
    Rewrite { model: &model, patch, from: Side::Result, op, origin: origin.as_ref() }.run(out, lossy, on_step)
}

/// One direction of a patch on one model.
struct Rewrite<'a> {
    model: &'a Checkpoint,
    patch: &'a Patch,
    from: Side,
    op: Op,
    /// The base, when the tensors come from there and not from the patch.
    origin: Option<&'a Checkpoint>,
}

impl Rewrite<'_> {
    fn run(&self, out: &Path, lossy: Lossy, on_step: &mut dyn FnMut(Step<'_>)) -> Result<Rewritten> {
        let maker = maker_of_copy(&self.model.dir, []);
        refuse_used(out, &maker)?;
        let inexact = self.check(lossy)?;
        let mut output = Output::begin(out, &maker, on_step)?;
        for file in &self.model.files {
            output.weights(file, |out| {
                for (name, record) in self.patch.manifest().changed() {
                    let Some(stored) = file.tensors.get(name) else { continue };
                    out.go_to(stored.offset)?;
                    let got = self.each_chunk(name, record, |chunk| out.write(chunk))?;
                    // The inputs were checked before; they may have changed in the meantime.
                    if got != record.hash(self.from.other()) && !inexact.contains(name) {
                        return Err(self.corrupt(name, record, &got));
                    }
                    out.changed(name);
                }
                Ok(())
            })?;
        }
        let companions = companions(self.model)?;
        for name in &companions.files {
            output.copy(&self.model.dir.join(name), name)?;
        }
        output.finish()?;
        let n_tensors = self.patch.manifest().changed().count();
        Ok(Rewritten { model: self.from.other(), n_tensors, inexact, left_out: companions.left_out })
    }

    /// Refuses a wrong model and a wrong outcome before anything is written; returns the tensors that come out rounded.
    fn check(&self, lossy: Lossy) -> Result<Vec<String>> {
        let manifest = self.patch.manifest();
        for name in all_names(self.model, manifest) {
            expect(self.model, manifest, name, self.from)?;
        }
        let mut inexact: Vec<(&String, &Record, String)> = Vec::new();
        for (name, record) in manifest.changed() {
            if let Some(origin) = self.origin {
                expect(origin, manifest, name, Side::Base)?;
            }
            let got = self.each_chunk(name, record, |_| Ok(()))?;
            if got == record.hash(self.from.other()) {
                continue;
            }
            if !self.op.rounds() {
                return Err(self.corrupt(name, record, &got));
            }
            inexact.push((name, record, got));
        }
        if let ([(name, record, got), ..], Lossy::Refuse) = (inexact.as_slice(), lossy) {
            let (path, n_tensors, tensor) = (self.patch.path().to_owned(), inexact.len(), (*name).clone());
            let (want, got) = (sha256(record.hash(self.from.other())), sha256(got));
            return Err(Error::Lossy { path, n_tensors, tensor, want, got });
        }
        Ok(inexact.into_iter().map(|(name, ..)| name.clone()).collect())
    }

    /// Hands out the new tensor chunk by chunk; returns its hash.
    fn each_chunk(&self, name: &str, record: &Record, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<String> {
        let mut change = match self.origin {
            Some(origin) => Change { bytes: origin.bytes(name)?, walk: None },
            None => self.patch.change(name)?,
        };
        let mut hash = Sha256::new();
        self.model.bytes(name)?.each(|chunk| {
            let new = change.applied(self.op, record.dtype, chunk)?;
            hash.update(&new);
            sink(&new)
        })?;
        Ok(hex(hash))
    }

    fn corrupt(&self, name: &str, record: &Record, got: &str) -> Error {
        let want = sha256(record.hash(self.from.other()));
        Error::Corrupt { path: self.patch.path().to_owned(), tensor: name.to_owned(), want, got: sha256(got) }
    }
}
