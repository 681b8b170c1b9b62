//! Single bits of stored weights, as memory errors flip them.

use std::collections::BTreeSet;

use rand::Rng;

use super::draws;
use crate::plant::Planting;
use crate::{Error, Result};

/// Flips `strength` bits of each unit, each of another weight. A bit that would make a weight infinite or NaN is not
/// flipped, and its weight is not drawn again, so that the same fault planted twice is the identity.
pub(super) fn run(planting: &mut Planting<'_>) -> Result<()> {
    for unit in planting.units() {
        let rows = planting.map.slice([unit])?;
        let n: usize = planting.map.n_weights(&rows) as usize;
        let most = n.div_ceil(2);
        if planting.strength() > most as f64 {
            let (operator, got) = (planting.fault.operator, planting.strength().to_string());
            return Err(Error::Strength {
                operator,
                want: format!("at most {most} for unit {unit}, half of its weights"),
                got,
            });
        }
        let mut draws = draws(planting.fault.seed, &unit.to_string());
        let mut left = planting.strength() as usize;
        let mut drawn = BTreeSet::new();
        while left > 0 && drawn.len() < n {
            let (at, bit): (usize, u32) = (draws.random_range(0..n), draws.random());
            if !drawn.insert(at) {
                continue;
            }
            let mut before = at;
            for rows in &rows {
                let n_here = rows.n_weights(&planting.map.parameters()[rows.parameter].shape);
                if before >= n_here {
                    before -= n_here;
                    continue;
                }
                let weight = planting.tensors.weight(rows, before);
                let tensor = planting.tensors.get(rows.parameter)?;
                let bit = bit as usize % tensor.n_bits();
                tensor.flip(weight, bit);
                if tensor.values(weight..weight + 1)[0].is_finite() {
                    left -= 1;
                } else {
                    tensor.flip(weight, bit);
                }
                break;
            }
        }
    }
    Ok(())
}
