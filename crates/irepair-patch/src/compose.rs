//! Two patches as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use irepair_core::fs::hex;
use irepair_core::tensor_file::CHUNK;
use irepair_core::{Checkpoint, UnitList};
use sha2::{Digest, Sha256};

use crate::manifest::Record;
use crate::patch::Sink;
use crate::rows::{Change, Finder, held};
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
    let mut manifest = Manifest {
        kind: if one.kind == two.kind { one.kind } else { Kind::Xor },
        tensors: merge(one, two),
        provenance: provenance(first, second, chained)?,
    };
    let base = base.map(Checkpoint::open).transpose()?;
    let mut routes = BTreeMap::new();
    for (name, _) in manifest.changed() {
        routes.insert(name.clone(), route(name, manifest.kind, [first, second], base.as_ref())?);
    }
    for (name, route) in &routes {
        let rows = match route {
            Route::Copy(patch) => patch.manifest().tensors[name].rows.clone(),
            _ if manifest.kind != Kind::Xor => None,
            Route::Xor(..) | Route::Rebuild(..) => {
                let record = &manifest.tensors[name];
                let mut finder = Finder::new(record.dtype, &record.shape);
                changes(name, &manifest, route, &mut |part| {
                    match part {
                        Part::Same(n) => finder.same(n),
                        Part::Change(bytes) => finder.look(bytes),
                    }
                    Ok(())
                })?;
                // A file of zeros as large as the shape says must not be written.
                if !finder.differs() {
                    let (tensor, want) = (name.clone(), sha256(record.hash(Side::Result)));
                    let (path, got) = (second.path().to_owned(), sha256(record.hash(Side::Base)));
                    return Err(Error::Corrupt { path, tensor, want, got });
                }
                finder.found()
            }
        };
        manifest.tensors.entry(name.clone()).and_modify(|record| record.rows = rows);
    }
    crate::patch::write(out, &manifest, |name, sink| match &routes[name] {
        Route::Copy(patch) => patch.change(name)?.bytes.each(sink),
        route => {
            let mut sink = held(manifest.tensors[name].walk(), sink);
            changes(name, &manifest, route, &mut |part| match part {
                Part::Same(n) => zeros(n, &mut sink),
                Part::Change(bytes) => sink(bytes),
            })
        }
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

/// A part of the change of a tensor, in the order of its bytes.
enum Part<'a> {
    /// So many bytes do not change.
    Same(usize),
    /// What is stored for the next ones.
    Change(&'a [u8]),
}

/// The change of a tensor of the composed patch, from both patches.
fn changes(
    name: &str,
    manifest: &Manifest,
    route: &Route<'_>,
    take: &mut dyn FnMut(Part<'_>) -> Result<()>,
) -> Result<()> {
    match route {
        Route::Copy(patch) => patch.change(name)?.bytes.each(|chunk| take(Part::Change(chunk))),
        Route::Xor(one, two) => {
            let record = &manifest.tensors[name];
            let n_bytes = record.shape.iter().product::<usize>() * record.dtype.bitsize() / 8;
            xor(one.change(name)?, two.change(name)?, n_bytes, take)
        }
        Route::Rebuild(base, holders) => rebuild(name, manifest, base, holders, &mut |chunk| take(Part::Change(chunk))),
    }
}

/// Two changes of kind xor of a tensor of `n_bytes` as one; what neither holds is passed over.
fn xor(mut one: Change, mut two: Change, n_bytes: usize, take: &mut dyn FnMut(Part<'_>) -> Result<()>) -> Result<()> {
    let (mut left, mut of_one, mut of_two) = (n_bytes, (0, false), (0, false));
    while left > 0 {
        for (change, run) in [(&mut one, &mut of_one), (&mut two, &mut of_two)] {
            if run.0 == 0 {
                *run = change.run(left);
            }
        }
        let n = of_one.0.min(of_two.0);
        let n = if of_one.1 || of_two.1 { n.min(CHUNK) } else { n };
        match (of_one.1, of_two.1) {
            (false, false) => take(Part::Same(n))?,
            (true, false) => take(Part::Change(one.bytes.next(n)?))?,
            (false, true) => take(Part::Change(two.bytes.next(n)?))?,
            (true, true) => {
                let both: Vec<u8> = one.bytes.next(n)?.iter().zip(two.bytes.next(n)?).map(|(a, b)| a ^ b).collect();
                take(Part::Change(&both))?;
            }
        }
        (left, of_one.0, of_two.0) = (left - n, of_one.0 - n, of_two.0 - n);
    }
    Ok(())
}

/// Hands out `n` bytes of 0.
fn zeros(n: usize, sink: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let some = vec![0; n.min(CHUNK)];
    let mut left = n;
    while left > 0 {
        let n = left.min(some.len());
        sink(&some[..n])?;
        left -= n;
    }
    Ok(())
}

fn rebuild(name: &str, manifest: &Manifest, base: &Checkpoint, holders: &[&Patch], sink: Sink<'_>) -> Result<()> {
    let record = &manifest.tensors[name];
    let mut changes = holders.iter().map(|patch| patch.change(name)).collect::<Result<Vec<_>>>()?;
    let mut hash = Sha256::new();
    base.bytes(name)?.each(|chunk| {
        let mut value = chunk.to_vec();
        for (patch, change) in holders.iter().zip(&mut changes) {
            value = change.applied(patch.manifest().kind.forward(), record.dtype, &value)?;
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
        (name.clone(), Record { result: last.filter(|hash| *hash != record.base), rows: None, ..record.clone() })
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
    let list = |units: &Option<String>| units.as_ref().and_then(|text| text.parse::<UnitList>().ok());
    let units = list(&one.units).zip(list(&two.units));
    let units = units.map(|(one, two)| one.iter().chain(two.iter()).collect::<UnitList>().to_string());
    Ok(Provenance {
        method: common(&one.method, &two.method),
        policy: common(&one.policy, &two.policy),
        config_sha256: common(&one.config_sha256, &two.config_sha256),
        seed: common(&one.seed, &two.seed),
        blocks,
        units,
        metrics_before: one.metrics_before.clone(),
        // The sum of two changes of one base was never measured.
        metrics_after: two.metrics_after.clone().filter(|_| chained),
        parent: one.parent.clone(),
        composed_of: Some(vec![first.id()?, second.id()?]),
    })
}
