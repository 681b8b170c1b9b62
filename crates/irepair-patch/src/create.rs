//! From two models to the patch between them.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::Checkpoint;
use irepair_core::fs::sha256_hex;
use irepair_core::tensor_file::Stored;

use crate::manifest::Record;
use crate::rows::{Finder, held};
use crate::{Error, Kind, Manifest, Patch, Provenance, Result, Side};

/// Writes the patch that leads from the model in `base` to the model in `repaired`.
///
/// Both may be one file or shards, in any split; tensor names, types and shapes must be the same. Only weights enter a
/// patch; of kind `xor` the rows or columns of a tensor that differ, where these are smaller than the tensor. The same
/// inputs give the same bytes. A model without a change gives a patch without tensors.
///
/// # Errors
/// `OutExists`, [`Error::Misfit`], [`Error::NotFloat`] for kind `delta`, and those of reading and writing.
pub fn create(base: &Path, repaired: &Path, kind: Kind, provenance: Provenance, out: &Path) -> Result<Patch> {
    crate::refuse_existing(out)?;
    let (base, repaired) = (Checkpoint::open(base)?, Checkpoint::open(repaired)?);
    same_layout(&base, &repaired)?;
    let mut tensors = records(&base)?;
    for (name, record) in &mut tensors {
        let after = repaired.bytes(name)?.sha256()?;
        if after == record.base {
            continue;
        }
        if kind.stored_dtype(record.dtype).is_none() {
            let got = format!("{:?}", record.dtype);
            return Err(Error::NotFloat { path: base.dir, tensor: name.clone(), got });
        }
        record.result = Some(after);
        if kind == Kind::Xor {
            let (mut finder, mut after) = (Finder::new(record.dtype, &record.shape), repaired.bytes(name)?);
            base.bytes(name)?.each(|chunk| -> Result<()> {
                finder.look(&kind.difference(record.dtype, chunk, after.next(chunk.len())?));
                Ok(())
            })?;
            record.rows = finder.found();
        }
    }
    let manifest = Manifest { kind, tensors, provenance };
    crate::patch::write(out, &manifest, |name, sink| {
        let record = &manifest.tensors[name];
        let (mut after, mut sink) = (repaired.bytes(name)?, held(record.walk(), sink));
        base.bytes(name)?.each(|chunk| sink(&kind.difference(record.dtype, chunk, after.next(chunk.len())?)))
    })
}

/// The id of the model in a directory, as patches write it ([`Manifest::model_id`]).
///
/// # Errors
/// Those of reading a model.
pub fn model_id(dir: &Path) -> Result<String> {
    let tensors = records(&Checkpoint::open(dir)?)?;
    Ok(Manifest { kind: Kind::default(), tensors, provenance: Provenance::default() }.model_id(Side::Base))
}

/// The ids of a model and of the same with other bytes in some tensors, as patches write them.
///
/// # Errors
/// Those of reading a model.
pub fn changed_ids(model: &Checkpoint, changed: &BTreeMap<String, Vec<u8>>) -> Result<[String; 2]> {
    let mut tensors = records(model)?;
    for (name, bytes) in changed {
        if let Some(record) = tensors.get_mut(name) {
            record.result = Some(sha256_hex(bytes));
        }
    }
    let manifest = Manifest { kind: Kind::default(), tensors, provenance: Provenance::default() };
    Ok([Side::Base, Side::Result].map(|side| manifest.model_id(side)))
}

/// Every tensor of a model, hashed and unchanged.
fn records(model: &Checkpoint) -> Result<BTreeMap<String, Record>> {
    let record = |(name, stored): (&String, &Stored)| {
        let base = model.bytes(name)?.sha256()?;
        Ok((name.clone(), Record { dtype: stored.dtype, shape: stored.shape.clone(), base, result: None, rows: None }))
    };
    model.files.iter().flat_map(|file| &file.tensors).map(record).collect()
}

fn same_layout(base: &Checkpoint, repaired: &Checkpoint) -> Result<()> {
    let mut names: Vec<&String> = base.names().chain(repaired.names()).collect();
    names.sort();
    let layout = |model: &Checkpoint, name: &String| {
        model.get(name).map_or_else(|| "no such tensor".to_owned(), |(_, stored)| stored.layout())
    };
    for name in names {
        let (want, got) = (layout(base, name), layout(repaired, name));
        if want != got {
            return Err(Error::Misfit { path: repaired.dir.clone(), tensor: name.clone(), want, got });
        }
    }
    Ok(())
}
