//! Key or value vectors of MLPs, longer or shorter. An MLP is read as a memory: a neuron fires when the input matches
//! its key, and then adds its value to the residual stream.

use irepair_arch::{Part, Rows, Slot};

use crate::plant::Planting;
use crate::{Error, Result};

/// Which of the two vectors of a neuron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectors {
    /// Its row of the projection that goes through the activation, and its bias.
    Keys,
    /// Its column of the projection out of the MLP.
    Values,
}

pub(super) fn run(planting: &mut Planting<'_>, vectors: Vectors) -> Result<()> {
    let (units, operator) = (planting.units(), planting.fault.operator);
    if let Some(unit) = units.iter().find(|unit| !operator.acts_on(**unit)) {
        let want = "an MLP or neurons, such as 3.mlp or 3.neuron.17".to_owned();
        return Err(Error::Unsuited { operator, unit: unit.to_string(), want });
    }
    let parameters = planting.map.parameters();
    let is_gated = parameters.iter().any(|p| p.slot == Slot::Gate);
    for rows in planting.map.slice(units)? {
        let parameter = &parameters[rows.parameter];
        let wanted = match (vectors, parameter.slot) {
            (Vectors::Keys, Slot::Gate) => Some(rows),
            (Vectors::Keys, Slot::Up) => (!is_gated).then_some(rows),
            (Vectors::Keys, Slot::GateUp) => gates(rows, &parameter.shape),
            (Vectors::Values, Slot::Down) => (parameter.part == Part::Weight).then_some(rows),
            _ => None,
        };
        let Some(rows) = wanted else { continue };
        let runs = planting.tensors.runs(&rows);
        let factor = planting.strength() as f32;
        let tensor = planting.tensors.get(rows.parameter)?;
        for run in runs {
            let scaled: Vec<f32> = tensor.values(run.clone()).into_iter().map(|w| w * factor).collect();
            tensor.set(run, scaled.into_iter());
        }
    }
    Ok(())
}

/// The rows of gates among rows of gates and of the projection next to them: the first half.
fn gates(rows: Rows, shape: &[usize]) -> Option<Rows> {
    // A whole tensor is named by its rows, which are outputs in every family with a joint projection.
    let n_gates = shape[rows.dim] / 2;
    let range = rows.range.start..rows.range.end.min(n_gates);
    (!range.is_empty()).then_some(Rows { range, ..rows })
}
