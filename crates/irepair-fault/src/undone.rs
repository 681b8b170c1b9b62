//! Whether a repair undoes a fault, or works around it.

use irepair_core::Checkpoint;

use crate::tensors::numbers;
use crate::{Error, Result};

/// The cosine between what a repair changed, `repaired` − `mutant`, and the way back, `clean` − `mutant`, over the
/// weights that the fault changed: 1 for a repair that undoes the fault in part or whole, 0 for one at right angles to
/// it. None where no such weight was repaired, or nothing differs.
///
/// # Errors
/// [`Error::Misfit`] where the three are not of one shape; those of reading.
///
/// # Source
/// METHOD §13 [O].
pub fn undone(clean: &Checkpoint, mutant: &Checkpoint, repaired: &Checkpoint) -> Result<Option<f64>> {
    let (mut dot, mut change, mut back) = (0.0, 0.0, 0.0);
    for name in mutant.names() {
        let Some((_, here)) = numbers(mutant, name)? else { continue };
        let of = |model: &Checkpoint| -> Result<Vec<f32>> {
            let found = numbers(model, name)?.map(|(_, values)| values).unwrap_or_default();
            if found.len() == here.len() {
                return Ok(found);
            }
            let (want, got) = (format!("{} weights", here.len()), format!("{} weights", found.len()));
            Err(Error::Misfit { path: model.dir.clone(), tensor: name.clone(), want, got })
        };
        let clean = of(clean)?;
        for ((clean, here), repaired) in clean.iter().zip(&here).zip(of(repaired)?) {
            if clean == here {
                continue;
            }
            let (way, step) = (f64::from(clean - here), f64::from(repaired - here));
            dot += way * step;
            change += step * step;
            back += way * way;
        }
    }
    let norms = (change * back).sqrt();
    Ok((norms > 0.0).then(|| dot / norms))
}
