//! A batch of texts on the host: padded token ids, masks, targets and counts.

use crate::{Error, Result};

/// What the sums of a loss are divided by.
///
/// These are the batch's own counts unless gradients are accumulated: then every micro-batch carries the counts of the
/// whole step, so that the micro-batch losses add up to the loss of the whole (METHOD §8: averaged by tokens).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Targets that count (mask `m` of METHOD §2).
    pub targets: f64,
    /// Real tokens.
    pub tokens: f64,
    /// Texts.
    pub texts: f64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.targets += other.targets;
        self.tokens += other.tokens;
        self.texts += other.texts;
    }
}

/// Token ids padded to one length, row by row, with the masks and the targets of the batch.
///
/// Ids and masks have `n_rows * n_cols` entries, row-major. A position is an index into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PaddedTokens {
    ids: Vec<i64>,
    attention_mask: Vec<bool>,
    loss_mask: Vec<bool>,
    target_positions: Vec<i64>,
    target_ids: Vec<i64>,
    n_cols: usize,
    n_prompt_cols: usize,
}

impl PaddedTokens {
    /// Pads `rows` on the right with `pad_id` to the longest row.
    ///
    /// # Errors
    /// [`Error::NoTokens`] when there is no row, or every row is empty.
    pub fn right_padded(rows: &[Vec<u32>], pad_id: u32) -> Result<Self> {
        Self::prompted(&vec![Vec::new(); rows.len()], rows, pad_id)
    }

    /// Pads `rows` on the left with `pad_id` to the longest row, as generation wants prompts.
    ///
    /// # Errors
    /// [`Error::NoTokens`] when there is no row, or every row is empty.
    pub fn left_padded(rows: &[Vec<u32>], pad_id: u32) -> Result<Self> {
        Self::prompted(rows, &vec![Vec::new(); rows.len()], pad_id)
    }

