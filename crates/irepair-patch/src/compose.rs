//! Two patches as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use irepair_core::Checkpoint;
use irepair_core::fs::hex;
use sha2::{Digest, Sha256};

use crate::manifest::Record;
use crate::patch::Sink;
use crate::verify::{expect, sha256};
use crate::{Error, Kind, Manifest, Patch, Provenance, Result, Side};

/// Writes the patch that does what `first` and then `second` do.
///
/// Two patches compose when `second` was made for the result of `first`, or when both were made for one base and change
/// different tensors. Tensors that end as they began are left out. Two patches of one kind give that kind, others give
/// `xor`. `base` is needed where the stored bytes alone are not enough: for two kinds, and for two float differences of
/// one tensor, whose sum would round.
///
/// # Errors
/// [`Error::Conflict`] listing the tensors, [`Error::NeedsBase`], [`Error::WrongModel`] for another model as
/// `base`, [`Error::Corrupt`], [`Error::Lossy`], `OutExists`, and those of reading and writing.
pub fn compose(first: &Patch, second: &Patch, base: Option<&Path>, out: &Path) -> Result<Patch> {
    crate::refuse_existing(out)?;
    let chained = first.manifest().model_id(Side::Result) == second.manifest().model_id(Side::Base);
    if !chained {
        refuse_conflict(first, second)?;
    }
    let (one, two) = (first.manifest(), second.manifest());
    let manifest = Manifest {
        kind: if one.kind == two.kind { one.kind } else { Kind::Xor },
        tensors: merge(one, two),
        provenance: provenance(first, second, chained)?,
    };
    let base = base.map(Checkpoint::open).transpose()?;
    let mut routes = BTreeMap::new();
    for (name, _) in manifest.changed() {
        routes.insert(name.clone(), route(name, manifest.kind, [first, second], base.as_ref())?);
    }
    crate::patch::write(out, &manifest, |name, sink| match &routes[name] {
        Route::Copy(patch) => patch.bytes(name)?.each(sink),
        Route::Xor(one, two) => {
            let (dtype, mut two) = (manifest.tensors[name].dtype, two.bytes(name)?);
            one.bytes(name)?.each(|chunk| sink(&Kind::Xor.difference(dtype, chunk, two.next(chunk.len())?)))
        }
        Route::Rebuild(base, holders) => rebuild(name, &manifest, base, holders, sink),
    })
}

/// How the stored bytes of a tensor of the composed patch are made.
enum Route<'a> {
    Copy(&'a Patch),
    Xor(&'a Patch, &'a Patch),
    /// By applying the patches to the base.
    Rebuild(&'a Checkpoint, Vec<&'a Patch>),
}

fn route<'a>(name: &str, kind: Kind, patches: [&'a Patch; 2], base: Option<&'a Checkpoint>) -> Result<Route<'a>> {
    let changes = |patch: &Patch| patch.manifest().tensors.get(name).is_some_and(|record| record.result.is_some());
    let holders: Vec<&Patch> = patches.into_iter().filter(|patch| changes(patch)).collect();
    let same = holders.iter().all(|patch| patch.manifest().kind == kind);
    match (holders.as_slice(), kind, base) {
        ([only], _, _) if same => Ok(Route::Copy(only)),
        ([one, two], Kind::Xor, _) if same => Ok(Route::Xor(one, two)),
        ([_, two], Kind::Replace, _) if same => Ok(Route::Copy(two)),
        (_, _, Some(base)) => {
            expect(base, patches[0].manifest(), name, Side::Base)?;
            Ok(Route::Rebuild(base, holders))
        }
        (_, _, None) => {
            let why = if same { "two float differences of one tensor" } else { "the patches are of two kinds" };
            Err(Error::NeedsBase { path: patches[1].path().to_owned(), why })
        }
    }
}

