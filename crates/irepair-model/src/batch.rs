//! A batch of texts on a device: what every pass reads.

use irepair_core::{Counts, PaddedTokens};
use tch::{Device, Kind, Tensor};

/// Texts on a device: ids, masks and targets, laid out once on the host and copied together.
///
/// A *position* is an index into `[batch * seq]` laid flat.
#[derive(Debug)]
pub struct TextBatch {
    /// Token ids; `[batch, seq]` int64.
    pub ids: Tensor,
    /// True where the token is real, false where it pads; `[batch, seq]` bool.
    pub attention_mask: Tensor,
    /// True where the token's prediction counts; `[batch, seq]` bool.
    pub loss_mask: Tensor,
    /// Positions that predict a target; `[n_targets]` int64.
    pub target_positions: Tensor,
    /// The tokens predicted there; `[n_targets]` int64.
    pub target_ids: Tensor,
    /// Positions of the real tokens; `[n_real]` int64.
    pub real_positions: Tensor,
    /// What sums over these texts are divided by: the batch's own counts, or those of the step it is a part of.
    pub counts: Counts,
    host: PaddedTokens,
}

impl TextBatch {
    /// Copies a padded batch to `device`, in one piece and without waiting for the device.
    pub fn new(host: PaddedTokens, device: Device) -> Self {
        let real_positions = host.real_positions();
        let mut values = host.ids().to_vec();
        values.extend(host.attention_mask().iter().chain(host.loss_mask()).map(|&flag| i64::from(flag)));
        values.extend(host.target_positions().iter().chain(host.target_ids()).chain(&real_positions));
        // A GPU takes pageable memory through a buffer of its driver: nothing here has to outlive the call.
        let values = Tensor::from_slice(&values).to_device_(device, Kind::Int64, device.is_cuda(), false);
        let mut start = 0;
        let mut next = |n: usize| {
            start += n as i64;
            values.narrow(0, start - n as i64, n as i64)
        };
        let (n_cells, shape) = (host.ids().len(), [host.n_rows() as i64, host.n_cols() as i64]);
        Self {
            ids: next(n_cells).view(shape),
            attention_mask: next(n_cells).to_kind(Kind::Bool).view(shape),
            loss_mask: next(n_cells).to_kind(Kind::Bool).view(shape),
            target_positions: next(host.target_positions().len()),
            target_ids: next(host.target_ids().len()),
            real_positions: next(real_positions.len()),
            counts: host.counts(),
            host,
        }
    }

    /// One row as a batch of its own, padding included, with its own counts.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        Self::new(self.host.row(row), self.ids.device())
    }

    /// Batches below one another, the narrower ones padded on the right; their targets follow in the same order.
    pub fn stacked(batches: &[&Self]) -> Self {
        let hosts: Vec<&PaddedTokens> = batches.iter().map(|batch| &batch.host).collect();
        let device = batches.first().map_or(Device::Cpu, |batch| batch.ids.device());
        Self::new(PaddedTokens::stacked(&hosts), device)
    }

    /// `(batch, seq)`.
    pub fn dims(&self) -> (i64, i64) {
        (self.host.n_rows() as i64, self.host.n_cols() as i64)
    }

    /// Number of real tokens.
    pub fn n_real(&self) -> usize {
        self.host.n_real()
    }

    /// Columns of prompt, left padding included, before the continuations start.
    pub fn n_prompt_cols(&self) -> usize {
        self.host.n_prompt_cols()
    }

    /// True when nothing is padded.
    pub fn is_full(&self) -> bool {
        self.n_real() == self.host.ids().len()
    }

    /// Position ids, `[batch, seq]` int64: cumulative count of real tokens minus one, at least 0 (METHOD §2 [O]).
    pub fn positions(&self) -> Tensor {
        (self.attention_mask.cumsum(-1, Kind::Int64) - 1).clamp_min(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_holds_what_the_host_laid_out() {
        let host = PaddedTokens::prompted(&[vec![1], vec![2, 3]], &[vec![4, 5], vec![6]], 9).unwrap();
        let host = host.without_prompt_targets();
        let batch = TextBatch::new(host.clone(), Device::Cpu);
        let ints = |tensor: &Tensor| Vec::<i64>::try_from(tensor.view(-1)).unwrap();
        let flags = |tensor: &Tensor| Vec::<bool>::try_from(tensor.view(-1)).unwrap();
        assert_eq!((ints(&batch.ids), batch.ids.size()), (host.ids().to_vec(), vec![2, 4]));
        assert_eq!(flags(&batch.attention_mask), host.attention_mask());
        assert_eq!(flags(&batch.loss_mask), host.loss_mask());
        assert_eq!(ints(&batch.target_positions), host.target_positions());
        assert_eq!(ints(&batch.target_ids), host.target_ids());
        assert_eq!(ints(&batch.real_positions), host.real_positions());
        assert_eq!(ints(&batch.positions()), [0, 0, 1, 2, 0, 1, 2, 2]);
        assert_eq!((batch.dims(), batch.n_real(), batch.is_full(), batch.counts), ((2, 4), 6, false, host.counts()));
    }
}