    /// Lays out `prompt | continuation` rows: prompts padded on the left, continuations on the right, each to the
    /// longest of the batch (METHOD §2). Every real token after a real token is a target.
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
        let mut cells = Vec::with_capacity(prompts.len() * n_cols);
        for (prompt, continuation) in prompts.iter().zip(continuations) {
            cells.extend(std::iter::repeat_n(None, left - prompt.len()));
            cells.extend(prompt.iter().chain(continuation).map(Some));
            cells.extend(std::iter::repeat_n(None, right - continuation.len()));
        }
        let ids: Vec<i64> = cells.iter().map(|cell| i64::from(*cell.unwrap_or(&pad_id))).collect();
        let real: Vec<bool> = cells.iter().map(Option::is_some).collect();
        let loss_mask = (0..ids.len()).map(|i| i % n_cols != 0 && real[i] && real[i - 1]).collect();
        let without_targets =
            Self { ids, attention_mask: real, loss_mask, n_cols, n_prompt_cols: left, ..Self::default() };
        Ok(without_targets.with_targets_of_mask())
    }

    /// Right-padded texts whose targets are the tokens from `first_target` (at least 1) on, for each text its own.
    ///
    /// A row holds the first `n_positions` tokens of a text. One token more is still a target: it is predicted, not
    /// read.
    ///
    /// # Errors
    /// As [`PaddedTokens::right_padded`].
    pub fn with_targets_from(texts: &[(&[u32], usize)], n_positions: usize, pad_id: u32) -> Result<Self> {
        let rows: Vec<Vec<u32>> = texts.iter().map(|(text, _)| text[..text.len().min(n_positions)].to_vec()).collect();
        let mut batch = Self::right_padded(&rows, pad_id)?;
        batch.loss_mask.fill(false);
        batch.target_positions.clear();
        batch.target_ids.clear();
        for (row, (text, first_target)) in texts.iter().enumerate() {
            for column in *first_target..text.len().min(n_positions + 1) {
                let position = row * batch.n_cols + column;
                batch.target_positions.push(position as i64 - 1);
                batch.target_ids.push(i64::from(text[column]));
                if column < n_positions {
                    batch.loss_mask[position] = true;
                }
            }
        }
        Ok(batch)
    }

    /// The same texts with targets among the continuations only (METHOD §2: `skip_prompt`).
    #[must_use]
    pub fn without_prompt_targets(mut self) -> Self {
        let in_prompt = |i: usize| i % self.n_cols < self.n_prompt_cols;
        self.loss_mask.iter_mut().enumerate().filter(|(i, _)| in_prompt(*i)).for_each(|(_, counts)| *counts = false);
        self.with_targets_of_mask()
    }

    fn with_targets_of_mask(mut self) -> Self {
        let targets = || (0..self.ids.len()).filter(|&i| self.loss_mask[i]);
        let (positions, ids) = targets().map(|i| (i as i64 - 1, self.ids[i])).unzip();
        (self.target_positions, self.target_ids) = (positions, ids);
        self
    }

    /// One row as a batch of its own, padding included.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        let cells = row * self.n_cols..(row + 1) * self.n_cols;
        let inside = |position: i64| cells.contains(&(position as usize));
        let targets = self.target_positions.iter().zip(&self.target_ids).filter(|(position, _)| inside(**position));
        let (target_positions, target_ids) = targets.map(|(at, id)| (at - cells.start as i64, *id)).unzip();
        Self {
            ids: self.ids[cells.clone()].to_vec(),
            attention_mask: self.attention_mask[cells.clone()].to_vec(),
            loss_mask: self.loss_mask[cells.clone()].to_vec(),
            target_positions,
            target_ids,
            ..*self
        }
    }

    /// Batches below one another, the narrower ones padded on the right with id 0; their targets follow in the same
    /// order.
    #[must_use]
    pub fn stacked(batches: &[&Self]) -> Self {
        let n_cols = batches.iter().map(|batch| batch.n_cols).max().unwrap_or(0);
        let n_prompt_cols = batches.iter().map(|batch| batch.n_prompt_cols).min().unwrap_or(0);
        let mut stack = Self { n_cols, n_prompt_cols, ..Self::default() };
        for batch in batches {
            let (first_cell, own) = (stack.ids.len() as i64, batch.n_cols as i64);
            let moved = |at: &i64| first_cell + at / own * n_cols as i64 + at % own;
            stack.target_positions.extend(batch.target_positions.iter().map(moved));
            stack.target_ids.extend(&batch.target_ids);
            widened(&mut stack.ids, &batch.ids, batch.n_cols, n_cols);
            widened(&mut stack.attention_mask, &batch.attention_mask, batch.n_cols, n_cols);
            widened(&mut stack.loss_mask, &batch.loss_mask, batch.n_cols, n_cols);
        }
        stack
    }

    /// Token ids, row-major.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// True where the token is real, false where it pads, row-major.
    pub fn attention_mask(&self) -> &[bool] {
        &self.attention_mask
    }

    /// True where the token is a target: it and the token before it are real, and its prediction counts; row-major.
    pub fn loss_mask(&self) -> &[bool] {
        &self.loss_mask
    }

    /// Positions that predict a target: the one before it.
    pub fn target_positions(&self) -> &[i64] {
        &self.target_positions
    }

    /// The tokens predicted there.
    pub fn target_ids(&self) -> &[i64] {
        &self.target_ids
    }

    /// Positions of the real tokens.
    pub fn real_positions(&self) -> Vec<i64> {
        (0i64..).zip(&self.attention_mask).filter(|(_, real)| **real).map(|(position, _)| position).collect()
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.ids.len() / self.n_cols
    }

    /// Padded length.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Columns of prompt, left padding included, before the continuations start.
    pub fn n_prompt_cols(&self) -> usize {
        self.n_prompt_cols
    }

    /// Number of real tokens.
    pub fn n_real(&self) -> usize {
        self.attention_mask.iter().filter(|&&real| real).count()
    }

    /// The batch's own counts.
    pub fn counts(&self) -> Counts {
        Counts { targets: self.target_ids.len() as f64, tokens: self.n_real() as f64, texts: self.n_rows() as f64 }
    }
}

