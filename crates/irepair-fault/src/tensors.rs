//! The tensors of a model that an operator touches, as stored bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use irepair_arch::{Family, Rows, UnitMap};
use irepair_core::float::{decode, encode};
use irepair_core::{Checkpoint, Error as CoreError};
use safetensors::Dtype;

use crate::{Error, Result};

/// A tensor in memory.
pub(crate) struct Tensor {
    /// Its name in the file.
    pub(crate) name: String,
    dtype: Dtype,
    bytes: Vec<u8>,
    before: Vec<u8>,
}

/// Tensors by index in the architecture's list, read when they are first asked for.
pub(crate) struct Tensors<'a> {
    model: &'a Checkpoint,
    map: &'a UnitMap,
    /// Stored names by names without the prefix of whole models.
    names: BTreeMap<&'a str, &'a str>,
    read: BTreeMap<usize, Tensor>,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(model: &'a Checkpoint, family: &Family, map: &'a UnitMap) -> Self {
        let names = model.names().map(|stored| (family.plain(stored), stored.as_str())).collect();
        Self { model, map, names, read: BTreeMap::new() }
    }

    /// The tensor of a parameter.
    pub(crate) fn get(&mut self, parameter: usize) -> Result<&mut Tensor> {
        if !self.read.contains_key(&parameter) {
            let tensor = self.load(parameter)?;
            self.read.insert(parameter, tensor);
        }
        self.read.get_mut(&parameter).ok_or_else(|| CoreError::unreadable(&self.model.dir, "no such tensor").into())
    }

    fn load(&self, parameter: usize) -> Result<Tensor> {
        let wanted = &self.map.parameters()[parameter];
        let misfit = |want: String, got: String| Error::Misfit {
            path: self.model.dir.clone(),
            tensor: wanted.name.clone(),
            want,
            got,
        };
        let found = self.names.get(wanted.name.as_str()).and_then(|stored| Some((stored, self.model.get(stored)?.1)));
        let Some((stored, place)) = found else {
            return Err(misfit(format!("{:?}", wanted.shape), "no such tensor".to_owned()));
        };
        if place.shape != wanted.shape {
            return Err(misfit(format!("{:?}", wanted.shape), format!("{:?}", place.shape)));
        }
        if !matches!(place.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(misfit("F32, F16 or BF16".to_owned(), format!("{:?}", place.dtype)));
        }
        let bytes = bytes(self.model, stored)?;
        Ok(Tensor { name: (*stored).to_owned(), dtype: place.dtype, before: bytes.clone(), bytes })
    }

    /// The weights of some rows as runs of indices of their tensor.
    pub(crate) fn runs(&self, rows: &Rows) -> Vec<Range<usize>> {
        rows.runs(&self.map.parameters()[rows.parameter].shape).collect()
    }

    /// The index in its tensor of the `i`-th weight of some rows.
    pub(crate) fn weight(&self, rows: &Rows, i: usize) -> usize {
        let mut runs = rows.runs(&self.map.parameters()[rows.parameter].shape);
        // Runs of one selection have one length.
        let n = runs.next().map_or(1, |run| run.len()).max(1);
        let run = rows.runs(&self.map.parameters()[rows.parameter].shape).nth(i / n).unwrap_or_default();
        run.start + i % n
    }

    /// The tensors whose bytes changed, by name.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when one of them holds a number that is not finite.
    pub(crate) fn changed(self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut changed = BTreeMap::new();
        for tensor in self.read.into_values().filter(|tensor| tensor.bytes != tensor.before) {
            let values = decode(tensor.dtype, &tensor.bytes).unwrap_or_default();
            match values.iter().filter(|value| !value.is_finite()).count() {
                0 => drop(changed.insert(tensor.name, tensor.bytes)),
                n => return Err(Error::NotFinite { tensor: tensor.name, n }),
            }
        }
        Ok(changed)
    }
}

/// A stored tensor as it is.
fn bytes(model: &Checkpoint, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    model.bytes(name)?.each(|chunk| -> Result<()> {
        bytes.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(bytes)
}

/// The numbers of a tensor and their type; none where it is not there or its type is no number of 16 or 32 bits.
pub(crate) fn numbers(model: &Checkpoint, name: &str) -> Result<Option<(Dtype, Vec<f32>)>> {
    let Some((_, stored)) = model.get(name) else { return Ok(None) };
    Ok(decode(stored.dtype, &bytes(model, name)?).map(|values| (stored.dtype, values)))
}

impl Tensor {
    /// Bits of one weight.
    pub(crate) fn n_bits(&self) -> usize {
        8 * self.size()
    }

    fn size(&self) -> usize {
        if self.dtype == Dtype::F32 { 4 } else { 2 }
    }

    fn at(&self, run: Range<usize>) -> Range<usize> {
        run.start * self.size()..run.end * self.size()
    }

    /// The weights of a run.
    pub(crate) fn values(&self, run: Range<usize>) -> Vec<f32> {
        decode(self.dtype, &self.bytes[self.at(run)]).unwrap_or_default()
    }

    /// Replaces the weights of a run, rounded to the stored type.
    pub(crate) fn set(&mut self, run: Range<usize>, values: impl Iterator<Item = f32>) {
        let (mut rounded, at) = (Vec::new(), self.at(run));
        encode(self.dtype, values, &mut rounded);
        self.bytes[at].copy_from_slice(&rounded);
    }

    /// Flips one bit of a weight, 0 for the lowest.
    pub(crate) fn flip(&mut self, weight: usize, bit: usize) {
        let size = self.size();
        self.bytes[weight * size + bit / 8] ^= 1 << (bit % 8);
    }

    /// Exchanges the bytes of two runs of one length.
    pub(crate) fn swap(&mut self, one: Range<usize>, other: Range<usize>) {
        let (one, other) = (self.at(one), self.at(other));
        let kept = self.bytes[one.clone()].to_vec();
        self.bytes.copy_within(other.clone(), one.start);
        self.bytes[other].copy_from_slice(&kept);
    }
}
