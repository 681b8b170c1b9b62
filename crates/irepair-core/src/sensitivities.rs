//! Per-block sensitivities, checked when they are made.

use crate::{BlockId, Error, Result};

/// One number per block saying how strongly the error moves it (METHOD §3): finite, at least 0, index = block.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivities(Vec<f64>);

impl Sensitivities {
    /// Wraps one value per block.
    ///
    /// # Errors
    /// [`Error::BadSensitivity`] naming the first block whose value is NaN, infinite or negative;
    /// [`Error::NoBlocks`] when there are none.
    pub fn new(values: Vec<f64>) -> Result<Self> {
        if values.is_empty() {
            return Err(Error::NoBlocks);
        }
        match values.iter().position(|v| !v.is_finite() || *v < 0.0) {
            Some(block) => Err(Error::BadSensitivity { block: BlockId(block), value: values[block] }),
            None => Ok(Self(values)),
        }
    }

    /// Values by block.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Number of blocks.
    #[expect(clippy::len_without_is_empty, reason = "never empty by construction")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Blocks from most to least sensitive; ties go to the lower block (METHOD §3).
    pub fn ranking(&self) -> Vec<BlockId> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by(|&a, &b| self.0[b].total_cmp(&self.0[a]));
        order.into_iter().map(BlockId).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_is_descending_with_ties_to_the_lower_block() {
        let s = Sensitivities::new(vec![0.5, 2.0, 0.5, 1.0]).unwrap();
        assert_eq!(s.ranking(), [1, 3, 0, 2].map(BlockId));
    }

    #[test]
    fn a_bad_value_is_named_by_block() {
        let error = Sensitivities::new(vec![0.5, f64::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "sensitivity of block 1 is NaN");
        assert!(Sensitivities::new(vec![-1.0]).is_err());
        assert!(Sensitivities::new(vec![]).is_err());
    }
}