fn rebuild(name: &str, manifest: &Manifest, base: &Checkpoint, holders: &[&Patch], sink: Sink<'_>) -> Result<()> {
    let record = &manifest.tensors[name];
    let mut changes = holders.iter().map(|patch| patch.bytes(name)).collect::<Result<Vec<_>>>()?;
    let mut hash = Sha256::new();
    base.bytes(name)?.each(|chunk| {
        let mut value = chunk.to_vec();
        for (patch, change) in holders.iter().zip(&mut changes) {
            let op = patch.manifest().kind.forward();
            value = op.run(record.dtype, &value, change.next(op.n_change(record.dtype, chunk.len()))?);
        }
        hash.update(&value);
        sink(&manifest.kind.difference(record.dtype, chunk, &value))
    })?;
    let got = hex(hash);
    if got == record.hash(Side::Result) {
        return Ok(());
    }
    let (tensor, want, got) = (name.to_owned(), sha256(record.hash(Side::Result)), sha256(&got));
    let path = holders.last().map_or(base.dir.clone(), |patch| patch.path().to_owned());
    if holders.iter().any(|patch| patch.manifest().kind.forward().rounds()) {
        Err(Error::Lossy { path, n_tensors: 1, tensor, want, got })
    } else {
        Err(Error::Corrupt { path, tensor, want, got })
    }
}

/// Refuses two patches that cannot be composed; the second was not made for the result of the first.
fn refuse_conflict(first: &Patch, second: &Patch) -> Result<()> {
    let (one, two) = (first.manifest(), second.manifest());
    let conflict = |why, tensors| {
        Err(Error::Conflict { first: first.path().to_owned(), second: second.path().to_owned(), why, tensors })
    };
    if one.model_id(Side::Base) == two.model_id(Side::Base) {
        let changed: BTreeSet<&String> = one.changed().map(|(name, _)| name).collect();
        let both: Vec<String> = two.changed().map(|(name, _)| name).filter(|n| changed.contains(n)).cloned().collect();
        return if both.is_empty() { Ok(()) } else { conflict("both change the same tensors of one base", both) };
    }
    // Tensors in which the base of the second differs from the result of the first.
    let mut names: BTreeSet<&String> = one.tensors.keys().chain(two.tensors.keys()).collect();
    names.retain(|name| match (one.tensors.get(*name), two.tensors.get(*name)) {
        (Some(a), Some(b)) => a.dtype != b.dtype || a.shape != b.shape || a.hash(Side::Result) != b.base,
        _ => true,
    });
    let tensors = names.into_iter().cloned().collect();
    if two.model_id(Side::Result) == one.model_id(Side::Base) {
        return conflict("the second leads to the base of the first: give them the other way round", tensors);
    }
    conflict("the second was made for neither the base nor the result of the first", tensors)
}

/// The base of both with the last result of each tensor. Both patches list the same tensors: their ids agree.
fn merge(one: &Manifest, two: &Manifest) -> BTreeMap<String, Record> {
    let merged = |(name, record): (&String, &Record)| {
        let last = two.tensors.get(name).and_then(|record| record.result.clone()).or_else(|| record.result.clone());
        (name.clone(), Record { result: last.filter(|hash| *hash != record.base), ..record.clone() })
    };
    one.tensors.iter().map(merged).collect()
}

fn provenance(first: &Patch, second: &Patch, chained: bool) -> Result<Provenance> {
    fn common<T: PartialEq + Clone>(one: &Option<T>, two: &Option<T>) -> Option<T> {
        one.clone().filter(|_| one == two)
    }
    let (one, two) = (&first.manifest().provenance, &second.manifest().provenance);
    let blocks = one.blocks.iter().zip(&two.blocks).next().map(|(one, two)| {
        let union: BTreeSet<usize> = one.iter().chain(two).copied().collect();
        union.into_iter().collect()
    });
    Ok(Provenance {
        method: common(&one.method, &two.method),
        policy: common(&one.policy, &two.policy),
        config_sha256: common(&one.config_sha256, &two.config_sha256),
        seed: common(&one.seed, &two.seed),
        blocks,
        metrics_before: one.metrics_before.clone(),
        // The sum of two changes of one base was never measured.
        metrics_after: two.metrics_after.clone().filter(|_| chained),
        parent: one.parent.clone(),
        composed_of: Some(vec![first.id()?, second.id()?]),
    })
}
