//! Weights as a file of 8 bits a weight would hold them.

use std::collections::BTreeMap;

use irepair_core::Checkpoint;
use irepair_core::float::encode;

use crate::Result;
use crate::tensors::numbers;

/// The matrices of `model` with every row rounded to 255 levels between its largest magnitude and that below 0, by
/// stored name, with all of their new bytes in the type that they have. Vectors stay as they are.
///
/// # Errors
/// Those of reading.
///
/// # Source
/// METHOD §24 [O]: symmetric, a scale a row, to the nearest level; what most files of 8 bits do.
pub fn rounded_to_8_bits(model: &Checkpoint) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut rounded = BTreeMap::new();
    for name in model.names() {
        let Some((_, stored)) = model.get(name) else { continue };
        let [_, width] = stored.shape[..] else { continue };
        // A type that is no number of 16 or 32 bits is left alone.
        let Some((dtype, values)) = numbers(model, name)? else { continue };
        let mut out = Vec::new();
        encode(dtype, values.chunks(width.max(1)).flat_map(levels), &mut out);
        rounded.insert(name.clone(), out);
    }
    Ok(rounded)
}

/// A row at its nearest levels.
fn levels(row: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let step = row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    row.iter().map(move |value| if step > 0.0 { (value / step).round_ties_even() * step } else { *value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_255_levels_and_keeps_its_largest_value_and_zero() {
        let row: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 3.0).chain([0.0, -3.5]).collect();
        let found: Vec<f32> = levels(&row).collect();
        let step = 3.5 / 127.0;
        assert!(row.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 0.5001 * step));
        assert!(found.iter().any(|value| (value - row[3]).abs() > 0.0), "something was rounded");
        assert_eq!((found[1000], found[1001]), (0.0, -3.5));
        let again: Vec<f32> = levels(&found).collect();
        assert!(found.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-6), "levels stay where they are");
        assert_eq!(levels(&[0.0, 0.0]).collect::<Vec<_>>(), [0.0, 0.0]);
    }
}