/// Appends rows of `own` columns as rows of `n_cols`, filled with the default value.
fn widened<T: Copy + Default>(all: &mut Vec<T>, rows: &[T], own: usize, n_cols: usize) {
    for row in rows.chunks(own) {
        all.extend_from_slice(row);
        all.extend(std::iter::repeat_n(T::default(), n_cols - own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_rows() -> PaddedTokens {
        PaddedTokens::prompted(&[vec![1], vec![2, 3]], &[vec![4, 5], vec![6]], 9).unwrap()
    }

    #[test]
    fn prompts_go_left_and_continuations_right() {
        let batch = two_rows();
        assert_eq!(batch.ids(), [9, 1, 4, 5, 2, 3, 6, 9]);
        assert_eq!(batch.attention_mask(), [false, true, true, true, true, true, true, false]);
        assert_eq!((batch.n_rows(), batch.n_cols(), batch.n_real(), batch.n_prompt_cols()), (2, 4, 6, 2));
        assert_eq!(batch.real_positions(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_target_is_a_real_token_after_a_real_token() {
        let batch = two_rows();
        assert_eq!(batch.loss_mask(), [false, false, true, true, false, true, true, false]);
        assert_eq!((batch.target_positions(), batch.target_ids()), (&[1, 2, 4, 5][..], &[4, 5, 3, 6][..]));
        assert_eq!(batch.counts(), Counts { targets: 4.0, tokens: 6.0, texts: 2.0 });
        let continuations = batch.without_prompt_targets();
        assert_eq!((continuations.target_positions(), continuations.target_ids()), (&[1, 2, 5][..], &[4, 5, 6][..]));
        assert_eq!(continuations.counts(), Counts { targets: 3.0, tokens: 6.0, texts: 2.0 });
    }

    #[test]
    fn a_row_and_a_stack_keep_their_targets() {
        let batch = two_rows();
        let row = batch.row(1);
        assert_eq!(
            (row.ids(), row.target_positions(), row.target_ids()),
            (&[2, 3, 6, 9][..], &[0, 1][..], &[3, 6][..])
        );
        let wide = PaddedTokens::right_padded(&[vec![7, 8, 7, 8, 7]], 9).unwrap();
        let stack = PaddedTokens::stacked(&[&wide, &batch]);
        assert_eq!(stack.ids(), [7, 8, 7, 8, 7, 9, 1, 4, 5, 0, 2, 3, 6, 9, 0]);
        assert_eq!(stack.target_positions(), [0, 1, 2, 3, 6, 7, 10, 11]);
        assert_eq!(stack.target_ids(), [8, 7, 8, 7, 4, 5, 3, 6]);
        assert_eq!(stack.real_positions(), [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12]);
        // The targets are those of the stack's own mask and ids.
        assert_eq!(stack.clone().with_targets_of_mask(), stack);
    }

    #[test]
    fn a_text_one_token_longer_than_the_context_has_its_last_target_too() {
        let batch = PaddedTokens::with_targets_from(&[(&[1, 2, 3, 4], 2), (&[5, 6], 1)], 3, 9).unwrap();
        assert_eq!(batch.ids(), [1, 2, 3, 5, 6, 9]);
        assert_eq!((batch.target_positions(), batch.target_ids()), (&[1, 2, 3][..], &[3, 4, 6][..]));
        assert_eq!(batch.loss_mask(), [false, false, true, false, true, false]);
    }

    #[test]
    fn nothing_to_lay_out_is_an_error() {
        assert!(PaddedTokens::right_padded(&[], 0).is_err());
        assert!(PaddedTokens::left_padded(&[vec![]], 0).is_err());
    }
}
