//! The sign of what the units add to the residual stream.

use irepair_arch::Slot;

use crate::Result;
use crate::plant::Planting;

/// Flips the sign bit of every weight that writes to the residual stream: twice is the identity, bit for bit.
pub(super) fn run(planting: &mut Planting<'_>) -> Result<()> {
    for rows in planting.map.slice(planting.units())? {
        if !matches!(planting.map.parameters()[rows.parameter].slot, Slot::AttentionOut | Slot::Down) {
            continue;
        }
        let runs = planting.tensors.runs(&rows);
        let tensor = planting.tensors.get(rows.parameter)?;
        let sign = tensor.n_bits() - 1;
        runs.into_iter().flatten().for_each(|weight| tensor.flip(weight, sign));
    }
    Ok(())
}
