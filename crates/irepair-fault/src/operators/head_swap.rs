//! Two heads of one block write in each other's place.

use irepair_arch::{Rows, Slot};
use irepair_core::Unit;

use crate::plant::Planting;
use crate::{Error, Result};

/// Exchanges the heads' columns of the output projection. Exchanging all of their weights would change nothing that the
/// model computes. Twice is the identity.
pub(super) fn run(planting: &mut Planting<'_>) -> Result<()> {
    let units = planting.units();
    for of_block in units.chunk_by(|a, b| a.block == b.block) {
        let [one, other] = of_block else {
            let (operator, unit) = (planting.fault.operator, of_block[0].to_string());
            let want = format!("two heads of block {}", of_block[0].block);
            let got = if of_block.len() == 1 { unit } else { format!("{} heads from {unit} on", of_block.len()) };
            return Err(Error::Unsuited { operator, unit: got, want });
        };
        for (one, other) in columns(planting, *one)?.into_iter().zip(columns(planting, *other)?) {
            let runs = planting.tensors.runs(&one).into_iter().zip(planting.tensors.runs(&other));
            let tensor = planting.tensors.get(one.parameter)?;
            runs.for_each(|(one, other)| tensor.swap(one, other));
        }
    }
    Ok(())
}

/// A head's columns of the output projection.
fn columns(planting: &Planting<'_>, head: Unit) -> Result<Vec<Rows>> {
    let mut rows = planting.map.slice([head])?;
    rows.retain(|rows| planting.map.parameters()[rows.parameter].slot == Slot::AttentionOut);
    Ok(rows)
}
