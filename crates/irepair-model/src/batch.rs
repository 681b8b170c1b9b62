//! A batch of token ids on a device.

use irepair_core::PaddedTokens;
use tch::{Device, Kind, Tensor};

/// Token ids and the mask of real tokens, as tensors.
///
/// # Shapes
/// `ids`: `[batch, seq]` int64; `real`: `[batch, seq]` bool, `true` = real token, `false` = padding.
#[derive(Debug)]
pub struct TokenBatch {
    /// Token ids.
    pub ids: Tensor,
    /// True where the token is real.
    pub real: Tensor,
    n_real: usize,
}

impl TokenBatch {
    /// Copies a padded batch to `device`.
    pub fn new(tokens: &PaddedTokens, device: Device) -> Self {
        let shape = [tokens.n_rows() as i64, tokens.n_cols() as i64];
        Self {
            ids: Tensor::from_slice(tokens.ids()).view(shape).to_device(device),
            real: Tensor::from_slice(tokens.real()).view(shape).to_device(device),
            n_real: tokens.n_real(),
        }
    }

    /// `(batch, seq)`.
    pub fn dims(&self) -> (i64, i64) {
        let size = self.ids.size();
        (size[0], size[1])
    }

    /// One row as a batch of its own, padding included.
    pub fn row(&self, row: i64) -> Self {
        let real = self.real.narrow(0, row, 1);
        let n_real = real.sum(Kind::Int64).int64_value(&[]) as usize;
        Self { ids: self.ids.narrow(0, row, 1), real, n_real }
    }

    /// Batches on top of each other, the narrower ones padded on the right.
    pub fn stacked(batches: &[&Self]) -> Self {
        let n_cols = batches.iter().map(|batch| batch.dims().1).max().unwrap_or(0);
        let rows = |of: fn(&Self) -> &Tensor| {
            let wide = |batch: &&Self| of(batch).constant_pad_nd([0, n_cols - batch.dims().1]);
            Tensor::cat(&batches.iter().map(wide).collect::<Vec<_>>(), 0)
        };
        let n_real = batches.iter().map(|batch| batch.n_real).sum();
        Self { ids: rows(|batch| &batch.ids), real: rows(|batch| &batch.real), n_real }
    }

    /// Number of real tokens.
    pub fn n_real(&self) -> usize {
        self.n_real
    }

    /// True when nothing is padded.
    pub fn is_full(&self) -> bool {
        self.n_real == self.ids.numel()
    }

    /// Positions, `[batch, seq]` int64: cumulative count of real tokens minus one, at least 0 (METHOD §2 [O]).
    pub(crate) fn positions(&self) -> Tensor {
        (self.real.cumsum(-1, Kind::Int64) - 1).clamp_min(0)
    }
}
