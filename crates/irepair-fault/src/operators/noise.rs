//! Normal noise on every weight of the units, in proportion to the weights of the same tensor in them.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::ops::Range;

use rand::Rng;

use super::draws;
use crate::Result;
use crate::plant::Planting;

/// `w + strength * rms * z`, `z` standard normal by Box and Muller, `rms` the root mean square of the units' weights in
/// the tensor.
pub(super) fn run(planting: &mut Planting<'_>) -> Result<()> {
    let mut runs: BTreeMap<usize, Vec<Range<usize>>> = BTreeMap::new();
    for rows in planting.map.slice(planting.units())? {
        runs.entry(rows.parameter).or_default().extend(planting.tensors.runs(&rows));
    }
    for (parameter, runs) in runs {
        let mut draws = draws(planting.fault.seed, &planting.map.parameters()[parameter].name);
        let strength = planting.strength();
        let tensor = planting.tensors.get(parameter)?;
        let (mut sum, mut n) = (0.0, 0);
        for run in &runs {
            n += run.len();
            sum += tensor.values(run.clone()).iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        }
        let sd = strength * (sum / n as f64).sqrt();
        for run in runs {
            let noisy: Vec<f32> = tensor
                .values(run.clone())
                .into_iter()
                .map(|w| {
                    let (u, v): (f64, f64) = (1.0 - draws.random::<f64>(), draws.random());
                    (f64::from(w) + sd * (-2.0 * u.ln()).sqrt() * (TAU * v).cos()) as f32
                })
                .collect();
            tensor.set(run, noisy.into_iter());
        }
    }
    Ok(())
}
