//! A padded batch of token ids before it becomes tensors.

use crate::{Error, Result};

/// Token ids padded to one length, row by row, with the mask of real tokens.
///
/// Shapes: `ids` and `real` have `n_rows * n_cols` entries, row-major; `real` is true for real tokens, false for padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaddedTokens {
    ids: Vec<i64>,
    real: Vec<bool>,
    n_cols: usize,
}

impl PaddedTokens {
    /// Pads `rows` on the right with `pad_id` to the longest row.
    ///
    /// # Errors
    /// [`Error::NoTokens`] when there is no row, or every row is empty.
    pub fn right_padded(rows: &[Vec<u32>], pad_id: u32) -> Result<Self> {
        let empty = vec![Vec::new(); rows.len()];
        Self::prompted(&empty, rows, pad_id)
    }

    /// Pads `rows` on the left with `pad_id` to the longest row, as generation wants prompts.
    ///
    /// # Errors
    /// [`Error::NoTokens`] when there is no row, or every row is empty.
    pub fn left_padded(rows: &[Vec<u32>], pad_id: u32) -> Result<Self> {
        let empty = vec![Vec::new(); rows.len()];
        Self::prompted(rows, &empty, pad_id)
    }

    /// Lays out `prompt | continuation` rows: prompts padded on the left, continuations on the right, each to the
    /// longest of the batch (METHOD §2).
    ///
    /// # Errors
    /// [`Error::NoTokens`] when there is nothing to lay out.
    pub fn prompted(prompts: &[Vec<u32>], continuations: &[Vec<u32>], pad_id: u32) -> Result<Self> {
        debug_assert_eq!(prompts.len(), continuations.len());
        let widest = |rows: &[Vec<u32>]| rows.iter().map(Vec::len).max().unwrap_or(0);
        let (left, right) = (widest(prompts), widest(continuations));
        let n_cols = left + right;
        if n_cols == 0 {
            return Err(Error::NoTokens);
        }
        let mut ids = Vec::with_capacity(prompts.len() * n_cols);
        let mut real = Vec::with_capacity(prompts.len() * n_cols);
        for (prompt, continuation) in prompts.iter().zip(continuations) {
            for (tokens, before, after) in
                [(prompt, left - prompt.len(), 0), (continuation, 0, right - continuation.len())]
            {
                ids.extend(std::iter::repeat_n(i64::from(pad_id), before));
                ids.extend(tokens.iter().map(|&t| i64::from(t)));
                ids.extend(std::iter::repeat_n(i64::from(pad_id), after));
                real.extend(std::iter::repeat_n(false, before));
                real.extend(std::iter::repeat_n(true, tokens.len()));
                real.extend(std::iter::repeat_n(false, after));
            }
        }
        Ok(Self { ids, real, n_cols })
    }

    /// Token ids, row-major.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// True where the token is real, row-major.
    pub fn real(&self) -> &[bool] {
        &self.real
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.ids.len() / self.n_cols
    }

    /// Padded length.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Number of real tokens.
    pub fn n_real(&self) -> usize {
        self.real.iter().filter(|&&r| r).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_go_left_and_continuations_right() {
        let batch = PaddedTokens::prompted(&[vec![1], vec![2, 3]], &[vec![4, 5], vec![6]], 9).unwrap();
        assert_eq!(batch.ids(), [9, 1, 4, 5, 2, 3, 6, 9]);
        assert_eq!(batch.real(), [false, true, true, true, true, true, true, false]);
        assert_eq!((batch.n_rows(), batch.n_cols(), batch.n_real()), (2, 4, 6));
    }

    #[test]
    fn nothing_to_lay_out_is_an_error() {
        assert!(PaddedTokens::right_padded(&[], 0).is_err());
        assert!(PaddedTokens::left_padded(&[vec![]], 0).is_err());
    }
}
