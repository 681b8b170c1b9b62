//! From a model and a fault to the tensors that change.

use std::collections::BTreeMap;

use irepair_arch::{Architecture, UnitMap};
use irepair_core::{Checkpoint, Unit};

use crate::operators::run;
use crate::tensors::Tensors;
use crate::{Error, Fault, Result};

/// What an operator works on.
pub(crate) struct Planting<'a> {
    pub(crate) map: &'a UnitMap,
    pub(crate) fault: &'a Fault,
    pub(crate) tensors: Tensors<'a>,
}

impl Planting<'_> {
    /// The strength; 0 where the operator has none.
    pub(crate) fn strength(&self) -> f64 {
        self.fault.strength.unwrap_or(0.0)
    }

    /// The units.
    pub(crate) fn units(&self) -> Vec<Unit> {
        self.fault.units.iter().collect()
    }
}

/// The tensors of `model` that `fault` changes, by stored name, with all of their new bytes. Weights outside its units
/// have the bits that they had.
///
/// # Errors
/// [`Error::Strength`], [`Error::Unsuited`], `NoSuchUnit` for the fault; [`Error::Misfit`] for a model that is not of
/// this architecture; [`Error::NotFinite`]; [`Error::NoEffect`]; those of reading.
///
/// # Source
/// METHOD §13 [O].
pub fn plant(model: &Checkpoint, architecture: &Architecture, fault: &Fault) -> Result<BTreeMap<String, Vec<u8>>> {
    fault.check()?;
    let map = UnitMap::new(architecture);
    fault.units.iter().try_for_each(|unit| map.check(unit))?;
    let tensors = Tensors::new(model, architecture.family, &map);
    let mut planting = Planting { map: &map, fault, tensors };
    run(&mut planting)?;
    let changed = planting.tensors.changed()?;
    if changed.is_empty() {
        return Err(Error::NoEffect { operator: fault.operator, units: fault.units.to_string() });
    }
    Ok(changed)
}
