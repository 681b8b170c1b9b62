//! Which of a patch's two models a directory holds.

use std::collections::BTreeSet;
use std::path::Path;

use irepair_core::Checkpoint;
use irepair_core::tensor_file::layout;
use serde::Serialize;

use crate::{Error, Manifest, Patch, Result, Side};

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "model")]
pub enum Verdict {
    /// The model the patch is applied to.
    Base,
    /// The model the patch leads to.
    Result,
    /// Another one, or one half patched.
    Neither {
        /// The first tensor by name that is not the base's.
        from_base: Difference,
        /// The first tensor by name that is not the result's.
        from_result: Difference,
    },
}

impl Verdict {
    /// Which of the two models it is.
    ///
    /// # Errors
    /// [`Error::Neither`], with `dir` as the place.
    pub fn side(self, dir: &Path) -> Result<Side> {
        match self {
            Self::Base => Ok(Side::Base),
            Self::Result => Ok(Side::Result),
            Self::Neither { from_base, from_result } => {
                let (from_base, from_result) = (Box::new(from_base), Box::new(from_result));
                Err(Error::Neither { path: dir.to_owned(), from_base, from_result })
            }
        }
    }
}

/// A tensor that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub tensor: String,
    /// The hash it should have, or type and shape when those are wrong.
    pub want: String,
    /// What it has.
    pub got: String,
}

/// Finds whether the model in `dir` is the base of `patch`, its result, or neither.
///
/// A patch that changes nothing has one model for both; that is called the base.
///
/// # Errors
/// Those of reading a model.
pub fn verify(dir: &Path, patch: &Patch) -> Result<Verdict> {
    let model = Checkpoint::open(dir)?;
    let manifest = patch.manifest();
    let (mut from_base, mut from_result) = (None, None);
    for name in all_names(&model, manifest) {
        if from_base.is_some() && from_result.is_some() {
            break;
        }
        let found = found(&model, manifest, name)?;
        for (side, first) in [(Side::Base, &mut from_base), (Side::Result, &mut from_result)] {
            if first.is_none() {
                *first = differs(&found, manifest, name, side);
            }
        }
    }
    Ok(match (from_base, from_result) {
        (None, _) => Verdict::Base,
        (_, None) => Verdict::Result,
        (Some(from_base), Some(from_result)) => Verdict::Neither { from_base, from_result },
    })
}

/// Names of the model and of the patch together, sorted.
pub(crate) fn all_names<'a>(model: &'a Checkpoint, manifest: &'a Manifest) -> BTreeSet<&'a String> {
    model.names().chain(manifest.tensors.keys()).collect()
}

/// Refuses a model in which the tensor `name` is not that of `side` of the patch.
pub(crate) fn expect(model: &Checkpoint, manifest: &Manifest, name: &str, side: Side) -> Result<()> {
    let found = found(model, manifest, name)?;
    let Some(Difference { tensor, want, got }) = differs(&found, manifest, name, side) else { return Ok(()) };
    let is_other_side = differs(&found, manifest, name, side.other()).is_none();
    Err(Error::WrongModel { path: model.dir.clone(), side, tensor, want, got, is_other_side })
}

/// The hash of a tensor when its type and shape are those of the patch; otherwise those, or that there is none.
fn found(model: &Checkpoint, manifest: &Manifest, name: &str) -> Result<String> {
    match (model.get(name), manifest.tensors.get(name)) {
        (None, _) => Ok(NONE.to_owned()),
        (Some((_, stored)), Some(record)) if stored.dtype == record.dtype && stored.shape == record.shape => {
            Ok(sha256(&model.bytes(name)?.sha256()?))
        }
        (Some((_, stored)), _) => Ok(stored.layout()),
    }
}

/// How what was [`found`] differs from one side of the patch.
fn differs(found: &str, manifest: &Manifest, name: &str, side: Side) -> Option<Difference> {
    let want = match manifest.tensors.get(name) {
        None => NONE.to_owned(),
        Some(record) if found.starts_with(SHA256) => sha256(record.hash(side)),
        Some(record) => layout(record.dtype, &record.shape),
    };
    (want != found).then(|| Difference { tensor: name.to_owned(), want, got: found.to_owned() })
}

const NONE: &str = "no such tensor";
const SHA256: &str = "sha256 ";

/// A hash as messages show it.
pub(crate) fn sha256(hash: &str) -> String {
    format!("{SHA256}{hash}")
}
